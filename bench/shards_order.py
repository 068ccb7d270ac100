"""Ordering quality: how well are batches mixed, and how far apart do their samples lie?

A synthetic index of 1000 shards of 1000 samples, laid end to end; batches of 64. Compared are our
order (with its defaults, and with a wider window), a full shuffle, and WebDataset's own: shards in
random order, read one after another through a buffer of 1000 samples. Nothing is timed: these are
counts over one epoch, the same on every machine.

- Shards per batch: distinct ones; 64 samples drawn from anywhere come from 62.
- Distance: mean way in samples from one read to the next. Our reader reads the samples of a batch
  in the order in which they lie; the full shuffle is shown as it comes and sorted so as well.
- Runs: contiguous stretches of up to 64 samples that 4096 samples one after another lie in: what a
  read-ahead fetches from an object store or a spinning disk.
"""

import random

import numpy as np
from webdataset import filters

from bench.runner import Bench, Fact
from shards.ordering.order import Order, permutation

SHARDS, QUICK_SHARDS, IN_SHARD = 1000, 100, 1000
BATCH = 64
BUFFER = 1000
RUN, AHEAD = 64, 4096
WIDE = 32_768
"""A window of eight times the default: 512 chunks."""


def _sequential(count: int) -> np.ndarray:
    """Samples as WebDataset reads them: shards in random order, each from its first sample."""
    shards = permutation(count // IN_SHARD, 0, 1)
    return (shards[:, None] * IN_SHARD + np.arange(IN_SHARD)).ravel()


def _buffered(reads: np.ndarray) -> np.ndarray:
    """Samples in the order that WebDataset's own shuffle gives them."""
    shuffled = filters._shuffle(iter(reads.tolist()), bufsize=BUFFER, rng=random.Random(0))
    return np.fromiter(shuffled, np.int64, len(reads))


def shards_per_batch(order: np.ndarray) -> float:
    """Mean number of distinct shards in a batch."""
    shards = np.sort(_batches(order) // IN_SHARD, axis=1)
    return float(1 + (np.diff(shards, axis=1) != 0).sum(axis=1).mean())


def distance(order: np.ndarray, *, within_batches: bool) -> float:
    """Mean way from one read to the next, in samples; batches read in the order on disk or not."""
    reads = np.sort(_batches(order), axis=1).ravel() if within_batches else order
    return float(np.abs(np.diff(reads)).mean())


def runs(order: np.ndarray) -> float:
    """Mean number of aligned runs of `RUN` samples that `AHEAD` samples lie in."""
    ahead = order[: len(order) // AHEAD * AHEAD].reshape(-1, AHEAD) // RUN
    return float(1 + (np.diff(np.sort(ahead, axis=1), axis=1) != 0).sum(axis=1).mean())


def _batches(order: np.ndarray) -> np.ndarray:
    return order[: len(order) // BATCH * BATCH].reshape(-1, BATCH)


def _facts(quick: bool) -> list[Fact]:
    count = (QUICK_SHARDS if quick else SHARDS) * IN_SHARD
    ours, wide = Order(count), Order(count, window=WIDE)
    reads, named = _sequential(count), f"ours, window {WIDE}"
    orders = {
        "ours": ours.indices(0, count),
        named: wide.indices(0, count),
        "full shuffle": permutation(count, 0),
        "webdataset": _buffered(reads),
    }
    mixed = {name: shards_per_batch(order) for name, order in orders.items()}
    way = {name: distance(orders[name], within_batches=True) for name in ("ours", named)}
    way["full shuffle, batches sorted"] = distance(orders["full shuffle"], within_batches=True)
    way["full shuffle"] = distance(orders["full shuffle"], within_batches=False)
    way["webdataset"] = distance(reads, within_batches=False)
    fetched = {name: runs(order) for name, order in orders.items()}
    result = [Fact(f"shards per batch, {name}", value, "shards") for name, value in mixed.items()]
    result += [Fact(f"distance, {name}", value, "samples") for name, value in way.items()]
    result += [Fact(f"runs, {name}", value, "runs") for name, value in fetched.items()]
    for name in ("ours", named):
        share = mixed[name] / mixed["full shuffle"]
        result.append(Fact(f"shards per batch, {name} / full shuffle", share, "ratio", None, 0.9))
        share = way[name] / way["full shuffle"]
        result.append(Fact(f"distance, {name} / full shuffle", share, "ratio", at_most=0.1))
        result.append(
            Fact(f"runs, {name} / full shuffle", fetched[name] / fetched["full shuffle"], "ratio")
        )
    return result


BENCH = Bench(
    name="shards_order",
    question="How well are batches mixed, and how far apart on disk do their samples lie?",
    competitors={},
    facts=_facts,
    versions=("numpy", "webdataset"),
)
