"""What the members of foreign tars are, said by a layout or by the user; nothing is guessed.

`shards.foreign.declare_file` reads it from YAML or options, `shards.foreign.layouts` has the known
ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fm.errors import FMError
from fm.sensors import Band
from shards.format import LabelInfo, check_labels, check_member

PLACES = ("lonlat", "time", "time_unit", "crs", "x", "y", "split", "bands")
"""What metadata may name. `x` and `y` are coordinates of pixel centres, `bands` the names that
the file gives its bands, to be compared with the declared ones."""
TIME_UNITS = ("ns", "us", "ms", "s")
PICKLES = ("pth", "pt", "pkl", "pickle", "pyd")


@dataclass(frozen=True)
class ArrayMember:
    """One array of one kind of member: a modality, or a mask.

    Attributes:
        name: of the modality, or of the mask's member.
        codec: a foreign codec name.
        axes: as stored, one of `shards.foreign.names.AXES`.
        sensor: its name; empty for a mask.
        table: the bands in array order; empty for a mask.
        scale: physical = stored * scale + offset; None where it must still be said.
        offset: see `scale`.
        nodata: one stored number a band, None where every number is data.
        nodata_said: whether `nodata` was declared; needed of integers.
        gsd_m: of the grid, in metres.
        label: of a mask, its label.
        places: where the member says what of the sample (`PLACES`), for `zarr.zip`.
        aliases: other names that the file may give its bands.
        optional: whether a member without this array is in order (`zarr.zip`).
        unsaid: why scale or offset must be said by the user; shown in the error.
    """

    name: str
    codec: str
    axes: str
    sensor: str = ""
    table: tuple[Band, ...] = ()
    scale: float | None = None
    offset: float | None = None
    nodata: tuple[int | None, ...] | None = None
    nodata_said: bool = True
    gsd_m: float = 0.0
    label: LabelInfo | None = None
    places: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[tuple[str, ...], ...] = ()
    optional: bool = False
    unsaid: str = ""

    def shape(self, stored: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape an array has in the index; None when its axes are not the declared.

        Args:
            stored: after turning, as `shards.foreign.members.describe` gives it.
        """
        order = {"HWC": "CHW", "THWC": "TCHW"}.get(self.axes, self.axes)
        if len(stored) != len(order):
            return None
        sides = dict(zip(order, stored, strict=True))
        if sides.get("C", 1) != (len(self.table) or 1):
            return None
        if self.label is not None:
            return (sides["H"], sides["W"]) if sides.get("T", 1) == 1 else None
        cube = (sides.get("C", 1), sides["H"], sides["W"])
        return cube if sides.get("T", 1) == 1 else (sides["T"], *cube)


@dataclass(frozen=True)
class TextMember:
    """A member that is a short text: one label."""

    label: LabelInfo


@dataclass(frozen=True)
class JsonMember:
    """A JSON member: places of the sample's metadata and labels, as dotted keys."""

    places: Mapping[str, Any]
    labels: Mapping[str, tuple[str, LabelInfo]]


Member = ArrayMember | TextMember | JsonMember


@dataclass(frozen=True)
class Declaration:
    """All that is said of a set of tars.

    Attributes:
        name: of the dataset; may be empty, then the command must give one.
        licence: of the data; likewise.
        source: where the data come from.
        members: by `ENDING` or `SERIES/ENDING`, what such members hold.
        ignore: endings (or `SERIES/ENDING`) that are passed over.
    """

    name: str
    licence: str
    source: str
    members: Mapping[str, tuple[Member, ...]]
    ignore: tuple[str, ...] = ()

    def find(self, series: str, ending: str) -> tuple[Member, ...] | None:
        """Return what a member holds: () when it is ignored, None when nothing is said of it."""
        for pattern in (f"{series}/{ending}", ending):
            if pattern in self.members:
                return self.members[pattern]
            if pattern in self.ignore:
                return ()
        return None

    def all(self) -> list[Member]:
        """Every declared thing, in the order it was declared."""
        return [member for members in self.members.values() for member in members]

    @property
    def labels(self) -> dict[str, LabelInfo]:
        """Every label by name."""
        found: dict[str, LabelInfo] = {}
        for member in self.all():
            if isinstance(member, JsonMember):
                found |= {name: info for name, (_, info) in member.labels.items()}
            elif member.label is not None:
                found[member.label.name] = member.label
        return found


def is_pickle(ending: str) -> bool:
    """Return whether members with this ending are pickles."""
    return ending.lower().rsplit(".", 1)[-1] in PICKLES


def check_names(declared: Declaration) -> list[str]:
    """Return what is wrong with the names of modalities, masks and labels together."""
    problems: list[str] = []
    modalities: dict[str, ArrayMember] = {}
    seen: dict[str, LabelInfo] = {}
    for member in declared.all():
        try:
            if isinstance(member, ArrayMember) and member.label is None:
                check_member(member.name)
                if modalities.setdefault(member.name, member) is not member:
                    problems.append(f"modality {member.name!r} is declared twice")
                continue
            labels = (
                [label for _, label in member.labels.values()]
                if isinstance(member, JsonMember)
                else [member.label]
            )
            for label in labels:
                assert label is not None
                if label.name in seen:
                    problems.append(f"label {label.name!r} is declared twice")
                seen[label.name] = label
        except FMError as error:
            problems.append(str(error))
    try:
        check_labels(seen, modalities)
    except FMError as error:
        problems.append(str(error))
    if not modalities:
        problems.append("no modality is declared")
    return problems
