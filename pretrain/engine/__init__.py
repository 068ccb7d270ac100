"""One optimiser step under DeepSpeed, whatever the objective, the ranks and the micro-batches."""
