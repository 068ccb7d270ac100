"""What of a model's bands the bands that come in can tell.

A model reads its own bands. Where other bands come in, each of its own is *estimated* as a weighted
mean of them: x_known = R x_given, the rows of R adding up to 1. A flat spectrum is then estimated
without error, whatever the weights. A first layer that is linear can take the estimate into its
weights, w_given = R^T w_known, so that the adapted model on the pixels that came in and the
original on the estimate are the same function; `fm.adapt.estimated` does that, `Estimate.pixels`
makes the estimate itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fm.errors import UsageError, suggest
from fm.sensors import Band
from fm.spectral import centres, overlap, same_band

Policy = Literal["refuse", "nearest", "response", "zero"]
"""What becomes of a band that the model has never seen.

| policy | what the model's missing bands read |
| --- | --- |
| `refuse` | nothing; an unseen band is an error |
| `nearest` | the band whose centre is nearest, within a tolerance |
| `response` | the mean of the bands that touch theirs at half maximum, by overlap |
| `zero` | nothing; an unseen band has the weight 0 |

Radar bands are told by their polarisation.
"""

POLICIES: tuple[str, ...] = get_args(Policy)
Beyond = Literal["refuse", "zero"]
BEYOND: tuple[str, ...] = get_args(Beyond)


def policy_of(text: str) -> dict[str, Any]:
    """Read a policy in one word, such as `response` or `nearest:40`, with the tolerance in nm.

    Returns:
        `policy` and, for `nearest`, `tolerance_nm`, as arguments of `to_bands`.

    Raises:
        UsageError: not of that form.
    """
    name, found, number = text.partition(":")
    if name not in POLICIES:
        raise UsageError(f"there is no policy {name!r}; {suggest(name, POLICIES)}")
    if not found:
        return {"policy": name}
    try:
        return {"policy": name, "tolerance_nm": float(number)}
    except ValueError:
        raise UsageError(f"policy {text!r}: {number!r} is no number of nanometres") from None


@dataclass(frozen=True)
class Estimate:
    """How a model's bands are estimated from those that come in.

    Attributes:
        known: the model's bands, K of them.
        given: the bands that come in, G of them.
        matrix: R, `[K, G]` float64; a row adds up to 1, or is 0 where nothing tells of the band.
        shares: `[K, G]`, how much two bands see of each other under `response` (1 where their
            centres coincide); NaN where nobody asked.
        policy: what became of bands that the model has not.
    """

    known: tuple[Band, ...]
    given: tuple[Band, ...]
    matrix: np.ndarray
    shares: np.ndarray
    policy: str

    @property
    def dropped(self) -> list[Band]:
        """The model's bands that nothing tells of."""
        return [band for band, row in zip(self.known, self.matrix, strict=True) if not row.any()]

    @property
    def one_to_one(self) -> bool:
        """Whether each band is read as at most one of the model's, and each of those reads one."""
        used = self.matrix != 0
        return bool((used.sum(axis=0) <= 1).all() and (used.sum(axis=1) <= 1).all())

    def rows(self) -> list[dict[str, Any]]:
        """Tell of each band that came in what it stands for, as plain values."""
        told = []
        for g, band in enumerate(self.given):
            sources = [
                {
                    "band": self.known[k].name,
                    "weight": round(float(self.matrix[k, g]), 6),
                    **_plainly("distance_nm", _apart(self.known[k], band)),
                    **_plainly("overlap", self.shares[k, g]),
                }
                for k in np.flatnonzero(self.matrix[:, g])
            ]
            told.append({"band": band.name, "from": sources})
        return told

    def off_nm(self) -> dict[str, float]:
        """How far the centre of what each estimated band reads lies from its own, in nanometres.

        A spectrum that rises by b a nanometre is estimated b times this too high: 0 is exact on
        straight lines. Bands without a wavelength are left out.
        """
        found = {}
        for band, row in zip(self.known, self.matrix, strict=True):
            used = list(np.flatnonzero(row))
            if band.wavelength_nm is None or not used:
                continue
            if any(self.given[g].wavelength_nm is None for g in used):
                continue
            centre = sum(row[g] * float(self.given[g].wavelength_nm or 0.0) for g in used)
            found[band.name] = round(float(centre - band.wavelength_nm), 3)
        return found

    def pixels(self, x: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Estimate the model's bands.

        Args:
            x: `[..., G, H, W]` floating physical values on one grid.
            valid: bool of that shape, or without the axis of bands; None if all is valid.

        Returns:
            `[..., K, H, W]` of the same dtype, 0 where nothing is known, and its validity: a value
            needs all the bands that it is made of.

        Raises:
            UsageError: integers (stored numbers), or another number of bands.
        """
        if not x.is_floating_point() or x.ndim < 3 or x.shape[-3] != len(self.given):
            raise UsageError(
                f"estimate of bands: expected floating physical values [..., {len(self.given)}, H, "
                f"W], got {str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
            )
        matrix = torch.from_numpy(self.matrix).to(x)
        mask = torch.ones_like(x, dtype=torch.bool) if valid is None else valid
        mask = mask.unsqueeze(-3).expand_as(x) if mask.ndim < x.ndim else mask
        made = torch.einsum("kg,...ghw->...khw", matrix, torch.where(mask, x, 0.0))
        used = (matrix != 0).to(x)
        lost = torch.einsum("kg,...ghw->...khw", used, (~mask).to(x)) > 0
        known = ~lost & (used.sum(dim=1) > 0)[:, None, None]
        return torch.where(known, made, 0.0), known


def estimate(
    known: Sequence[Band],
    given: Sequence[Band],
    *,
    policy: Policy = "refuse",
    tolerance_nm: float | None = None,
    beyond: Beyond = "refuse",
) -> Estimate:
    """Say how a model's bands are estimated from the bands that come in.

    A band that the model knows by name and wavelength is itself. Bands that it lacks are estimated
    by the policy, from all that come in. With `response` the weights are the integrals of
    `fm.spectral.overlap`, divided by their sum.

    Args:
        known: the model's.
        given: that come in.
        policy: for bands that the model has never seen.
        tolerance_nm: how far apart centres may lie, for `nearest`; there is no default.
        beyond: what becomes of a band for which the policy finds nothing.

    Raises:
        UsageError: an unseen band under `refuse`, or one for which the policy finds nothing; a
            wavelength or width that the policy needs and a band lacks; no tolerance.
    """
    for what, value, names in (("policy", policy, POLICIES), ("beyond", beyond, BEYOND)):
        if value not in names:
            raise UsageError(f"there is no {what} {value!r}; {suggest(str(value), names)}")
    if (tolerance_nm is None) == (policy == "nearest"):
        raise UsageError(
            "policy nearest needs tolerance_nm, how far apart centres may lie in nanometres"
            if policy == "nearest"
            else f"tolerance_nm is for the policy nearest; {policy} takes none"
        )
    for what, items in (("model", known), ("data", given)):
        names_of = [band.name for band in items]
        if twice := sorted({name for name in names_of if names_of.count(name) > 1}):
            raise UsageError(f"the {what} has two bands {twice[0]}; name each once")
    matrix = np.zeros((len(known), len(given)))
    shares = np.full(matrix.shape, np.nan)
    for k, own in enumerate(known):
        for g, band in enumerate(given):
            matrix[k, g] = same_band(own, band)
    unseen = [g for g in range(len(given)) if not matrix[:, g].any()]
    missing = [k for k in range(len(known)) if not matrix[k].any()]
    if policy == "refuse" and unseen:
        raise UsageError(_never_saw(known, [given[g] for g in unseen]))
    if policy in ("nearest", "response"):
        reached = _by_polarisation(known, given, missing, matrix)
        reached |= _by_wavelength(known, given, missing, unseen, matrix, shares, tolerance_nm)
        if beyond == "refuse":
            for g in unseen:
                if g not in reached:
                    raise UsageError(_too_far(known, given[g], tolerance_nm))
    return Estimate(tuple(known), tuple(given), matrix, shares, policy)


def _by_polarisation(
    known: Sequence[Band], given: Sequence[Band], missing: Sequence[int], matrix: np.ndarray
) -> set[int]:
    """Fill the rows of radar bands; return the given bands that some radar band is like."""
    reached: set[int] = set()
    for k, own in enumerate(known):
        if own.polarisation is None:
            continue
        same = [
            g
            for g, band in enumerate(given)
            if band.polarisation == own.polarisation and band.unit == own.unit
        ]
        reached |= set(same)
        if k not in missing or not same:
            continue
        if len(same) > 1:
            raise UsageError(
                f"{', '.join(given[g].name for g in same)} all have the polarisation "
                f"{own.polarisation} of {own.name}; leave one of them"
            )
        matrix[k, same[0]] = 1.0
    return reached


def _by_wavelength(
    known: Sequence[Band],
    given: Sequence[Band],
    missing: Sequence[int],
    unseen: Sequence[int],
    matrix: np.ndarray,
    shares: np.ndarray,
    tolerance_nm: float | None,
) -> set[int]:
    """Fill the rows of optical bands; return the given bands within reach of any of the model's."""
    for g in unseen:
        if given[g].polarisation is None:
            centres([given[g]])  # refuses it by name where it has no wavelength
    optical, own = _optical(given), _optical(known)
    if not optical or not own:
        return set()
    theirs, ours = [given[g] for g in optical], [known[k] for k in own]
    wanted = [k for k in missing if k in own]
    if tolerance_nm is not None:
        apart = np.abs(centres(theirs)[None] - centres(ours)[:, None])
        near = apart <= tolerance_nm
        for k in wanted:
            row = apart[own.index(k)]
            if row.min() <= tolerance_nm:
                nearest = np.flatnonzero(row == row.min())
                matrix[k, [optical[i] for i in nearest]] = 1.0 / len(nearest)
    else:
        integral, share = overlap(theirs, ours)
        near = share > 0
        for k in wanted:
            row = np.where(near[own.index(k)], integral[own.index(k)], 0.0)
            shares[k, optical] = share[own.index(k)]
            if row.any():
                matrix[k, optical] = row / row.sum()
    return {optical[i] for i in np.flatnonzero(near.any(axis=0))}


def _optical(bands: Sequence[Band]) -> list[int]:
    """Number the bands that a wavelength tells; a radar band's would tell nothing."""
    return [
        i
        for i, band in enumerate(bands)
        if band.wavelength_nm is not None and band.polarisation is None
    ]


def _never_saw(known: Sequence[Band], bands: Sequence[Band]) -> str:
    own = {band.name: band for band in known}
    shown = [
        f"{b.name} ({b.wavelength_nm:g} nm; its own {b.name} lies at "
        f"{own[b.name].wavelength_nm:g} nm)"
        if b.name in own
        else b.name
        for b in bands[:SHOWN]
    ]
    more = f" and {len(bands) - SHOWN} more" if len(bands) > SHOWN else ""
    return (
        f"the model never saw {', '.join(shown)}{more}; its bands are {listed(known)}; leave them "
        f"out, or name a policy: nearest, response or zero"
    )


SHOWN = 6
"""Names in one line."""


def listed(bands: Sequence[Band]) -> str:
    """Name bands in a line, the first and the last where they are many."""
    names = [band.name for band in bands]
    return ", ".join(names if len(names) <= 16 else [*names[:3], "...", names[-1]])


def _too_far(known: Sequence[Band], band: Band, tolerance_nm: float | None) -> str:
    if band.polarisation is not None or band.wavelength_nm is None:
        return (
            f"{band.name}: the model has no {band.polarisation} in {band.unit}; its bands are "
            f"{listed(known)}; leave it out, or set beyond=zero"
        )
    own = [known[k] for k in _optical(known)]
    if not own:
        return (
            f"{band.name}: the model has no band with a wavelength ({listed(known)}); leave it "
            f"out, or set beyond=zero"
        )
    apart = np.abs(centres(own) - band.wavelength_nm)
    far = (
        f"{band.name} at {band.wavelength_nm:g} nm: {own[int(apart.argmin())].name}, the model's "
        f"nearest, lies {apart.min():g} nm off"
    )
    if tolerance_nm is None:
        return f"{far} and does not touch it at half maximum; leave it out, or set beyond=zero"
    return f"{far}, the tolerance is {tolerance_nm:g} nm; leave it out, or set beyond=zero"


def _apart(known: Band, given: Band) -> float:
    if known.wavelength_nm is None or given.wavelength_nm is None:
        return float("nan")
    return given.wavelength_nm - known.wavelength_nm


def _plainly(name: str, value: float) -> dict[str, float]:
    return {} if np.isnan(value) else {name: round(float(value), 3)}
