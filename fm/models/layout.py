"""Which pixels make one token.

A token covers a square of ground, `token_m` metres wide, and takes from every grid of its sensor
the pixels inside that square at their native resolution: 120 m of Sentinel-2 are 12x12 pixels of
the 10 m bands, 6x6 of the 20 m bands and 2x2 of the 60 m bands. Nothing is resampled. The
modalities of one sensor and level (`s2l1c_10`, `s2l1c_20`, `s2l1c_60`) form one *group* with one
set of tokens; other sensors bring token sets of their own. `token_groups` arranges bands into
other groups, such as SatMAE's three of Sentinel-2.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from torch import Tensor

from fm.errors import UsageError, suggest
from fm.sensors import Band

WIDEST = 1024
"""Pixels along the side of a token."""

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
        bands: the bands this member takes, in its own order.
        patch: pixels along one side of a token on this modality's grid.
        channels: where the bands lie in the modality's array; None takes all in their order.
    """

    modality: str
    bands: tuple[Band, ...]
    patch: int
    channels: tuple[int, ...] | None = None

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
            pixels: modality to `[B, C, H, W]`, or `[B, T, C, H, W]`, whose images lie one below
                the other: T times the rows.

        Returns:
            None when no modality of this group is present.

        Raises:
            UsageError: an array is not a whole number of tokens, or the grids do not agree.
        """
        found: dict[str, tuple[int, int]] = {}
        for member in self.members:
            x = pixels.get(member.modality)
            if x is None:
                continue
            height, width = x.shape[-2:]
            if height % member.patch or width % member.patch or not height or not width:
                raise UsageError(
                    f"{member.modality}: {height}x{width} px is not a whole number of tokens of "
                    f"{member.patch}x{member.patch} px ({self.token_m:g} m); crop the image or "
                    f"change token_m"
                )
            images = x.shape[1] if x.ndim == 5 else 1
            found[member.modality] = (images * (height // member.patch), width // member.patch)
        whole = next(iter(found.values()), None)
        if any(grid != whole for grid in found.values()):  # a size that varies has no hash
            raise UsageError(
                f"{self.name}: the grids do not cover the same ground in tokens of "
                f"{self.token_m:g} m: {found}"
            )
        return whole


def groups(
    bands: Bands,
    token_m: float | Mapping[str, float],
    token_groups: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Group, ...]:
    """Arrange modalities into token groups.

    Args:
        bands: modality to its bands.
        token_m: ground size of a token in metres, one for all groups or one a group.
        token_groups: group to band names; every band in exactly one group, whatever its grid.
            None makes one group of each sensor and level.

    Raises:
        UsageError: no bands; a group without a size; a size that is not a whole number of
            pixels; bands of one modality with different ground sampling distances; a band in no
            group, in two, or that is not there.
    """
    if not bands:
        raise UsageError("a model needs at least one modality; bands is empty")
    chosen = _by_sensor(bands) if token_groups is None else _by_name(bands, token_groups)
    if isinstance(token_m, Mapping) and (extra := set(token_m) - set(chosen)):
        raise UsageError(f"token_m names {sorted(extra)}; the groups are {sorted(chosen)}")
    result: list[Group] = []
    for name, parts in chosen.items():
        size = token_m.get(name) if isinstance(token_m, Mapping) else token_m
        if size is None:
            raise UsageError(f"token_m.{name} is missing: give the ground size of a token, metres")
        if not isinstance(size, Real) or not 0 < float(size) < math.inf:
            raise UsageError(f"token_m.{name}={size!r}: give the ground size of a token, metres")
        size = float(size)
        members = []
        for modality, channels in parts.items():
            own = tuple(bands[modality])
            taken = own if channels is None else tuple(own[i] for i in channels)
            members.append(Member(modality, taken, _patch(modality, taken, size), channels))
        result.append(Group(name, size, tuple(members)))
    return tuple(result)


Parts = dict[str, dict[str, tuple[int, ...] | None]]


def _by_sensor(bands: Bands) -> Parts:
    result: Parts = {}
    for modality in bands:
        result.setdefault(group_of(modality), {})[modality] = None
    return result


def _by_name(bands: Bands, token_groups: Mapping[str, Sequence[str]]) -> Parts:
    where: dict[str, list[tuple[str, int]]] = {}
    for modality, items in bands.items():
        for channel, band in enumerate(items):
            where.setdefault(band.name, []).append((modality, channel))
    result: Parts = {}
    used: set[str] = set()
    for group, names in token_groups.items():
        parts: dict[str, list[int]] = {}
        for name in names:
            if name not in where:
                raise UsageError(f"token_groups.{group}: no band {name!r}; {suggest(name, where)}")
            if len(where[name]) > 1:
                raise UsageError(
                    f"token_groups.{group}: band {name!r} is in several modalities "
                    f"({', '.join(m for m, _ in where[name])}); leave one out"
                )
            if name in used:
                raise UsageError(f"token_groups.{group}: band {name!r} is in two groups")
            used.add(name)
            modality, channel = where[name][0]
            parts.setdefault(modality, []).append(channel)
        result[group] = {modality: tuple(channels) for modality, channels in parts.items()}
    if left := [name for name in where if name not in used]:
        raise UsageError(f"token_groups: {', '.join(left)} in no group; put every band in one")
    return result


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
    if patch > WIDEST:
        raise UsageError(f"{modality}: a token of {token_m:g} m is {patch} px, at most {WIDEST}")
    return patch
