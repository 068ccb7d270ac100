"""From a model, a benchmark and a protocol to results with floors and intervals."""
