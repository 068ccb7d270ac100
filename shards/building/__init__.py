"""From a source's samples to a dataset: shards made alone, then assembled."""
