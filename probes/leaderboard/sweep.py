"""One model judged with several axes, as a table: sizes by normalisers.

The two tables of Corley et al., arXiv 2305.13456, for each model of a benchmark and protocol.
"""

from fm.page.html import Markup, el, join, scroll
from probes.leaderboard import metrics, words
from probes.leaderboard.table import BASELINES, Group, Row

ROWS, COLUMNS = "resize", "normaliser"


def _axis(row: Row, name: str) -> str:
    value = (row.record.axes or {}).get(name)
    return "native" if value is None else str(value)


def _rest(row: Row) -> str:
    """Axes that were changed beyond the two."""
    others = [(k, v) for k, v in sorted(row.changed.items()) if k not in (ROWS, COLUMNS)]
    return ", ".join(f"{name} {value}" for name, value in others)


def _order(size: str) -> tuple[int, str]:
    return (int(size), "") if size.isdigit() else (0, size)


def _cell(rows: list[Row]) -> Markup:
    if not rows:
        return el("td", words.missing())
    parts = []
    for row in rows:
        score = words.score(row)
        seed = [el("small", f"seed {row.record.seed}")] if len(rows) > 1 else []
        parts += [score, *seed, *words.doubtful(row)]
    return el("td", join(parts))


def tables(group: Group) -> list[Markup]:
    """Lay out the models of a group that were judged with several sizes or normalisers."""
    models: dict[str, list[Row]] = {}
    for row in sorted(group.rows, key=lambda row: row.record.model.kind in BASELINES):
        if row.record.axes is not None:
            models.setdefault(row.model, []).append(row)
    made = []
    for model, rows in models.items():
        sizes = sorted({_axis(row, ROWS) for row in rows}, key=_order)
        columns = sorted({(_axis(row, COLUMNS), _rest(row)) for row in rows})
        if len({(_axis(row, ROWS), _axis(row, COLUMNS)) for row in rows}) < 2:
            continue
        heads = [el("th", "pixels of the shorter side", scope="col")]
        heads += [el("th", ", ".join(t for t in column if t), scope="col") for column in columns]
        body = []
        for size in sizes:
            own = [row for row in rows if _axis(row, ROWS) == size]
            cells = [
                _cell([row for row in own if (_axis(row, COLUMNS), _rest(row)) == column])
                for column in columns
            ]
            body.append(el("tr", el("th", size, scope="row"), *cells))
        caption = f"{model}: {metrics.label(group.primary)} by size and normaliser"
        table = el(
            "table",
            el("caption", caption),
            el("thead", el("tr", *heads)),
            el("tbody", *body),
            class_="small sweep",
        )
        made.append(scroll(table, caption))
    return [el("h3", "Size by normaliser"), *made] if made else []
