"""The index of a dataset: the parquet, and the mapped columns made from it."""
