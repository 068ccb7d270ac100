"""Which pixels make one token.

A token covers a square of ground, `token_m` metres wide, and takes from every grid of its sensor
the pixels inside that square at their native resolution: 120 m of Sentinel-2 are 12x12 pixels of
the 10 m bands, 6x6 of the 20 m bands and 2x2 of the 60 m bands. Nothing is resampled. The
modalities of one sensor and level (`s2l1c_10`, `s2l1c_20`, `s2l1c_60`) form one *group* with one
set of tokens; other sensors bring token sets of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fm.errors import UsageError
from fm.sensors import Band

Bands = Mapping[str, tuple[Band, ...]]
"""The bands of each modality, in the order of its channels."""


def group_of(modality: str) -> str:
    """Return the group of a modality: its name without the grid (`s2l1c_10` -> `s2l1c`)."""
    return modality.rpartition("_")[0] or modality


@dataclass(frozen=True)
class Member:
    """One modality's part of a token.

    Attributes:
        modality: its name.
        bands: the bands, in channel order.
        patch: pixels along one side of a token on this modality's grid.
    """

    modality: str
    bands: tuple[Band, ...]
    patch: int

    @property
    def values(self) -> int:
        """Number of pixel values in a token: C * patch^2."""
        return len(self.bands) * self.patch**2


@dataclass(frozen=True)
class Group:
    """The modalities that share one set of tokens."""

    name: str
    token_m: float
    members: tuple[Member, ...]

    def grid(self, pixels: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Return the token grid (rows, columns) that the given pixels make.

        Args:
            pixels: modality to `[B, C, H, W]`.

        Returns:
            None when no modality of this group is present.

        Raises:
            UsageError: an array has a wrong shape or the grids of the group do not agree.
        """
        found: dict[str, tuple[int, int]] = {}
        for member in self.members:
            x = pixels.get(member.modality)
            if x is None:
                continue
            if x.ndim != 4 or x.shape[1] != len(member.bands):
                raise UsageError(
                    f"{member.modality}: expected [B, {len(member.bands)}, H, W] for bands "
                    f"{', '.join(b.name for b in member.bands)}; got {list(x.shape)}"
                )
            height, width = x.shape[-2:]
            if height % member.patch or width % member.patch or not height or not width:
                raise UsageError(
                    f"{member.modality}: {height}x{width} px is not a whole number of tokens of "
                    f"{member.patch}x{member.patch} px ({self.token_m:g} m); crop the image or "
                    f"change token_m"
                )
            found[member.modality] = (height // member.patch, width // member.patch)
        if len(set(found.values())) > 1:
            raise UsageError(
                f"{self.name}: the grids do not cover the same ground in tokens of "
                f"{self.token_m:g} m: {found}"
            )
        return next(iter(found.values()), None)


def groups(bands: Bands, token_m: float | Mapping[str, float]) -> tuple[Group, ...]:
    """Arrange modalities into token groups.

    Args:
        bands: modality to its bands.
        token_m: ground size of a token in metres, one for all groups or one a group.

    Raises:
        UsageError: no bands; a group without a size; a size that is not a whole number of
            pixels; bands of one modality with different ground sampling distances.
    """
    if not bands:
        raise UsageError("a model needs at least one modality; bands is empty")
    names: dict[str, list[str]] = {}
    for modality in bands:
        names.setdefault(group_of(modality), []).append(modality)
    if isinstance(token_m, Mapping) and (extra := set(token_m) - set(names)):
        raise UsageError(f"token_m names {sorted(extra)}; the groups are {sorted(names)}")
    result = []
    for name, modalities in names.items():
        size = token_m.get(name) if isinstance(token_m, Mapping) else token_m
        if size is None or size <= 0:
            raise UsageError(f"token_m.{name} is missing: give the ground size of a token, metres")
        members = tuple(Member(m, tuple(bands[m]), _patch(m, bands[m], size)) for m in modalities)
        result.append(Group(name, float(size), members))
    return tuple(result)


def _patch(modality: str, bands: Sequence[Band], token_m: float) -> int:
    if not bands:
        raise UsageError(f"{modality}: the band list is empty")
    distances = {band.gsd_m for band in bands}
    if len(distances) > 1:
        raise UsageError(f"{modality}: bands on different grids {sorted(distances)} m; split them")
    gsd = distances.pop()
    patch = round(token_m / gsd)
    if patch < 1 or abs(patch * gsd - token_m) > 1e-6 * token_m:
        raise UsageError(f"{modality}: a token of {token_m:g} m is not whole pixels of {gsd:g} m")
    return patch
