"""The result of a bench as JSON, and `docs/performance.md` from all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.runner import Bench, Measured, spread_kind, values
from fm.errors import FMError
from fm.files import read_json, write_atomic, write_json

FORMAT_VERSION = 1
RESULTS = machine.ROOT / "bench" / "results"
"""Full results, which are committed."""
QUICK = machine.ROOT / ".cache" / "bench"
"""Quick results, which are not: they never replace a full one."""
PAGE = machine.ROOT / "docs" / "performance.md"
_KEYS = ("bench", "question", "machine", "versions", "commit", "rounds", "spread", "values")
_VALUE_KEYS = ("name", "value", "unit", "spread", "target", "holds")


def document(bench: Bench, measured: Measured, *, quick: bool, load: float | None) -> dict:
    """Write one result as a JSON document.

    Args:
        bench: the comparison.
        measured: its seconds.
        quick: whether it was a quick run.
        load: of the machine before it started.
    """
    return {
        "format_version": FORMAT_VERSION,
        "bench": bench.name,
        "question": bench.question,
        "quick": quick,
        "machine": machine.describe(),
        "load_before": load,
        "versions": machine.versions(bench.versions),
        "commit": machine.commit(),
        "rounds": measured.rounds,
        "warmup": measured.warmup,
        "spread": spread_kind(measured.rounds),
        "competitors": measured.settings,
        "values": values(bench, measured),
    }


def _figure(value: float | None) -> str:
    """Write a number with four significant digits; nothing becomes a dash."""
    if value is None:
        return "–"
    if value == 0 or not 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    text = f"{value:.4g}"
    return text if "e" not in text else f"{value:.0f}"


def lines(result: Mapping[str, Any]) -> list[list[str]]:
    """Lay out the values of a result as rows of text cells."""
    rows = []
    for item in result["values"]:
        spread = item["spread"]
        holds = {None: "–" if item["target"] is None else "not measured", True: "yes", False: "no"}
        rows.append(
            [
                item["name"],
                "absent" if item["value"] is None else f"{_figure(item['value'])} {item['unit']}",
                "–" if spread is None else f"{_figure(spread[0])} to {_figure(spread[1])}",
                item["target"] or "–",
                holds[item["holds"]],
            ]
        )
    return rows


HEAD = ["", "median", "spread", "target", "holds"]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def render(results: Sequence[Mapping[str, Any]]) -> str:
    """Write the performance page.

    Args:
        results: JSON documents of full runs.

    Returns:
        Markdown that depends on the documents alone.
    """
    out = [
        "# Performance",
        "",
        "Made by `python -m bench NAME` from `bench/results/*.json`; do not edit. How the numbers "
        "are taken: [bench.md](bench.md).",
        "",
    ]
    if not results:
        out += ["No bench has been run in full yet.", ""]
    for result in sorted(results, key=lambda result: result["bench"]):
        out += [f"## {_cell(result['bench'])}", "", _cell(result["question"]), ""]
        out += ["| " + " | ".join(HEAD) + " |", "|" + " --- |" * len(HEAD)]
        out += ["| " + " | ".join(map(_cell, row)) + " |" for row in lines(result)]
        named = ", ".join(
            f"{name} {found or 'absent'}" for name, found in result["versions"].items()
        )
        load = result.get("load_before")
        out += [
            "",
            f"Median of {result['rounds']} rounds after {result['warmup']} warm-up repetitions; "
            f"spread: {result['spread']}.",
            f"Machine: {_cell(result['machine'])}"
            + (f"; load before the run {load:g}." if load is not None else "."),
            f"Versions: {_cell(named)}. Commit: `{result['commit'] or 'unknown'}`.",
        ]
        for name, settings in result["competitors"].items():
            if settings:
                said = ", ".join(f"{key} {value}" for key, value in settings.items())
                out.append(f"Settings of {_cell(name)}: {_cell(said)}.")
        out.append("")
    return "\n".join(out)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Read every full result of a folder.

    Raises:
        FMError: a file that is not a result of this runner, or a quick one.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        result = read_json(path, "bench result")
        if not isinstance(result, dict) or result.get("format_version") != FORMAT_VERSION:
            raise FMError(f"{path}: not a bench result of format {FORMAT_VERSION}; run it again")
        if missing := [key for key in _KEYS if key not in result]:
            raise FMError(f"{path}: key {missing[0]!r} is missing; run the bench again")
        for item in result["values"]:
            if missing := [key for key in _VALUE_KEYS if key not in item]:
                raise FMError(f"{path}: a value lacks {missing[0]!r}; run the bench again")
            if item["value"] is None and item["holds"] is not None:
                raise FMError(f"{path}: {item['name']!r} has no value but holds; run it again")
        if result.get("quick"):
            raise FMError(f"{path}: a quick result does not belong here; remove it")
        found.append(result)
    return found


def save(
    result: Mapping[str, Any], *, results: Path = RESULTS, quick: Path = QUICK, page: Path = PAGE
) -> Path:
    """Write a result; a full one also remakes the performance page, a quick one goes elsewhere.

    Returns:
        the file written.
    """
    folder = quick if result["quick"] else results
    path = folder / f"{result['bench']}.json"
    write_json(path, result)
    if not result["quick"]:
        write_atomic(page, render(read_results(results)))
    return path
