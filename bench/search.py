"""`fm search` over a million rows, in memory, beside the product that it takes at least.

Rows are random normal numbers, 384 a row. Above a second an approximate index would be worth its
dependency; below it exact search needs none.
"""

from functools import cache

import numpy as np

from bench.runner import Bench, Ready, Target
from probes.embed.parquet import Embeddings
from probes.embed.search import Query, nearest

DIM, HITS = 384, 10


@cache
def _file(quick: bool) -> Embeddings:
    rows = 20_000 if quick else 1_000_000
    rng = np.random.default_rng(0)
    places = np.stack([rng.uniform(-180, 180, rows), rng.uniform(-90, 90, rows)], axis=1)
    made = rng.standard_normal((rows, DIM), dtype=np.float32)
    keys = [str(i) for i in range(rows)]
    return Embeddings(keys, places, [None] * rows, {}, made)


def _product(quick: bool) -> Ready:
    found = _file(quick)

    def step() -> None:
        np.dot(found.embedding, found.embedding[7])

    return Ready(step, {"rows": len(found.keys), "features": DIM})


def _search(quick: bool) -> Ready:
    found = _file(quick)
    lon, lat = found.lonlat[7].tolist()
    query = Query("7", found.embedding[7], 7, (lon, lat), "the row 7")

    def step() -> None:
        nearest(found, query, HITS)

    return Ready(step, {"rows": len(found.keys), "features": DIM, "hits": HITS})


BENCH = Bench(
    name="search",
    question="How long does an exact search of a million embeddings take?",
    competitors={"product alone": _product, "search": _search},
    targets=(
        Target("search of a million rows, ms", "search", at_most=1000.0),
        Target("search over the product alone", "search", "product alone"),
    ),
    unit="ms",
    rounds=20,
    quick_rounds=2,
    warmup=1,
    versions=("numpy",),
)
