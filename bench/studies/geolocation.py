"""Where on the Earth is this picture: two networks and their floors on the Blue Marble.

`python -m bench.studies geolocation`. Pictures of land of 119 km, 7.4 km a pixel, enlarged to 64
pixels for networks of others. Two splits, four ways to answer; the first also with random weights.
What a cell's middle and the nearest training picture could give stands beside them.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.studies.scoring import dataset
from probes import backbones
from probes.benchmarks.base import Data
from probes.geolocation.ceiling import nearest_km
from probes.judging.evaluation import evaluate_many, opened
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
    begun, used = time.perf_counter(), time.process_time()
    folder = dataset("blue-marble", work / "blue-marble", cache)
    rows, about = [], {}
    for benchmark in BENCHMARKS:
        session = opened(benchmark, folder, seed=seeds[0], cache=work / "features")
        about[benchmark] = {
            "split": session.benchmark.split,
            "counts": [len(session.data.of(part)) for part in ("train", "val", "test")],
            "cells": len(session.data.classes),
            "notes": list(session.data.notes),
            "ceilings": _ceilings(session.data),
        }
        for method in methods:
            results = evaluate_many(
                backbones.load(f"package:{method}", packages=cache),
                benchmark,
                [p for p in PROTOCOLS if p != "linear" or method in LINEAR],
                data=folder,
                out=work / "results",
                cells=[AXES],
                session=session,
                maps=work / "maps",
            )
            rows += [_row(benchmark, result) for result in results]
    unique = {(row["benchmark"], row["protocol"], row["model"]): row for row in rows}
    return {
        "axes": AXES,
        "seed": seeds[0],
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu": round(time.process_time() - used, 1),
        "benchmarks": about,
        "rows": list(unique.values()),
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
    train, test = (data.lonlat(data.of(part)) for part in ("train", "test"))
    found = {}
    for name, km in nearest_km(data.cells, train, test).items():
        answers = PlaceAnswers(km[:, None], np.zeros(len(km), np.int64))
        found[name] = {k: float(value) for k, value in answers.metrics(np.ones(1)).items()}
    return found
