"""Cells as results, the documents that every probe leaves, and as a table for a terminal."""

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from probes.benchmarks.base import Data
from probes.checks import overlap
from probes.judging.earlier import refuse_other
from probes.location.encoders import Encoder
from probes.location.judge import Cell, as_data, benchmark, compare
from probes.location.points import Places
from probes.location.suite import Table
from probes.location.tasks import Task
from probes.protocols import Protocol, get_protocol
from probes.result import Result, environment, identify
from probes.statistics.bootstrap import LEVEL, RESAMPLES

_ABOUT = ("path", "weights_sha256", "parameters", "architecture", "adapted")


def result(
    cell: Cell,
    encoder: Encoder,
    places: Places,
    against: Sequence[tuple[str, str, Cell]],
    command: str | None,
) -> Result:
    """Make a result of a cell.

    Args:
        cell: what was found.
        encoder: of what.
        places: of the task.
        against: name, kind and cell of the floors on the same places, for paired differences.
        command: the command line, for the record.
    """
    about = benchmark(cell.task, cell.split)
    data = as_data(places, cell.task, cell.parts)
    versus = [
        {"name": name, "kind": kind, **found, "paired": "block bootstrap"}
        for name, kind, other in against
        if (found := compare(cell, other))
    ]
    return Result(
        model={
            **dict.fromkeys(_ABOUT),
            **encoder.about,
            "name": encoder.name,
            "kind": encoder.kind,
        },
        benchmark={
            "name": about.name,
            "version": about.version,
            "dataset": data.dataset,
            "manifest_hash": data.manifest_hash,
            "task": about.task,
            **{f"n_{name}": len(getattr(cell.parts, name)) for name in ("train", "val", "test")},
            "classes": list(data.classes),
            "verified": about.verified,
            "split": cell.parts.words,
            "unit": about.unit,
            "split_lists": data.split_lists(),
            "notes": [f"{cell.task.help}: {cell.task.source}", *cell.notes],
        },
        protocol=get_protocol(cell.protocol).model_dump(mode="json"),
        seed=cell.seed,
        metrics=cell.metrics,
        primary=cell.task.primary,
        overlap=_overlap(encoder, data),
        interval={
            "kind": "percentile bootstrap",
            "unit": about.unit,
            "units": cell.answers.units,
            "resamples": RESAMPLES,
            "level": LEVEL,
        },
        selection=cell.selection,
        versus=versus,
        environment=environment(),
        seconds=round(cell.seconds, 3),
        diagnostics={f"geo_bias_{name}": value for name, value in cell.bias.items()},
        command=command,
    )


def results(
    table: Table, encoders: dict[str, Encoder], places: dict[str, Places], command: str | None
) -> list[Result]:
    """All results of a table; rows that are no floor are compared with those that are.

    A retrieval head is compared with its encoder too.
    """
    floors = [name for name in table.cells if encoders[name].kind != "pretrained"]
    found = []
    for name, cells in table.cells.items():
        beside = [other for other in floors if other != name]
        under = encoders[name].about.get("head_on")
        beside += [under] if under in table.cells and under not in beside else []
        for place, cell in enumerate(cells):
            against = [
                (other, encoders[other].kind, table.cells[other][place])
                for other in (beside if encoders[name].kind != "floor" else ())
            ]
            found.append(result(cell, encoders[name], places[cell.task.places], against, command))
    return found


def refuse_others(
    out: str | os.PathLike[str],
    encoder: Encoder,
    recipes: Sequence[Protocol],
    places: dict[str, Places],
    tasks: Sequence[Task],
    splits: Sequence[str],
    seeds: Sequence[int],
) -> None:
    """Look for results of another model of that name, before hours of work would replace them.

    Raises:
        UsageError: see `probes.judging.earlier.refuse_other`.
    """
    about = {**dict.fromkeys(_ABOUT), **encoder.about}
    for recipe, task, split, seed in product(recipes, tasks, splits, seeds):
        about_it = benchmark(task, split)
        name = identify(
            (about_it.name, about_it.version),
            (recipe.name, recipe.version),
            encoder.name,
            {},
            seed,
        )
        refuse_other(Path(out) / f"{name}.json", about, places[task.places].sha256)


def save(found: Sequence[Result], out: str | os.PathLike[str]) -> None:
    """Write every result."""
    for one in found:
        one.save(Path(out))


def lines(table: Table) -> str:
    """Lay out one table a split: a row an encoder, the mean over the seeds, mean ranks last."""
    parts = []
    cells = next(iter(table.cells.values()))
    for split in dict.fromkeys(cell.split for cell in cells):
        tasks = list(dict.fromkeys(c.task for c in cells if c.split == split))
        asked = table.answerable(split)
        placed, left = table.mean_ranks(split)
        seeds = sorted({c.seed for c in cells})
        parts.append(f"{split}, seeds {', '.join(map(str, seeds))}")
        wide = {t.name: max(8, len(t.name) + 2) for t in tasks}
        heads = "".join(f"{t.name:>{wide[t.name]}}" for t in tasks)
        parts.append(f"  {'':<18}{heads}{'rank':>8}")
        for name, own in table.cells.items():
            text = ""
            for task in tasks:
                values = [c.value for c in own if (c.task, c.split) == (task, split)]
                shown = f"{np.mean(values):.3f}" if task.name in asked else "-"
                text += f"{shown:>{wide[task.name]}}"
            rank = f"{placed[name]:.2f}" if name in placed else "-"
            parts.append(f"  {name:<18}{text}{rank:>8}")
        parts += [f"  {name} has no rank: {why}" for name, why in left.items()]
    if any(cell.ceiling is not None and cell.ceiling < 1 for cell in cells):
        parts.append("-: train has the class of less than half of the test places")
    parts.append("R^2 of numbers, overall accuracy of classes")
    return "\n".join(parts)


def _overlap(encoder: Encoder, data: Data) -> dict[str, Any]:
    if encoder.kind != "pretrained":
        return overlap.none(encoder.name)
    if encoder.seen:
        card = SimpleNamespace(data=encoder.seen)
        return overlap.describe(SimpleNamespace(card=card), data)
    return {
        "statement": "unknown: the released file does not say which places it was trained on",
        "shared_samples": None,
        "transductive": False,
    }
