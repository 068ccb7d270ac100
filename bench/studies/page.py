"""Write the tables of `bench/results/studies` into `docs/studies.md`, between its markers."""

from collections.abc import Mapping
from typing import Any

from bench.machine import ROOT
from bench.marked import filled
from fm.files import read_json, write_atomic

PAGE = ROOT / "docs" / "studies.md"
RESULTS = ROOT / "bench" / "results" / "studies"


def number(found: Mapping[str, Any], *, percent: bool = False, sign: bool = False) -> str:
    """Write a value with its interval."""
    scale, digits = (100.0, 1) if percent else (1.0, 3)
    form = f"{{:{'+' if sign else ''}.{digits}f}}"
    words = [form.format(scale * found[key]) for key in ("value", "low", "high")]
    return f"{words[0]} [{words[1]}, {words[2]}]"


def learns(found: Mapping[str, Any]) -> str:
    """Return one table a benchmark and label regime; also of the study `multisensor`."""
    parts, split = [], found.get("split", "test")
    difference = found.get("difference", "pretrained - row")
    for table in found["tables"]:
        labels = "all labels" if table["per_class"] is None else f"{table['per_class']} a class"
        metric, shown_as = ("oa", "OA") if "oa" in table["rows"][0] else ("map", "mAP")
        lines = [
            f"**{table['benchmark']}, {labels}**",
            "",
            f"| row | {split} {shown_as} | {difference} | single runs |",
            "| --- | --- | --- | --- |",
        ]
        for row in table["rows"]:
            against = row.get(f"{difference}, {metric}")
            found_runs = row[metric]["runs"]
            own = "r" if difference == "pretrained - row" else "p"
            (runs,) = found_runs.values() if len(found_runs) == 1 else (found_runs[own],)
            shown = f"{min(runs):.3f} to {max(runs):.3f}" if len(runs) > 1 else ""
            gain = number(against, sign=True) if against else ""
            lines.append(f"| {row['row']} | {number(row[metric])} | {gain} | {shown} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def adaptation(found: Mapping[str, Any]) -> str:
    """Return the scores, and what is left of the features."""
    lines = ["| row | share of the features' variance that is kept, by seed |", "| --- | --- |"]
    for row, shares in found["kept"].items():
        lines.append(f"| {row} | {', '.join(f'{share:.3f}' for share in shares)} |")
    return f"{learns(found)}\n\n" + "\n".join(lines)


def contrast(found: Mapping[str, Any]) -> str:
    """Return the scores, and how often two views of a tile find each other."""
    several: dict[str, list[Mapping[str, float]]] = {}
    for entry in found["pairs"]:
        several.setdefault(entry["row"], []).append(entry)
    lines = [
        "| row | second view found among those of all tiles, by seed | cosine of a pair |",
        "| --- | --- | --- |",
    ]
    for row, entries in several.items():
        cells = [", ".join(f"{e[key]:.3f}" for e in entries) for key in ("found", "cosine")]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return f"{learns(found)}\n\n" + "\n".join(lines)


def joint(found: Mapping[str, Any]) -> str:
    """Return scores and drops, then the differences."""
    names = list(found["bands"])
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in found["table"]:
        rows.setdefault(f"{entry['method']}, {entry['mode']}", {})[entry["bands"]] = entry
    heads = [f"{name} ({found['bands'][name]})" for name in names]
    lines = ["| method, mode | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(names)]
    for label, cells in rows.items():
        shown = []
        for name in names:
            if name not in cells:
                shown.append("refused")
                continue
            score = cells[name]["oa"]["value"]
            drop = 100 * cells[name]["drop"]["value"]
            shown.append(f"{score:.3f}" if name == names[0] else f"{score:.3f} ({-drop:+.0f} %)")
        lines.append(f"| {label} | " + " | ".join(shown) + " |")
    lines += ["", "| difference | value |", "| --- | --- |"]
    for entry in found["differences"]:
        lines.append(f"| {entry['what']} | {number(entry, percent=True, sign=True)} points |")
    return "\n".join(lines)


MARKS = {"better": "▲", "even": "○", "worse": "▼", "unknown": "?"}


def board(found: Mapping[str, Any]) -> str:
    """Return the scores beside the best floor of each table, then the seconds."""
    names = list(found["checkpoints"])
    lines = [
        "| benchmark, protocol | metric | best floor | " + " | ".join(names) + " |",
        "| --- | --- | --- |" + " --- |" * len(names),
    ]
    for table in found["tables"]:
        cells = []
        for name in names:
            held = table["checkpoints"].get(name)
            if held is None:
                cells.append("–")
                continue
            compared = (held["against_floor"], held["against_random"])
            marks = [MARKS[(one or {"verdict": "unknown"})["verdict"]] for one in compared]
            cells.append(f"{_scored(held)} {' '.join(marks)}")
        what = ", ".join(filter(None, (table["benchmark"], table["protocol"])))
        floor = f"{table['floor']['name']} {_scored(table['floor'])}"
        lines.append(f"| {what} | {table['metric']} | {floor} | " + " | ".join(cells) + " |")
    seconds = found["seconds"]
    made = ", ".join(f"{name} {value:.0f}" for name, value in seconds["pretraining"].items())
    probing = ", ".join(f"{name} {value:.0f}" for name, value in seconds["probing"].items())
    lines += [
        "",
        f"{found['results']} results, {len(found['refused'])} refused. Seconds: datasets "
        f"{sum(seconds['datasets'].values()):.0f}; pretraining "
        f"{sum(seconds['pretraining'].values()):.0f} ({made}); probing "
        f"**{seconds['probing_total']:.0f}**, {seconds['probing_cpu']:.0f} of the processor "
        f"({probing}). {found['machine']}, "
        f"{found['threads']} processes.",
    ]
    return "\n".join(lines)


def heads(found: Mapping[str, Any]) -> str:
    """Return a table of scores and one of differences for each command."""
    parts = []
    for table in found["tables"]:
        head = (
            f"**{table['benchmark']}**, {table['metric']}, {table['units']} test {table['unit']}s, "
            f"{table['cpu_seconds']} s of one core for {len(found['seeds'])} seeds"
        )
        lines = [
            head,
            "",
            "| row | steps | trained parameters | test | single seeds |",
            "| --- | --- | --- | --- | --- |",
        ]
        for row in table["rows"]:
            steps = row["steps"] or ""
            trained = f"{row['trained_parameters']:,}" if row["trained_parameters"] else ""
            runs = ", ".join(f"{value:.3f}" for value in row["runs"])
            lines.append(f"| {row['row']} | {steps} | {trained} | {number(row)} | {runs} |")
        lines += ["", "| difference | value | single seeds |", "| --- | --- | --- |"]
        for entry in table["differences"]:
            runs = ", ".join(f"{value:+.3f}" for value in entry["runs"])
            what = f"{entry['first']} - ({entry['second']})"
            lines.append(f"| {what} | {number(entry, sign=True)} | {runs} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _scored(held: Mapping[str, float | None]) -> str:
    value, low, high = held["value"], held["low"], held["high"]
    return f"{value:.3f}" if low is None or high is None else number(held)


TABLES = {
    "adaptation": adaptation,
    "board": board,
    "contrast": contrast,
    "contrast_val": contrast,
    "distill": learns,
    "distill_val": learns,
    "folds": learns,
    "heads": heads,
    "joint": joint,
    "learns": learns,
    "multisensor": learns,
    "softcon": learns,
    "softcon_val": learns,
}


def render(text: str) -> str:
    """Return the page's text with the table of every committed result in its place."""
    paths = {name: RESULTS / f"{name}.json" for name in TABLES}
    there = {name: read_json(path, "study") for name, path in paths.items() if path.is_file()}
    return filled(text, {name: TABLES[name](found) for name, found in there.items()})


def main() -> int:
    """Rewrite the page."""
    write_atomic(PAGE, render(PAGE.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
