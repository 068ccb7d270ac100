"""Where on the Earth is this picture: two networks and their floors on the Blue Marble.

`python -m bench.studies geolocation`. Pictures of land of 119 km, 7.4 km a pixel, enlarged to 64
pixels for networks of others. Two splits, four ways to answer; the first also with random weights.
What a cell's middle and the nearest training picture could give stands beside them.

Each split is a process of one thread, `--threads` of them at a time; floors on pixels are judged
once for both networks. Every way to answer is kept in the work folder as it is done: a call that
was ended goes on from there.
"""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.studies.kept import Part, part
from bench.studies.scoring import dataset
from fm.files import sha256_file
from probes import backbones
from probes.benchmarks import get_benchmark
from probes.benchmarks.base import Data
from probes.geolocation.ceiling import nearest_km
from probes.judging.evaluation import evaluate_many, opened
from probes.judging.session import Session
from probes.result import Result
from probes.statistics.places import PlaceAnswers

SPLIT = "test"
SEEDS = (0,)
METHODS = ("efficientnet-lite0", "augnet-resnet50")
BENCHMARKS = ("geolocation-random", "geolocation-blocks")
PROTOCOLS = ("linear", "knn", "ridge", "gallery")
AXES = {"resize": 64}
LINEAR = ("efficientnet-lite0",)
"""Networks whose features logistic regression is fitted on; the others would take an hour."""


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> dict[str, Any]:
    """Judge all rows; see `bench.studies`."""
    del split
    begun = time.perf_counter()
    folder = dataset("blue-marble", work / "blue-marble", cache)
    opening = time.perf_counter()
    # for the libraries that the new processes load
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    threads, context = torch.get_num_threads(), get_context("spawn")
    with ProcessPoolExecutor(threads, context, torch.set_num_threads, (1,)) as pool:
        asked = (folder, tuple(methods), seeds[0])
        tasks = [pool.submit(judged, work, cache, name, *asked) for name in BENCHMARKS]
        every = [one for task in tasks for one in task.result()]
    rows = [row for one in every for row in one.value]
    unique = {(row["benchmark"], row["protocol"], row["model"]): row for row in rows}
    fresh = not any(one.again for one in every)
    return {
        "axes": AXES,
        "seed": seeds[0],
        "threads": threads,
        "seconds": {
            "dataset": round(opening - begun, 1),
            "probing": round(time.perf_counter() - opening, 1) if fresh else None,
            "probing_alone": round(sum(one.seconds for one in every), 1),
            "probing_cpu": round(sum(one.cpu for one in every), 1),
        },
        "benchmarks": {name: _about(name, folder, seeds[0]) for name in BENCHMARKS},
        "rows": list(unique.values()),
    }


def summary(found: dict[str, Any], work: Path) -> str:
    """Return what is printed at the end."""
    return f"{len(found['rows'])} rows in {found['seconds']}\nmaps in {work / 'maps'}"


def judged(
    work: Path, cache: Path, benchmark: str, folder: Path, methods: Sequence[str], seed: int
) -> list[Part]:
    """Judge networks and their floors on a benchmark, a part for each way to answer."""
    session: Session | None = None

    def rows(method: str, protocol: str) -> list[dict[str, Any]]:
        nonlocal session
        session = session or opened(benchmark, folder, seed=seed, cache=work / "features")
        results = evaluate_many(
            backbones.load(f"package:{method}", packages=cache),
            benchmark,
            [protocol],
            data=folder,
            out=work / "results",
            cells=[AXES],
            session=session,
            maps=work / "maps",
        )
        return [_row(benchmark, result) for result in results]

    found = []
    for method, protocol in product(methods, PROTOCOLS):
        if protocol == "linear" and method not in LINEAR:
            continue
        about = {
            **{"benchmark": get_benchmark(benchmark).full_name, "method": method, "seed": seed},
            **{"protocol": protocol, "axes": AXES},
            "data": sha256_file(folder / "dataset.json"),
        }
        made = part(work / "judged", about, partial(rows, method, protocol))
        how = "as before" if made.again else f"{made.seconds:.0f} s ({made.cpu:.0f} cpu)"
        print(f"{benchmark}, {method}, {protocol}: {how}", flush=True)
        found.append(made)
    return found


def _about(benchmark: str, folder: Path, seed: int) -> dict[str, Any]:
    session = opened(benchmark, folder, seed=seed)
    return {
        "split": session.benchmark.split,
        "counts": [len(session.data.of(name)) for name in ("train", "val", "test")],
        "cells": len(session.data.classes),
        "notes": list(session.data.notes),
        "ceilings": _ceilings(session.data),
    }


def _row(benchmark: str, result: Result) -> dict[str, Any]:
    return {
        "benchmark": benchmark,
        "protocol": result.protocol["name"],
        "model": result.model["name"],
        "kind": result.model["kind"],
        "metrics": result.metrics,
        "chosen": (result.selection or {}).get("chosen"),
    }


def _ceilings(data: Data) -> dict[str, dict[str, float]]:
    """What the best cell and the nearest training picture would score."""
    assert data.lonlat is not None
    assert data.cells is not None
    train, test = (data.lonlat(data.of(name)) for name in ("train", "test"))
    found = {}
    for name, km in nearest_km(data.cells, train, test).items():
        answers = PlaceAnswers(km[:, None], np.zeros(len(km), np.int64))
        found[name] = {k: float(value) for k, value in answers.metrics(np.ones(1)).items()}
    return found
