"""One number a model over several benchmarks, on complete cells alone.

A mean over other cells is another mean, so models stand together only on cells that all of them
have. Each distinct set of cells that some model was judged on, by one protocol, makes one
standing; a model that lacks a cell of it is named and left out.
"""

from dataclasses import dataclass

from fm.errors import FMError
from probes.leaderboard.board import Board, Entry
from probes.leaderboard.table import BASELINES, Group
from probes.statistics.aggregate import Spread, aggregate

MOST = 4
"""Standings shown for one protocol: those with the most models."""


@dataclass(frozen=True)
class Standing:
    """The models that have all cells of one set.

    Attributes:
        protocol: name and version, `linear@1`.
        groups: the cells that entered.
        datasets: how many datasets they are; copies of one count once.
        rows: entry with its `mean_rank`, `mean` and `iqm`, best mean rank first.
        left_out: entry or cell to the reason it is not here.
    """

    protocol: str
    groups: tuple[Group, ...]
    datasets: int
    rows: tuple[tuple[Entry, dict[str, Spread]], ...]
    left_out: dict[str, str]


def standings(board: Board) -> list[Standing]:
    """Find the standings of a board: by protocol, then with the most models first.

    A standing needs two cells, two models and the random initialisation of one of them.
    """
    found: list[Standing] = []
    for recipe in sorted({group.recipe for group in board.groups}):
        columns = [at for at, group in enumerate(board.groups) if group.recipe == recipe]
        sets = {
            tuple(at for at in columns if entry.cells[at])
            for entry in board.entries
            if entry.kind not in BASELINES
        }
        own = [_standing(board, recipe, cells) for cells in sorted(sets) if len(cells) > 1]
        held = [item for item in own if item is not None]
        held.sort(key=lambda s: (-len(s.rows), -len(s.groups), [g.title for g in s.groups]))
        found += held[:MOST]
    return found


def _standing(board: Board, recipe: tuple[str, str], cells: tuple[int, ...]) -> Standing | None:
    titles = {at: board.groups[at].title for at in cells}
    held = {
        str(place): entry
        for place, entry in enumerate(board.entries)
        if any(entry.cells[at] for at in cells)
    }
    doubted = {
        entry.label: "a score of it is in doubt"
        for entry in held.values()
        if any(row.record.doubts for at in cells for row in entry.cells[at])
    }
    members = {place: entry for place, entry in held.items() if entry.label not in doubted}
    runs = {
        place: {titles[at]: [row.value for row in entry.cells[at]] for at in cells}
        for place, entry in members.items()
    }
    try:
        sums = aggregate(
            runs,
            reference=[p for p, entry in members.items() if entry.kind == "random-init"],
            groups={titles[at]: board.groups[at].first.benchmark.dataset for at in cells},
            lower_is_better=[titles[at] for at in cells if not board.groups[at].higher],
        )
    except FMError:
        return None
    rows = [(members[place], values) for place, values in sums.rows.items()]
    if sum(entry.kind not in BASELINES for entry, _ in rows) < 1 or len(rows) < 3:
        return None
    rows.sort(key=lambda item: (item[1]["mean_rank"].value, item[0].label))
    return Standing(
        protocol="@".join(recipe),
        groups=tuple(board.groups[at] for at in cells if titles[at] in sums.benchmarks),
        datasets=len(sums.groups),
        rows=tuple(rows),
        left_out={
            members[name].label if name in members else name: reason
            for name, reason in sums.left_out.items()
        }
        | doubted,
    )
