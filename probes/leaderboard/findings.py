"""What was measured beside the score: disturbed test samples and diagnostics of the features."""

from typing import Any

from fm.page.html import Markup, el, flat, join, plain, small_table
from probes.leaderboard import metrics, shell, words
from probes.leaderboard.board import ModelPage
from probes.leaderboard.records import Record
from probes.leaderboard.table import Group, Row


def _shown(row: dict[str, Any], key: str) -> Any:
    value = row.get(key)
    if key == "value" and isinstance(value, int | float):
        span = metrics.interval(row.get("low"), row.get("high"))
        return words.with_interval(metrics.number(value), span)
    return metrics.number(value) if isinstance(value, float) else value


def disturbed(record: Record) -> Markup | None:
    """The scores of one result on disturbed test samples.

    Returns:
        None when it has none.
    """
    held = record.robustness
    if not held:
        return None
    keys = list(dict.fromkeys(key for row in held for key in row if key not in ("low", "high")))
    rows = [[_shown(row, key) for key in keys] for row in held]
    return small_table(keys, rows, "The same head on disturbed test samples")


def near(held: dict[str, Any]) -> Markup:
    """What lies near the ground that pretraining saw: the statement, counts as a table."""
    said = held.get("statement")
    tables = {k: v for k, v in held.items() if isinstance(v, list) and _is_table(v)}
    rest = {k: v for k, v in held.items() if k != "statement" and k not in tables}
    facts = ", ".join(
        f"{_words(name)} {plain(value)}"
        for name, value in flat(rest)
        if value is not None and value != []
    )
    parts = [str(said), el("small", f" ({facts})")] if said else [facts]
    for name, rows in tables.items():
        keys = list(dict.fromkeys(key for row in rows for key in row))
        told = [key for key in keys if any(row.get(key) is not None for row in rows)]
        if len(told) > 1:  # distances alone say nothing
            cells = [[row.get(key) for key in told] for row in rows]
            parts.append(small_table([_words(key) for key in told], cells, _words(name)))
    return join(parts)


def _words(name: str) -> str:
    """A key as words: `features.effective_rank` becomes `features: effective rank`."""
    return name.replace(".", ": ").replace("_", " ")


def _is_table(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(item, dict) for item in value)


def _cell(group: Group, row: Row) -> str:
    return ", ".join(t for t in (group.title, row.variant, f"seed {row.record.seed}") if t)


def _short(value: Any) -> Any:
    return f"{value:.4g}".replace("-", "\u2212") if isinstance(value, float) else value


def robustness(page: ModelPage) -> Markup:
    """What each disturbance costs in each cell of a model; nothing when none was tried.

    Each number is a score after the disturbance; cells in which it was not tried are missing.
    """
    cells = [(group, row) for group, row in page.rows if row.record.robustness]
    if not cells:
        return Markup("")
    names = list(
        dict.fromkeys(
            str(item.get("name")) for _, row in cells for item in row.record.robustness or ()
        )
    )
    rows = []
    for group, row in cells:
        held = {str(item.get("name")): item for item in row.record.robustness or ()}
        tried = [_shown(held[n], "value") if n in held else words.missing() for n in names]
        rows.append([_cell(group, row), words.score(row), *tried])
    caption = "Scores after each disturbance"
    return shell.section(
        "robustness",
        "Robustness",
        small_table(["cell", "undisturbed", *names], rows, caption),
    )


def diagnostics(page: ModelPage) -> Markup:
    """Calibration and the shape of the features in each cell; nothing when none was measured."""
    cells = [(group, row, dict(flat(row.record.diagnostics or {}))) for group, row in page.rows]
    names = list(dict.fromkeys(name for *_, held in cells for name in held))
    if not names:
        return Markup("")
    rows = [
        [_cell(group, row), *(_short(held.get(name)) for name in names)]
        for group, row, held in cells
        if held
    ]
    return shell.section(
        "diagnostics",
        "Diagnostics",
        small_table(["cell", *map(_words, names)], rows, "Beside the score, on test"),
    )
