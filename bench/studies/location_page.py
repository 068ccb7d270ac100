"""Write the tables of two studies into `docs/location-probes.md`, between its markers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.machine import ROOT
from bench.marked import filled
from bench.studies.page import RESULTS
from fm.files import read_json, write_atomic
from probes.location.tasks import TASKS

PAGE = ROOT / "docs" / "location-probes.md"
FOUND = RESULTS / "location.json"
RETRIEVED = RESULTS / "retrieval.json"
PHYSICAL = ("air-temperature", "precipitation", "elevation", "turbidity")
"""Numbers of the ground and the air, which the two findings are of."""


def mean(found: dict[str, Any], encoder: str, task: str, split: str, metric: str) -> float:
    """Mean over the seeds of one cell."""
    return float(np.mean(cell(found, encoder, task, split)["metrics"][metric]))


def cell(found: dict[str, Any], encoder: str, task: str, split: str) -> dict[str, Any]:
    """Find one row of the results."""
    wanted = (encoder, task, split)
    return next(r for r in found["ridge"] if (r["encoder"], r["task"], r["split"]) == wanted)


def scores(found: dict[str, Any], split: str) -> str:
    """One table a split: mean and lowest to highest seed of the primary metric, mean rank last."""
    tasks = [t for t in TASKS if any(r["task"] == t.name for r in found["ridge"])]
    lines = [
        "| encoder | " + " | ".join(t.name for t in tasks) + " | mean rank |",
        "| --- |" + " --- |" * (len(tasks) + 1),
    ]
    for encoder, rank in found["mean_ranks"][split].items():
        shown = []
        for task in tasks:
            values = cell(found, encoder, task.name, split)["metrics"][task.primary]
            spread = f"{np.mean(values):.3f} ({min(values):.2f} to {max(values):.2f})"
            shown.append(spread if task.name in found["answerable"][split] else "–")
        lines.append(f"| {encoder} | " + " | ".join(shown) + f" | {rank:.2f} |")
    return "\n".join(lines)


def findings(found: dict[str, Any]) -> str:
    """SH-40 beside GeoCLIP on the physical tasks, on random splits and on unseen continents."""
    lines = [
        "| task | split | sh40 | geoclip | sh40, clipped | geoclip, clipped |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for split in ("random", "continents"):
        for task in PHYSICAL:
            row = [f"{task} | {split}"]
            for metric in ("r2", "r2_clipped"):
                for encoder in ("sh40", "geoclip"):
                    values = cell(found, encoder, task, split)["metrics"][metric]
                    each = ", ".join(f"{v:.2f}" for v in values)
                    row.append(f"{np.mean(values):.3f} ({each})")
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def bias(found: dict[str, Any]) -> str:
    """Moran's I of the losses and the gap between continents, random and block splits."""
    tasks = [t.name for t in TASKS if any(r["task"] == t.name for r in found["ridge"])]

    def shown(encoder: str, task: str, split: str) -> str:
        own = cell(found, encoder, task, split)["bias"]
        return f"{own.get('moran', 0):.2f}, {own.get('gap', 0):.2f}"

    return _of_two(tasks, shown)


def surprise(found: dict[str, Any]) -> str:
    """TorchSpatial's scores of wrong answers in classes, means over the seeds."""
    asked = {row["task"] for row in found["surprise"]}

    def shown(*wanted: str) -> str:
        (own,) = (r for r in found["surprise"] if (r["encoder"], r["task"], r["split"]) == wanted)
        return f"{np.mean(own['unmarked']):.1f}, {np.mean(own['marked']):.1f}"

    return _of_two([t.name for t in TASKS if t.name in asked], shown)


def _of_two(tasks: Sequence[str], shown: Callable[[str, str, str], str]) -> str:
    """Two encoders on two splits, a column a task: what `shown(encoder, task, split)` says."""
    lines = [
        "| encoder | split | " + " | ".join(tasks) + " |",
        "| --- | --- |" + " --- |" * len(tasks),
    ]
    for encoder in ("sh40", "geoclip"):
        for split in ("random", "blocks"):
            cells = " | ".join(shown(encoder, task, split) for task in tasks)
            lines.append(f"| {encoder} | {split} | {cells} |")
    return "\n".join(lines)


def logistic(found: dict[str, Any]) -> str:
    """Accuracy of logistic regression beside that of ridge on the subset, one seed."""
    lines = ["| encoder | task | split | logistic | ridge |", "| --- | --- | --- | --- | --- |"]
    for row in found["logistic"]:
        key = (row["encoder"], row["task"], row["split"])
        other = cell(found, *key)["metrics"]["oa"][0]
        lines.append(f"| {' | '.join(key)} | {row['metrics']['oa'][0]:.3f} | {other:.3f} |")
    return "\n".join(lines)


def timing(found: dict[str, Any]) -> str:
    """Seconds of the study."""
    s = found["seconds"]
    got = s["ridge_cpu"] / (s["ridge"] * found["workers"])
    shared = (
        f" The workers got {got:.0%} of {found['workers']} cores: other work shared the machine, "
        f"so these are not the seconds of an idle one, and do not show the target of 180 s."
    )
    return (
        f"{found['cells']} cells by ridge: {s['ridge']:.0f} s on {found['workers']} workers of one "
        f"thread ({s['ridge_cpu']:.0f} s of processor), encoding included; the places "
        f"{s['open']:.1f} s (drawn from the packages where no earlier run did). The "
        f"{len(found['logistic'])} cells of logistic regression: "
        f"{s['logistic']:.0f} s; TorchSpatial's scores, with ridge for two encoders anew: "
        f"{s['surprise']:.0f} s." + (shared if got < 0.7 else "")
    )


def clipped(found: dict[str, Any], encoder: str, task: str, split: str) -> np.ndarray:
    """Accuracy, or R^2 of answers cut to the range of train, of each seed of a study's rows."""
    wanted = (encoder, task, split)
    (row,) = (r for r in found["rows"] if (r["encoder"], r["task"], r["split"]) == wanted)
    metrics = row["metrics"]
    return np.array(metrics["r2_clipped" if "r2_clipped" in metrics else "oa"])


def retrieval(found: dict[str, Any]) -> str:
    """Encoders with and without retrieval, and what is left of it over shuffled values.

    Differences that have one sign in all seeds are bold.
    """
    tasks = [t.name for t in TASKS if any(r["task"] == t.name for r in found["rows"])]
    encoders = list(dict.fromkeys(r["encoder"] for r in found["rows"]))
    splits = list(dict.fromkeys(r["split"] for r in found["rows"]))
    head = ["| split | row | " + " | ".join(tasks) + " |", "| --- | --- |" + " --- |" * len(tasks)]
    lines = list(head)
    for split in splits:
        for encoder in encoders:
            shown = [f"{clipped(found, encoder, task, split).mean():.3f}" for task in tasks]
            lines.append(f"| {split} | {encoder} | " + " | ".join(shown) + " |")
    lines += ["", *head]
    for split in splits:
        for first in encoders:
            for second in (first.partition(",")[0], f"{first}, shuffled"):
                if second not in encoders or second == first or first.endswith("shuffled"):
                    continue
                shown = []
                for task in tasks:
                    gain = clipped(found, first, task, split) - clipped(found, second, task, split)
                    bold = "**" if min(gain) > 0 or max(gain) < 0 else ""
                    shown.append(f"{bold}{gain.mean():+.3f}{bold}")
                lines.append(f"| {split} | {first} - ({second}) | " + " | ".join(shown) + " |")
    made = found["pretraining"]
    lines += [
        "",
        f"{found['images']:,} pictures, {made['steps']} steps of pretraining in "
        f"{made['seconds']:.0f} s, ridge in {found['seconds']:.0f} s ({found['cpu']:.0f} of the "
        f"processor).",
    ]
    return "\n".join(lines)


def tables(found: dict[str, Any]) -> dict[str, str]:
    """Every table by its marker."""
    splits = {split: scores(found, split) for split in found["mean_ranks"]}
    return splits | {
        "findings": findings(found),
        "bias": bias(found),
        "surprise": surprise(found),
        "logistic": logistic(found),
        "timing": timing(found),
    }


def written(page: str, found: dict[str, Any]) -> str:
    """Return the page with the tables of `location` anew."""
    return filled(page, tables(found))


def main() -> None:
    """Write the page."""
    page = written(PAGE.read_text(encoding="utf-8"), read_json(FOUND, "study"))
    write_atomic(PAGE, filled(page, {"retrieval": retrieval(read_json(RETRIEVED, "study"))}))


if __name__ == "__main__":
    main()
