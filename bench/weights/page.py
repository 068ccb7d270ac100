"""Write the tables of docs/weights.md from the `probes.json` of what is carried."""

from collections.abc import Mapping
from typing import Any

from bench.machine import ROOT
from bench.marked import filled
from bench.studies.page import number
from fm import weights
from fm.files import write_atomic

PAGE = ROOT / "docs" / "weights.md"


def table(probed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of one table: a checkpoint beside random weights and the best pixel floor.

    Args:
        probed: name to what `probes.json` says.
    """
    lines = [
        "| weights | benchmark, protocol | pretrained | random weights | gain over them | "
        "best floor on pixels | gain over it |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in probed.items():
        for one in found["tables"]:
            own, random, *floors = one["rows"]
            best = max(floors, key=lambda row: row["value"])
            what = f"{one['benchmark']}, {one['protocol']}, {one['metric']}"
            cells = [name, what, number(own), number(random), gain(random)]
            cells += [f"{best['row']} {number(best)}", gain(best)]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def gain(row: Mapping[str, Any]) -> str:
    """Write the paired difference of a checkpoint and a row."""
    return number({**row["gain"], "value": row["gain"]["difference"]}, sign=True)


def summary(probed: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of a table of what the weights are."""
    lines = [
        "| name | takes | parameters | MB | objective | steps | data |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, found in probed.items():
        card = weights.card(name)
        takes = "; ".join(f"{m}: {len(bands)}" for m, bands in card["bands"].items())
        size = (weights.HERE / name / weights.WEIGHTS).stat().st_size / 1e6
        data = card["data"]
        parts = data["parts"].values() if "parts" in data else [data]
        seen = "; ".join(f"{part['name']} ({part['samples']} samples)" for part in parts)
        lines.append(
            f"| `eofm/{name}` | {takes} | {found['parameters']:,} | {size:.1f} | "
            f"{card['objective']['kind']} | {card['training']['steps']} | {seen} |"
        )
    return lines


def render(text: str) -> str:
    """Return the page's text with both tables in their places."""
    probed = {name: weights.probes(name) for name in weights.names()}
    lines = {"weights": summary(probed), "probes": table(probed)}
    return filled(text, {mark: "\n".join(rows) for mark, rows in lines.items()})


def main() -> int:
    """Rewrite the page."""
    write_atomic(PAGE, render(PAGE.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
