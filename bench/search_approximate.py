"""`fm search --approximate` beside the exact search, over real embeddings.

Rows are GeoCLIP's embeddings (its released weights, 512 a row) of places drawn evenly over the
land; queries are those of a thousand other places. Both searches have the rows in memory; what the
command takes to read its file is a fact beside.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.machine import ROOT
from bench.runner import Bench, Fact, Ready, Target
from probes.embed import approximate, parquet
from probes.embed.search import Query, nearest
from probes.location.encoders import get_encoder
from shards.seeing.land import coarse_land

HITS, QUERIES = 10, 1000


class Made(NamedTuple):
    """A table with its index.

    Attributes:
        folder: of both; gone when it is closed.
        found: the rows, in memory.
        index: of them.
        queries: `[Q, D]` of other places.
        seconds: that the index took.
    """

    folder: tempfile.TemporaryDirectory
    found: parquet.Embeddings
    index: approximate.Index
    queries: NDArray[np.float32]
    seconds: float


@cache
def _made(quick: bool) -> Made | None:
    try:
        approximate.faiss()
    except Exception:
        return None
    count = 5000 if quick else 200_000
    packages = Path(os.environ.get("EOFM_CACHE") or ROOT / ".cache" / "packages")
    places = _land(count + QUERIES)
    rows = get_encoder("geoclip", packages)(places)
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "places.parquet"
    lon, lat = places[:count].T
    table = pa.table({"key": [str(i) for i in range(count)], "lon": lon, "lat": lat})
    about = {"model": "geoclip", "dataset": "places on land"}
    parquet.write(path, table, rows.shape[1], lambda a, b: rows[a:b], about)
    begun = time.perf_counter()
    approximate.build(path, lambda: rows[:count])
    spent = time.perf_counter() - begun
    return Made(folder, parquet.read(path), approximate.Index(path), rows[count:], spent)


def _land(count: int) -> NDArray[np.float64]:
    """Places evenly over the land, from GlobalLandMask's cells of 6 arc minutes."""
    mask, rng = coarse_land(), np.random.default_rng(0)
    assert mask is not None, "the extra geo"
    height, width = mask.shape
    drawn = np.empty((0, 2))
    while len(drawn) < count:
        lon = rng.uniform(-180, 180, count)
        lat = np.rad2deg(np.arcsin(rng.uniform(-1, 1, count)))
        row = ((90 - lat) / 180 * height).astype(int).clip(0, height - 1)
        column = ((lon + 180) / 360 * width).astype(int) % width
        drawn = np.concatenate([drawn, np.stack([lon, lat], axis=1)[mask[row, column]]])
    return drawn[:count]


def _search(quick: bool, by_index: bool) -> Ready | None:
    made = _made(quick)
    if made is None:
        return None
    turn = iter(np.resize(np.arange(QUERIES), 10**6).tolist())
    index = made.index if by_index else None

    def step() -> None:
        _nearest(made, next(turn), index)

    settings = {"rows": len(made.found.keys), "features": made.queries.shape[1], "hits": HITS}
    if by_index:
        about = made.index.about
        settings |= {"cells": about.cells, "looked into": about.looked_into}
    return Ready(step, settings)


def _nearest(made: Made, number: int, index: approximate.Index | None) -> list[str]:
    query = Query(str(number), made.queries[number], None, (np.nan, np.nan), "a place")
    return [hit.key for hit in nearest(made.found, query, HITS, index)]


def _facts(quick: bool) -> Sequence[Fact]:
    made = _made(quick)
    if made is None:
        return [Fact("recall of the ten nearest", None, "share", at_least=0.95)]
    asked = range(100 if quick else QUERIES)
    hits = [len(set(_nearest(made, n, None)) & set(_nearest(made, n, made.index))) for n in asked]
    cells = approximate.place(Path(made.folder.name) / "places.parquet") / "cells.faiss"
    return [
        Fact("recall of the ten nearest", float(np.mean(hits)) / HITS, "share", at_least=0.95),
        Fact("queries whose ten are all found", float(np.mean(np.equal(hits, HITS))), "share"),
        Fact("making the index", made.seconds, "s"),
        Fact("the index on the disk", cells.stat().st_size / 1e6, "MB"),
    ]


BENCH = Bench(
    name="search_approximate",
    question="How much of an exact search does an approximate index find, and how fast?",
    competitors={
        "exact": lambda quick: _search(quick, by_index=False),
        "approximate": lambda quick: _search(quick, by_index=True),
    },
    targets=(Target("exact over approximate", "exact", "approximate"),),
    unit="ms",
    rounds=200,
    quick_rounds=5,
    warmup=5,
    versions=("numpy", "faiss-cpu"),
    facts=_facts,
)
