"""Location encoders on the offline suite: ten tasks, ten encoders, three splits, three seeds.

`OMP_NUM_THREADS=1 python -m bench.studies location` uses two workers of one thread each. Its parts
(ridge, TorchSpatial's scores, logistic regression) are kept in the work folder as they are done.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.studies.kept import part
from probes.location import surprise
from probes.location.encoders import get_encoder
from probes.location.judge import Cell
from probes.location.names import TEN
from probes.location.points import Places, open_places
from probes.location.splits import NAMES
from probes.location.suite import Table
from probes.location.suite import run as judged
from probes.location.tasks import BY_NAME, TASKS
from probes.protocols import get_protocol

SPLIT = "test"
SEEDS = (0, 1, 2)
METHODS = TEN
WORKERS = 2
LOGISTIC = (("wrap", "sh10", "geoclip"), ("koppen", "land-ocean"), NAMES)
"""Encoders, tasks and splits on which logistic regression stands beside ridge, seed 0."""
SURPRISE = (
    ("sh40", "geoclip"),
    tuple(task.name for task in TASKS if task.kind == "class"),
    ("random", "blocks"),
)
"""Encoders, tasks and splits whose answers TorchSpatial's scores are made of."""
RADIUS_KM = 1000.0
"""Of their neighbourhoods: 100 km around a test place on land hold 0.5 others, 1000 km about 50."""


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> dict[str, Any]:
    """Judge all cells by ridge, and a subset by logistic regression; see `bench.studies`."""
    del split
    begun = time.perf_counter()
    places = open_places(cache)
    opened = time.perf_counter()
    encoders = {name: get_encoder(name, cache) for name in methods}
    hashes = {name: own.sha256 for name, own in places.items()}
    about = {"seeds": list(seeds), "methods": list(methods), "places": hashes, "workers": WORKERS}

    def by_ridge() -> dict[str, Any]:
        table = judged(list(encoders.values()), places, splits=NAMES, seeds=seeds, workers=WORKERS)
        return {
            "cells": sum(map(len, table.cells.values())),
            "answerable": {name: table.answerable(name) for name in NAMES},
            "mean_ranks": {name: table.mean_ranks(name)[0] for name in NAMES},
            "rows": rows(table),
        }

    def of_some(
        asked: tuple[Sequence[str], Sequence[str], Sequence[str]], seeds: Sequence[int], by: str
    ) -> Table:
        return judged(
            [encoders[name] for name in asked[0] if name in methods],
            places,
            tasks=[BY_NAME[name] for name in asked[1]],
            splits=asked[2],
            seeds=seeds,
            protocol=get_protocol(by),
            workers=WORKERS,
        )

    parts = {
        name: part(work / "parts", {**about, "part": name}, make)
        for name, make in {
            "ridge": by_ridge,
            "surprise": lambda: surprises(of_some(SURPRISE, seeds, "ridge"), places),
            "logistic": lambda: rows(of_some(LOGISTIC, seeds[:1], "linear")),
        }.items()
    }
    ridge = parts["ridge"].value
    return {
        "seeds": list(seeds),
        "workers": WORKERS,
        "seconds": {
            "open": round(opened - begun, 2),
            **{name: one.seconds for name, one in parts.items()},
            "ridge_cpu": parts["ridge"].cpu,
        },
        "places": {
            name: {"count": len(p.lonlat), "sha256": p.sha256} for name, p in places.items()
        },
        **{name: ridge[name] for name in ("cells", "answerable", "mean_ranks")},
        "ridge": ridge["rows"],
        "surprise": parts["surprise"].value,
        "logistic": parts["logistic"].value,
    }


def surprises(table: Table, places: dict[str, Places]) -> list[dict[str, Any]]:
    """Score how the wrong answers of cells of classes lie, by seed; see `surprise.scores`."""
    found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for encoder, cells in table.cells.items():
        for cell in cells:
            own = places[cell.task.places]
            test = cell.parts.test
            right = cell.predicted == own.values[cell.task.name][test]
            made = surprise.scores(right, own.lonlat[test], radius_km=RADIUS_KM)
            found.setdefault((encoder, cell.task.name, cell.split), []).append(made)
    return [
        {
            **dict(zip(("encoder", "task", "split"), key, strict=True)),
            "radius_km": RADIUS_KM,
            **{name: [_round(one[name]) for one in several] for name in ("unmarked", "marked")},
        }
        for key, several in sorted(found.items())
    ]


def rows(table: Table) -> list[dict[str, Any]]:
    """One row an encoder, task and split: means over the seeds and what they are the means of."""
    found = []
    for encoder, cells in table.cells.items():
        for task, split in dict.fromkeys((c.task.name, c.split) for c in cells):
            own = [c for c in cells if (c.task.name, c.split) == (task, split)]
            found.append({"encoder": encoder, "task": task, "split": split, **_row(own)})
    return found


def _row(cells: list[Cell]) -> dict[str, Any]:
    names = cells[0].metrics
    bias = {key for cell in cells for key in cell.bias if not key.startswith("loss_")}
    return {
        "metrics": {n: [_round(c.metrics[n]["value"]) for c in cells] for n in names},
        "intervals": [
            [_round(c.metrics[c.task.primary][end]) for end in ("low", "high")] for c in cells
        ],
        "chosen": [c.selection["chosen"] if c.selection else None for c in cells],
        "ceiling": None if cells[0].ceiling is None else [_round(c.ceiling) for c in cells],
        "bias": {
            key: _round(float(np.mean([c.bias[key] for c in cells if key in c.bias])))
            for key in sorted(bias)
        },
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)


def summary(found: dict[str, Any], work: Path) -> str:
    """Return what is printed at the end."""
    del work
    return f"{found['cells']} cells by ridge in {found['seconds']}"
