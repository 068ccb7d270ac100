"""From records to groups of rows, and the plain verdict on pretraining."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from fm.errors import FMError
from probes.leaderboard import metrics
from probes.leaderboard.names import Names, anchor
from probes.leaderboard.names import key as identity
from probes.leaderboard.records import Record, Versus

BASELINES = ("floor", "random-init")
"""Kinds that are shown in grey: what pretraining has to beat."""

KIND_NAMES = {
    "pretrained": "pretrained",
    "supervised": "supervised",
    "random-init": "random init",
    "floor": "floor",
}


@dataclass(frozen=True)
class Verdict:
    """What the comparison with the random-initialised backbone says of one pretrained model.

    Attributes:
        outcome: `"beat"`, `"even"` (the interval includes 0), `"worse"`, or `"unknown"` (no
            comparison, or one without an interval).
        text: one plain sentence.
    """

    outcome: Literal["beat", "even", "worse", "unknown"]
    text: str


@dataclass(frozen=True)
class Row:
    """One result in its table.

    Attributes:
        anchor: of its details; a floor that stands in several groups has one.
        model: its name, told apart from other weights of that name.
        label: the same with what differs in its axes where it was judged with several.
        name: the label, with the seed where seeds differ.
        page: of the model, the stem of its file.
        first: false where this result was already shown in an earlier group.
        random_init: the comparison the verdict rests on.
    """

    record: Record
    anchor: str
    model: str
    label: str
    name: str
    page: str
    first: bool
    random_init: Versus | None
    verdict: Verdict | None

    @property
    def value(self) -> float:
        """The primary metric."""
        return self.record.metrics[self.record.primary].value

    @property
    def variant(self) -> str:
        """What the label says beyond the model: its axes; often nothing."""
        return self.label.removeprefix(self.model).removeprefix(" · ")

    @property
    def changed(self) -> dict[str, Any]:
        """The axes that are not the protocol's own."""
        held = (self.record.axes or {}).get("changed")
        return held if isinstance(held, dict) else {}


@dataclass(frozen=True)
class Group:
    """Rows that may be compared: one benchmark on one data set, one protocol, one metric.

    A floor has a protocol of its own (it has no features to probe) and stands in every group of
    its benchmark and data.

    Attributes:
        title: benchmark and protocol, with what tells this group from one of the same name.
        metrics: names of all metrics, the primary first.
        rows: best first; equal scores by name and seed.
    """

    anchor: str
    title: str
    benchmark: str
    protocol: str
    primary: str
    higher: bool
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def first(self) -> Record:
        """A record to read the shared facts from: a probed one, a floor when there is no other."""
        probed = (row.record for row in self.rows if row.record.model.kind != "floor")
        return next(probed, self.rows[0].record)

    @property
    def recipe(self) -> tuple[str, str]:
        """Name and version of the protocol; floors alone have none."""
        if self.first.model.kind == "floor":
            return "floors", ""
        return self.first.protocol.name, str(self.first.protocol.version)

    @property
    def pretrained(self) -> tuple[Row, ...]:
        """The rows that carry a verdict."""
        return tuple(row for row in self.rows if row.verdict is not None)


def random_init(record: Record, higher: bool) -> Versus | None:
    """Find the comparison with the random-initialised backbone on the primary metric.

    When a result was compared with several random initialisations, the one it looks worst
    against counts.
    """
    found = [
        item
        for item in record.versus
        if item.kind == "random-init" and item.metric == record.primary
    ]
    sign = 1 if higher else -1
    return min(found, key=lambda item: (sign * item.difference, item.name), default=None)


def _floors(record: Record, higher: bool) -> str:
    """Say which floors a result did not beat; nothing when it was compared with none."""
    found = [v for v in record.versus if v.kind == "floor" and v.metric == record.primary]
    known = [v for v in found if v.low is not None and v.high is not None]
    if not known:
        return ""
    lost = [v for v in known if _outcome(v, higher) != "beat"]
    if not lost:
        return " It beat every floor: " + ", ".join(v.name for v in known) + "."
    shown = [f"{v.name} ({metrics.change(v.difference, v.low, v.high)})" for v in lost]
    return " It did not beat " + ", ".join(shown) + "."


def _outcome(versus: Versus, higher: bool) -> Literal["beat", "even", "worse", "unknown"]:
    if versus.low is None or versus.high is None:
        return "unknown"
    low, high = (versus.low, versus.high) if higher else (-versus.high, -versus.low)
    return "beat" if low > 0 else "worse" if high < 0 else "even"


def judge(record: Record, higher: bool) -> Verdict:
    """Say whether pretraining beat the random-initialised backbone, by how much, and the floors."""
    if record.doubts:
        text = "Not known whether pretraining helped: what the model was given is in doubt."
        return Verdict("unknown", text)
    floors = _floors(record, higher)
    versus = random_init(record, higher)
    if versus is None:
        text = (
            "Not known whether pretraining helped: no paired comparison with the "
            "random-initialised backbone was made."
        )
        return Verdict("unknown", text + floors)
    outcome = _outcome(versus, higher)
    shown = metrics.change(versus.difference, versus.low, versus.high)
    unit = metrics.label(record.primary) + ("" if higher else " (lower is better)")
    text = {
        "beat": f"Pretraining beat the random-initialised backbone by {shown} {unit}.",
        "worse": f"Pretraining was worse than the random-initialised backbone: {shown} {unit}.",
        "even": "Pretraining did not beat the random-initialised backbone: "
        f"difference {shown} {unit}; the interval includes 0.",
        "unknown": f"Not known whether pretraining helped: difference {shown} {unit} without an "
        "interval.",
    }[outcome]
    return Verdict(outcome, text + floors)


def _data_key(record: Record) -> tuple[str, ...]:
    # n_test is part of it: scores over different test samples are not ranked together
    benchmark = record.benchmark
    return (
        benchmark.name,
        str(benchmark.version),
        benchmark.dataset,
        benchmark.manifest_hash or "",
        benchmark.split,
        str(benchmark.n_test),
        record.primary,
    )


def _gather(records: Iterable[Record]) -> dict[tuple[str, ...], list[Record]]:
    """Collect the records of each group, floors in every group of their data.

    Returns:
        (benchmark, protocol, protocol version, the rest of the data key) to records.
    """
    by_data: dict[tuple[str, ...], list[Record]] = {}
    for record in sorted(records, key=lambda record: record.id):
        by_data.setdefault(_data_key(record), []).append(record)
    gathered: dict[tuple[str, ...], list[Record]] = {}
    for (benchmark, *rest), members in by_data.items():
        floors = [record for record in members if record.model.kind == "floor"]
        probed: dict[tuple[str, str], list[Record]] = {}
        for record in members:
            if record.model.kind != "floor":
                recipe = (record.protocol.name, str(record.protocol.version))
                probed.setdefault(recipe, []).append(record)
        for recipe, own in (probed or {("floors", ""): []}).items():
            gathered[(benchmark, *recipe, *rest)] = own + floors
    return gathered


_KEY_NAMES = (
    "",
    "",
    "protocol version",
    "version",
    "data",
    "manifest",
    "split",
    "n_test",
    "metric",
)


def _titles(keys: list[tuple[str, ...]]) -> list[str]:
    """Title each group; groups of one name also say what differs between them."""
    titles = []
    for key in keys:
        same = [other for other in keys if other[:2] == key[:2]]
        differing = [
            f"{name} {key[at][:12] or 'unknown'}"
            for at, name in enumerate(_KEY_NAMES)
            if at > 1 and len({other[at] for other in same}) > 1
        ]
        titles.append(f"{key[0]} · {key[1]}" + (f" ({', '.join(differing)})" if differing else ""))
    return titles


def _metric_order(records: Iterable[Record], primary: str) -> tuple[str, ...]:
    names = dict.fromkeys(name for record in records for name in record.metrics)
    return (primary, *(name for name in names if name != primary))


def _repeated(records: Iterable[Record], names: Names) -> set[str]:
    """Labels that stand in a group with more than one seed."""
    seeds: dict[str, set[int]] = {}
    for record in records:
        seeds.setdefault(names.label(record), set()).add(record.seed)
    return {name for name, found in seeds.items() if len(found) > 1}


def groups(records: list[Record]) -> list[Group]:
    """Group results that may be compared and rank them.

    Args:
        records: results in any order.

    Returns:
        groups by benchmark, then protocol; the outcome does not depend on the order given.

    Raises:
        FMError: a primary metric whose better direction is unknown, or told two ways.
    """
    gathered = _gather(records)
    keys = sorted(gathered)
    names = Names.of(gathered.values())
    used: set[str] = set()
    anchors: dict[str, str] = {}
    made = []
    for key, title in zip(keys, _titles(keys), strict=True):
        members = gathered[key]
        primary = members[0].primary
        ways: dict[bool, str] = {}
        for record in members:
            try:
                way = metrics.higher_is_better(primary, record.metrics[primary].better)
            except FMError as error:
                raise FMError(f"{record.id}: {error}") from None
            ways.setdefault(way, record.id)
        if len(ways) > 1:
            raise FMError(
                f"key 'metrics.{primary}.better': {ways[True]} says higher and {ways[False]} "
                "says lower; repeat one of the two probes"
            )
        higher = next(iter(ways))
        sign = -1 if higher else 1
        members.sort(key=lambda r: (sign * r.metrics[r.primary].value, r.model.name, r.seed, r.id))
        new = {record.id for record in members} - set(anchors)
        for record in members:
            if record.id in new:
                anchors[record.id] = anchor(f"result {record.id}", used)
        repeated = _repeated(members, names)
        rows = tuple(
            Row(
                record=record,
                anchor=anchors[record.id],
                model=names.labels[identity(record)],
                label=names.label(record),
                name=names.label(record)
                + (f" (seed {record.seed})" if names.label(record) in repeated else ""),
                page=names.page(record),
                first=record.id in new,
                random_init=random_init(record, higher),
                verdict=judge(record, higher) if record.model.kind == "pretrained" else None,
            )
            for record in members
        )
        made.append(
            Group(
                anchor=anchor(title, used),
                title=title,
                benchmark=key[0],
                protocol=key[1],
                primary=primary,
                higher=higher,
                metrics=_metric_order(members, primary),
                rows=rows,
            )
        )
    return made
