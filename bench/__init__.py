"""Comparisons: one runner, one file a comparison. See `docs/bench.md`."""
