"""Splits of a dataset into parts, and the files that keep them."""

from shards.splits.methods import (
    SPLITS,
    block_split,
    by_block,
    by_continent,
    by_time,
    random,
    read_part,
)
from shards.splits.splitfile import Split

__all__ = [
    "SPLITS",
    "Split",
    "block_split",
    "by_block",
    "by_continent",
    "by_time",
    "random",
    "read_part",
]
