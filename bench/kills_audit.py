"""What the diaries of a run's lives say: which samples count, and whether any step was another."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.kills_life import STARTED


@dataclass(frozen=True)
class Audit:
    """A run of many lives beside the run that was never killed.

    Attributes:
        skipped: samples of the stream that no step which counts has seen.
        repeated: samples that such steps saw more than once.
        foreign: positions at which another sample was seen than in the run never killed.
        differing: steps, those that were lost included, whose loss is not that of the run never
            killed, bit for bit.
        lost: steps that were taken, lost with their life, and taken again.
        lives: that got as far as their first step.
    """

    skipped: int
    repeated: int
    foreign: int
    differing: int
    lost: int
    lives: int


def read(folder: Path) -> list[dict]:
    """Read the diaries of all ranks; a line is whole or absent, as it is one write."""
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        rank = int(path.stem)
        rows += [{**json.loads(line), "rank": rank} for line in path.read_text().splitlines()]
    return rows


def counting(rows: Iterable[Mapping]) -> dict[int, dict[int, Mapping]]:
    """Return the steps that count, by number and rank: what a life begins behind is lost."""
    lives: dict[int, list[Mapping]] = {}
    for row in rows:
        lives.setdefault(row["life"], []).append(row)
    kept: dict[int, dict[int, Mapping]] = {}
    for number in sorted(lives):
        starts = [row[STARTED] for row in lives[number] if STARTED in row]
        kept = {step: found for step, found in kept.items() if step <= min(starts)}
        for row in lives[number]:
            if "step" in row:
                kept.setdefault(row["step"], {})[row["rank"]] = row
    return kept


def audit(killed: list[dict], whole: list[dict], *, steps: int, batch: int) -> Audit:
    """Hold a run of many lives against the run that was never killed.

    Args:
        killed: its diaries.
        whole: those of the other.
        steps: of both.
        batch: samples in a step.
    """
    key: dict[int, str] = {}
    loss: dict[int, float] = {}
    for row in whole:
        if "step" in row:
            key |= dict(zip(row["positions"], row["keys"], strict=True))
            loss[row["step"]] = row["loss"]
    kept = counting(killed)
    seen = [
        pair
        for found in kept.values()
        for row in found.values()
        for pair in zip(row["positions"], row["keys"], strict=True)
    ]
    counts = np.bincount([position for position, _ in seen], minlength=steps * batch)
    taken = {(row["life"], row["step"]) for row in killed if "step" in row}
    return Audit(
        skipped=int((counts[: steps * batch] == 0).sum()),
        repeated=int((counts > 1).sum() + (counts[steps * batch :] > 0).sum()),
        foreign=sum(key.get(position) != name for position, name in seen),
        differing=sum(row["loss"] != loss.get(row["step"]) for row in killed if "step" in row),
        lost=len(taken) - len(kept),
        lives=len({row["life"] for row in killed if STARTED in row}),
    )
