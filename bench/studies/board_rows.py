"""A board's results as tables: the best floor, and each checkpoint beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.studies.board_judged import Judged, pixel_floors
from bench.studies.board_plan import Task
from probes.judging.kept import Kept, beside
from probes.result import Result
from probes.statistics.bootstrap import paired


def tables(
    results: Path, benchmark: str, task: Task, several: Sequence[Judged], models: Sequence[str]
) -> list[dict[str, Any]]:
    """One table a protocol that models were judged by, or one of floors alone where none was.

    Args:
        results: their folder.
        benchmark: name.
        task: of the plan.
        several: what was judged on it.
        models: names of the checkpoints, in order.

    Returns:
        for each `benchmark`, `verified`, `protocol` (None of floors alone), `metric`, `unit`,
        `units`, `floor` (the best of this protocol's floors on pixels, of the random-initialised
        backbones under it, and of what was trained from scratch), `floors` (their scores), and
        `checkpoints`: name to its score, `against_floor` and `against_random`.
    """
    rows = [Result.load(results / f"{name}.json") for one in several for name in one.ids]
    trained = [row for row in rows if row.model["kind"] == "pretrained"]
    protocols = list(dict.fromkeys(row.protocol["name"] for row in trained))
    found = []
    for protocol in protocols or [None]:
        pixels = pixel_floors(task, benchmark, protocol)
        bases = [
            row
            for row in rows
            if row.model["kind"] == "supervised"
            or (row.model["kind"] == "floor" and row.protocol["name"] in pixels)
            or (row.model["kind"] == "random-init" and row.protocol["name"] == protocol)
        ]
        best = max(bases, key=_value)
        own = [row for row in trained if row.protocol["name"] == protocol]
        own.sort(key=lambda row: models.index(row.model["name"]))
        found.append(
            {
                "benchmark": benchmark,
                "verified": best.benchmark["verified"],
                "protocol": protocol,
                "metric": best.primary,
                "unit": (best.interval or {}).get("unit"),
                "units": (best.interval or {}).get("units"),
                "floor": {"name": best.model["name"], **_score(best)},
                "floors": {row.model["name"]: _score(row) for row in bases},
                "checkpoints": {row.model["name"]: _beside(results, row, best) for row in own},
            }
        )
    return found


def _value(row: Result) -> float:
    return float(row.value if row.value is not None else "-inf")


def _score(row: Result) -> dict[str, float | None]:
    held = row.metrics[row.primary]
    return {key: held[key] for key in ("value", "low", "high")}


def _beside(results: Path, row: Result, best: Result) -> dict[str, Any]:
    kept = [Kept.load(beside(results / f"{one.id}.json")).answers for one in (row, best)]
    against = paired(kept[0], kept[1], row.primary, row.seed)
    random = next((v for v in row.versus if v["kind"] == "random-init"), None)
    return {
        **_score(row),
        "against_floor": _outcome(against),
        "against_random": None if random is None else _outcome(random),
        "transductive": row.overlap["transductive"],
    }


def _outcome(difference: dict[str, Any]) -> dict[str, Any]:
    """The paired difference and what its interval says; every metric here grows with the score."""
    low, high = difference["low"], difference["high"]
    if low is None or high is None:
        verdict = "unknown"
    else:
        verdict = "better" if low > 0 else "worse" if high < 0 else "even"
    return {
        "difference": difference["difference"],
        "low": low,
        "high": high,
        "verdict": verdict,
    }
