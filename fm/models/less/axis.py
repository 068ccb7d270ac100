"""The channel axis of one call: the bands of all given modalities, one after the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fm.errors import UsageError
from fm.models.embed.group import channels_of
from fm.models.inputs import Inputs
from fm.models.layout import Group
from fm.sensors import Band


def kind_of(modality: str, bands: Sequence[Band]) -> str:
    """Return `radar` for bands with a polarisation, else `optical`.

    Raises:
        UsageError: some bands of a modality have a polarisation and some have not.
    """
    kinds = {"radar" if band.polarisation is not None else "optical" for band in bands}
    if len(kinds) > 1:
        raise UsageError(f"{modality}: radar and optical bands in one modality; split them")
    return kinds.pop()


@dataclass(frozen=True)
class Part:
    """The bands of one modality.

    Attributes:
        modality: its name.
        kind: `optical` or `radar`.
        patch: pixels along one side of a token.
        bands: in the order of the axis.
        channels: where they lie in the given array.
    """

    modality: str
    kind: str
    patch: int
    bands: tuple[Band, ...]
    channels: tuple[int, ...]

    @property
    def weights(self) -> str:
        """The name of the embedding and of the prediction head that these bands share."""
        return f"{self.kind}_{self.patch}"


@dataclass(frozen=True)
class Axis:
    """Channels and positions of one call.

    Attributes:
        parts: of the channel axis, in order.
        grid: token rows and columns, the same for all parts.
        token_m: ground distance between neighbouring tokens, metres.
        pixel_m: sampling distance of the finest part, metres.
    """

    parts: tuple[Part, ...]
    grid: tuple[int, int]
    token_m: float
    pixel_m: float

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands of all channels."""
        return tuple(band for part in self.parts for band in part.bands)

    @property
    def positions(self) -> int:
        """Number of positions."""
        return self.grid[0] * self.grid[1]

    def select(self, chosen: Sequence[int]) -> "Axis":
        """Keep some channels, given by their places on the axis, in the order of the axis."""
        wanted, start, parts = set(chosen), 0, []
        for part in self.parts:
            own = [i for i in range(len(part.bands)) if start + i in wanted]
            start += len(part.bands)
            if own:
                bands = tuple(part.bands[i] for i in own)
                channels = tuple(part.channels[i] for i in own)
                parts.append(replace(part, bands=bands, channels=channels))
        return replace(self, parts=tuple(parts))


def axis_of(
    groups: Mapping[str, Group], grids: Mapping[str, tuple[int, int]], inputs: Inputs
) -> Axis:
    """Stack the channels of all given modalities over one grid of positions.

    Args:
        groups: of the model.
        grids: token grid of each present group.
        inputs: the batch.

    Raises:
        UsageError: the groups do not cover the same ground in the same tokens, bands of one
            modality have several sampling distances, or no band is left.
    """
    parts, ground, pixel = [], {}, []
    for name in grids:
        for member in groups[name].members:
            modality = member.modality
            if modality not in inputs.pixels:
                continue
            given = inputs.bands[modality]
            channels = channels_of(member, inputs)
            if channels is None:
                channels = list(range(len(given)))
            if not channels:
                continue
            bands = tuple(given[i] for i in channels)
            kind = kind_of(modality, bands)
            gsd = _sampling(modality, bands, inputs)
            ground[modality] = member.patch * gsd
            pixel.append(gsd)
            parts.append(Part(modality, kind, member.patch, bands, tuple(channels)))
    if not parts:
        raise UsageError(f"none of the given bands is one of a token group: {', '.join(groups)}")
    smallest = min(ground.values())
    whole = next(iter(grids.values()))
    if (
        any(grid != whole for grid in grids.values())
        or max(ground.values()) - smallest > 1e-6 * smallest
    ):
        shown = ", ".join(f"{name} {rows}x{columns}" for name, (rows, columns) in grids.items())
        sizes = ", ".join(f"{modality} {metres:g} m" for modality, metres in ground.items())
        raise UsageError(
            f"channels share their positions, so all must lie on one token grid; tokens are "
            f"{shown}, of {sizes}; give one sensor at a time or the same ground of each"
        )
    return Axis(tuple(parts), whole, smallest, min(pixel))


def _sampling(modality: str, bands: Sequence[Band], inputs: Inputs) -> float:
    """Return the sampling distance of an image: what was said of it, or that of its bands."""
    if inputs.gsd is not None and modality in inputs.gsd:
        return inputs.gsd[modality]
    distances = {band.gsd_m for band in bands}
    if len(distances) > 1:
        raise UsageError(f"{modality}: bands on different grids {sorted(distances)} m; split them")
    return distances.pop()
