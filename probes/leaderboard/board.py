"""A whole board: its tables, the models and benchmarks that have pages, and its grid of cells."""

from collections.abc import Iterable
from dataclasses import dataclass

from probes.leaderboard import table
from probes.leaderboard.names import anchor
from probes.leaderboard.records import Record
from probes.leaderboard.table import KIND_NAMES, Group, Row


@dataclass(frozen=True)
class ModelPage:
    """One model and all its results.

    Attributes:
        slug: stem of the page's file.
        label: its name, told apart from other weights.
        rows: each result once with a group it stands in, in the order of the groups.
    """

    slug: str
    label: str
    kind: str
    rows: tuple[tuple[Group, Row], ...]

    @property
    def first(self) -> Record:
        """A record to read the facts of the model from."""
        return self.rows[0][1].record


@dataclass(frozen=True)
class BenchmarkPage:
    """One benchmark in one version and all its groups."""

    slug: str
    title: str
    groups: tuple[Group, ...]

    @property
    def first(self) -> Record:
        """A record to read the facts of the benchmark from."""
        return self.groups[0].first


@dataclass(frozen=True)
class Entry:
    """One line of the grid: a model (in one variant) and its rows in each group.

    Attributes:
        cells: one tuple a group, a row a seed; empty where there is no result.
    """

    label: str
    slug: str
    kind: str
    cells: tuple[tuple[Row, ...], ...]


@dataclass(frozen=True)
class Board:
    """Everything the site shows."""

    groups: tuple[Group, ...]
    models: tuple[ModelPage, ...]
    benchmarks: tuple[BenchmarkPage, ...]
    entries: tuple[Entry, ...]
    benchmark_of: dict[str, BenchmarkPage]
    """Anchor of a group to the page it is on."""

    @property
    def rows(self) -> tuple[tuple[Group, Row], ...]:
        """Each result once."""
        return tuple((group, row) for group in self.groups for row in group.rows if row.first)


def mean(rows: Iterable[Row]) -> float:
    """Mean of the primary metric over the seeds of a cell."""
    values = [row.value for row in rows]
    return sum(values) / len(values)


def envelope(rows: Iterable[Row]) -> tuple[float | None, float | None]:
    """Lowest and highest end of the intervals of a cell's seeds; None where one has none."""
    scores = [row.record.metrics[row.record.primary] for row in rows]
    lows = [score.low for score in scores if score.low is not None]
    highs = [score.high for score in scores if score.high is not None]
    if len(lows) < len(scores) or len(highs) < len(scores):
        return None, None
    return min(lows), max(highs)


def of(records: list[Record]) -> Board:
    """Arrange results into a board; the order in which they come does not matter.

    Raises:
        FMError: as `table.groups`.
    """
    groups = tuple(table.groups(records))
    benchmarks = _benchmarks(groups)
    return Board(
        groups=groups,
        models=_models(groups),
        benchmarks=benchmarks,
        entries=_entries(groups),
        benchmark_of={group.anchor: page for page in benchmarks for group in page.groups},
    )


def _kind_order(kind: str) -> int:
    return list(KIND_NAMES).index(kind)


def _models(groups: tuple[Group, ...]) -> tuple[ModelPage, ...]:
    rows: dict[str, list[tuple[Group, Row]]] = {}
    for group in groups:
        for row in group.rows:
            if row.first:
                rows.setdefault(row.page, []).append((group, row))
    pages = [
        ModelPage(slug, own[0][1].model, own[0][1].record.model.kind, tuple(own))
        for slug, own in rows.items()
    ]
    return tuple(sorted(pages, key=lambda page: (_kind_order(page.kind), page.label)))


def _benchmarks(groups: tuple[Group, ...]) -> tuple[BenchmarkPage, ...]:
    found: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        found.setdefault((group.benchmark, str(group.first.benchmark.version)), []).append(group)
    names = [name for name, _ in found]
    used: set[str] = set()
    pages = []
    for (name, version), own in sorted(found.items()):
        title = f"{name}, version {version}" if names.count(name) > 1 else name
        pages.append(BenchmarkPage(anchor(f"{name} {version}", used), title, tuple(own)))
    return tuple(pages)


def _entries(groups: tuple[Group, ...]) -> tuple[Entry, ...]:
    cells: dict[tuple[int, str, str, str], list[list[Row]]] = {}
    for at, group in enumerate(groups):
        for row in group.rows:
            kind = row.record.model.kind
            key = (_kind_order(kind), row.label, row.page, kind)
            cells.setdefault(key, [[] for _ in groups])[at].append(row)
    return tuple(
        Entry(label, slug, kind, tuple(tuple(rows) for rows in own))
        for (_, label, slug, kind), own in sorted(cells.items())
    )
