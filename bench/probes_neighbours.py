"""Nearest neighbours of frozen features, beside the matrix product that they take at least.

Features: `bench.probes_data`, centred and of length 1. 4,096 queries in 50,000 samples of 768
features, cosine, the product in float32. The limit is that product alone, in the same pieces, into
memory that is there. Many of the pictures are nothing but cloud, and so copies of each other.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch

from bench import peers
from bench.machine import ROOT
from bench.mae_steps import threads
from bench.probes_data import patches
from bench.runner import Bench, Ready, Target
from probes.solvers import knn

QUERIES = 4_096
NEIGHBOURS = 20


@cache
def _rows(quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Training and test rows of length 1."""
    x = patches(quick).x
    x = x - x.mean(0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    tests = 100 if quick else QUERIES
    return x[:-tests], x[-tests:]


def _product(quick: bool) -> Ready:
    threads(quick)
    train, test = (torch.from_numpy(rows) for rows in _rows(quick))
    rows = max(16, knn.CELLS // len(train))
    out = torch.empty(rows, len(train))

    def step() -> None:
        for start in range(0, len(test), rows):
            part = test[start : start + rows]
            torch.mm(part, train.T, out=out[: len(part)])

    return Ready(step, {"rows at once": rows, "dtype": "float32"})


def _neighbours(k: int) -> Callable[[bool], Ready]:
    def prepare(quick: bool) -> Ready:
        threads(quick)
        train, test = _rows(quick)

        def step() -> None:
            knn.neighbours(train, test, k, center=False, dtype=torch.float32)

        return Ready(step, {"k": k, "dtype": "float32", "neighbours": "exact"})

    return prepare


def _sklearn_neighbours(quick: bool) -> Ready:
    from sklearn.neighbors import NearestNeighbors

    train, test = _rows(quick)
    # rows of length 1: the same neighbours as by cosine, and its faster path
    search = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(train)

    def step() -> None:
        search.kneighbors(test, return_distance=False)

    return Ready(step, {"k": NEIGHBOURS})


def _faiss(quick: bool) -> Ready | None:
    if not peers.python("faiss").exists():
        return None
    path = ROOT / ".cache" / "bench-data" / f"probes-knn-{'quick' if quick else 'full'}.npz"
    train, test = _rows(quick)
    np.savez(path, train=train, test=test)
    return peers.start("faiss", str(path), str(NEIGHBOURS), counted=1, warm=1)


BENCH = Bench(
    name="probes_neighbours",
    question="How close are exact neighbours to the product alone?",
    competitors={
        "product alone": _product,
        "neighbours": _neighbours(NEIGHBOURS),
        "200 neighbours": _neighbours(200),
        "neighbours, scikit-learn": _sklearn_neighbours,
        "neighbours, FAISS": _faiss,
    },
    targets=(
        Target("share of the product's speed", "product alone", "neighbours", at_least=0.7),
        Target("FAISS over ours", "neighbours, FAISS", "neighbours", at_least=1.0),
    ),
    unit="ms",
    rounds=10,
    quick_rounds=1,
    warmup=1,
    versions=("torch", "scikit-learn", "numpy", "faiss-cpu"),
)
