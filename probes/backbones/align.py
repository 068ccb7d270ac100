"""Which band of the data goes into which channel of a model: by name, then by wavelength.

Never by position. A name counts only where the wavelengths agree: B4 is red on Sentinel-2 and
Landsat 8, near infrared on Landsat 7.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fm.errors import UsageError
from fm.sensors import Band, sensor_of_modality
from probes.settings.features import Axes


@dataclass(frozen=True)
class Source:
    """What one channel of a model is made from.

    Attributes:
        wanted: the model's band.
        modality: of the data; empty where nothing was found.
        channel: place in the data's array.
        given: the data's band; None where nothing was found.
        by: `name`, `wavelength`, or the policy for missing bands: `zero`, `mean`, `nearest`.
    """

    wanted: Band
    modality: str
    channel: int
    given: Band | None
    by: str

    def record(self) -> dict[str, Any]:
        """Plain values for a result."""
        given = None if self.given is None else self.given.wavelength_nm
        wanted, off = self.wanted.wavelength_nm, None
        if given is not None and wanted is not None:
            off = round(given - wanted, 1)
        source = f"{self.modality} {self.given.name}" if self.given is not None else None
        return {"model": self.wanted.name, "from": source, "by": self.by, "off_nm": off}


def table(bands: Mapping[str, Sequence[str]]) -> dict[str, tuple[Band, ...]]:
    """Look up the bands that a benchmark's arrays have.

    A modality may hold bands of its sensor's other grids, where the authors of a dataset brought
    them to one (EuroSAT).

    Raises:
        UsageError: an unknown modality or band; what a number measures is not declared then.
    """
    found = {}
    for modality, names in bands.items():
        known = {band.name: band for band in sensor_of_modality(modality).bands}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(
                f"{modality}: no band {', '.join(unknown)} in its sensor's table; name the bands "
                f"as the sensor does ({', '.join(list(known)[:14])})"
            )
        if len(set(names)) != len(names):
            raise UsageError(f"{modality}: a band is named twice; name each channel once")
        found[modality] = tuple(replace(known[name], modality=modality) for name in names)
    return found


def align(
    wanted: Sequence[Band], data: Mapping[str, Sequence[Band]], axes: Axes, *, where: str
) -> tuple[Source, ...]:
    """Find a band of the data for each channel of a model.

    A band of the same name is taken where the centres lie within the tolerance (or half the wider
    band); what is left is paired by wavelength within the tolerance, the closest pair first, no
    band of the data for two channels. Of the rest `axes.missing` decides.

    Args:
        wanted: bands of the model's channels, in order.
        data: modality to the bands of the data's channels, in order.
        axes: tolerance and policy.
        where: model and benchmark, for errors.

    Raises:
        UsageError: a band is missing and the policy is `refuse`, or none was found at all.
    """
    free = [(m, c, band) for m, items in data.items() for c, band in enumerate(items)]
    found: dict[int, Source] = {}
    for place, band in enumerate(wanted):
        for entry in free:
            if entry[2].name == band.name and _same(band, entry[2], axes.tolerance_nm):
                found[place] = Source(band, entry[0], entry[1], entry[2], "name")
                free.remove(entry)
                break
    pairs = sorted(
        (off, place, n)
        for place, band in enumerate(wanted)
        if place not in found
        for n, entry in enumerate(free)
        if (off := _off(band, entry[2])) is not None and off <= axes.tolerance_nm
    )
    taken: set[int] = set()
    for _, place, n in pairs:
        if place not in found and n not in taken:
            taken.add(n)
            modality, channel, band = free[n]
            found[place] = Source(wanted[place], modality, channel, band, "wavelength")
    missing = [band for place, band in enumerate(wanted) if place not in found]
    if missing and (axes.missing == "refuse" or not found):
        has = ", ".join(f"{m} ({' '.join(b.name for b in items)})" for m, items in data.items())
        hint = "; give --missing zero, mean or nearest, or another model" if found else ""
        raise UsageError(
            f"{where}: nothing in the data is the model's {_named(missing)} by name or within "
            f"{axes.tolerance_nm:g} nm; the data has {_cut(has)}{hint}"
        )
    every = [(m, c, band) for m, items in data.items() for c, band in enumerate(items)]
    for place, band in enumerate(wanted):
        if place not in found:
            found[place] = _fill(band, every, axes, where)
    return tuple(found[place] for place in range(len(wanted)))


def _fill(band: Band, every: list[tuple[str, int, Band]], axes: Axes, where: str) -> Source:
    if axes.missing != "nearest":
        return Source(band, "", -1, None, axes.missing)
    near = [(off, m, c, b) for m, c, b in every if (off := _off(band, b)) is not None]
    if not near:
        raise UsageError(
            f"{where}: {band.name} has no band nearest in wavelength; give --missing zero or mean"
        )
    _, modality, channel, given = min(near, key=lambda entry: entry[0])
    return Source(band, modality, channel, given, "nearest")


def _off(one: Band, other: Band) -> float | None:
    if one.wavelength_nm is None or other.wavelength_nm is None:
        return None
    return abs(one.wavelength_nm - other.wavelength_nm)


def _same(own: Band, given: Band, tolerance: float) -> bool:
    """Say whether bands of one name measure the same."""
    off = _off(own, given)
    if off is None:
        neither = own.wavelength_nm is None and given.wavelength_nm is None
        return neither and own.polarisation == given.polarisation
    return off <= max(tolerance, (own.fwhm_nm or 0.0) / 2, (given.fwhm_nm or 0.0) / 2)


def _named(bands: Sequence[Band]) -> str:
    parts = [f"{b.name} ({b.wavelength_nm:g} nm)" if b.wavelength_nm else b.name for b in bands]
    return ", ".join(parts)


def _cut(text: str) -> str:
    return text if len(text) <= 240 else text[:237] + "..."
