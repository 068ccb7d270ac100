"""Write the tables of the study `geolocation` into `docs/geolocation.md`, between its markers."""

from typing import Any

from bench.machine import ROOT
from bench.marked import filled
from bench.studies.page import RESULTS
from fm.files import read_json, write_atomic
from probes.statistics.places import LADDER_KM, MEDIAN

PAGE = ROOT / "docs" / "geolocation.md"
FOUND = RESULTS / "geolocation.json"


def scores(found: dict[str, Any], benchmark: str) -> str:
    """One table: the rows of one benchmark, the nearest first, and what could be had."""
    lines = [
        "| row | protocol | " + " | ".join(f"{r:,} km" for r in LADDER_KM) + " | median km |",
        "| --- | --- |" + " --- |" * (len(LADDER_KM) + 1),
    ]
    for name, metrics in found["benchmarks"][benchmark]["ceilings"].items():
        shares = [f"{metrics[f'acc@{reach}km']:.1%}" for reach in LADDER_KM]
        lines.append(f"| *{name}* | | " + " | ".join(shares) + f" | {metrics[MEDIAN]:,.0f} |")
    rows = [row for row in found["rows"] if row["benchmark"] == benchmark]
    for row in sorted(rows, key=lambda row: row["metrics"][MEDIAN]["value"]):
        metrics = row["metrics"]
        shares = [f"{metrics[f'acc@{reach}km']['value']:.1%}" for reach in LADDER_KM]
        middle = metrics[MEDIAN]
        spread = f"{middle['value']:,.0f} ({middle['low']:,.0f} to {middle['high']:,.0f})"
        name = f"**{row['model']}**" if row["kind"] == "pretrained" else row["model"]
        lines.append(f"| {name} | {row['protocol']} | " + " | ".join(shares) + f" | {spread} |")
    return "\n".join(lines)


def ways(found: dict[str, Any]) -> str:
    """Median error of the three ways to answer, where there are probabilities."""
    lines = [
        "| benchmark | row | protocol | middle of the best cell | weighted mean | down the tree |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in found["rows"]:
        metrics = row["metrics"]
        if f"{MEDIAN}_mean" in metrics and row["kind"] != "random-init":
            each = [f"{metrics[MEDIAN + way]['value']:,.0f}" for way in ("", "_mean", "_tree")]
            words = [row["benchmark"], row["model"], row["protocol"], *each]
            lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def timing(found: dict[str, Any]) -> str:
    """Seconds of the study."""
    seconds = found["seconds"]
    if seconds is None:
        return "Made in parts on a shared machine; how long one run takes is not known."
    alone, cpu = seconds["probing_alone"] / 60, seconds["probing_cpu"] / 60
    rows = len(found["rows"])
    spent = f"{rows} rows in {alone:.0f} minutes of one thread ({cpu:.0f} of the processor)"
    if seconds["probing"] is None:
        return f"{spent}; made in several calls, each of which went on from the one before."
    wall, threads = seconds["probing"] / 60, found["threads"]
    made = seconds["dataset"]
    return f"{spent}, {wall:.0f} on the clock with {threads} threads; the dataset {made} s."


def tables(found: dict[str, Any]) -> dict[str, str]:
    """Every table by its marker."""
    made = {name: scores(found, name) for name in found["benchmarks"]}
    return made | {"ways": ways(found), "geolocation-timing": timing(found)}


def written(page: str, found: dict[str, Any]) -> str:
    """Return the page with its tables anew."""
    return filled(page, tables(found))


def main() -> None:
    """Write the page."""
    write_atomic(PAGE, written(PAGE.read_text(encoding="utf-8"), read_json(FOUND, "study")))


if __name__ == "__main__":
    main()
