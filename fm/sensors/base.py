"""What a band and a sensor are, and how bands are grouped into modalities."""

from collections.abc import Iterable
from dataclasses import dataclass

from fm.errors import UsageError, suggest


@dataclass(frozen=True)
class Band:
    """One band as the product delivers it.

    Attributes:
        name: the product's own spelling (`B8A`, `VV`, `SR_B4`).
        wavelength_nm: centre wavelength in nanometres; None where the band has no optical
            wavelength (radar). A model that needs it asks `wavelengths`, which refuses None.
        fwhm_nm: full width at half maximum in nanometres; None as above.
        gsd_m: sampling distance of the product's grid in metres (not of the detector: Landsat's
            thermal bands come resampled to 30 m).
        unit: unit of the physical value, `stored * scale + offset`: `reflectance` (fraction), `dB`
            or `dn` (uncalibrated numbers).
        polarisation: `VV`, `VH`, ... of a radar band, else None.
        modality: the array this band is a channel of, `<family><level>_<grid in metres>`.
    """

    name: str
    wavelength_nm: float | None
    fwhm_nm: float | None
    gsd_m: float
    unit: str
    polarisation: str | None = None
    modality: str = ""


@dataclass(frozen=True)
class Sensor:
    """One instrument at one product level.

    Attributes:
        name: registry name, `sentinel2-l2a`.
        platform: the spacecraft or aircraft.
        level: product level and, where it changes the numbers, the processing baseline.
        bands: all bands in the order of the product's own band table.
        scale: physical = stored * scale + offset.
        offset: see `scale`.
    """

    name: str
    platform: str
    level: str
    bands: tuple[Band, ...]
    scale: float
    offset: float

    @property
    def modalities(self) -> dict[str, tuple[Band, ...]]:
        """Bands grouped by native grid; finest grid first, table order inside."""
        grouped: dict[str, list[Band]] = {}
        for band in sorted(self.bands, key=lambda b: b.gsd_m):  # stable: keeps the table order
            grouped.setdefault(band.modality, []).append(band)
        return {modality: tuple(bands) for modality, bands in grouped.items()}

    def band(self, name: str) -> Band:
        """Look one band up.

        Args:
            name: the product's own spelling, upper or lower case.

        Returns:
            the band.

        Raises:
            UsageError: the sensor has no such band.
        """
        for band in self.bands:
            if band.name.upper() == name.upper():
                return band
        names = [band.name for band in self.bands]
        raise UsageError(f"{self.name} has no band {name!r}; {_nearest(name, names)}")

    def select(self, names: Iterable[str]) -> tuple[Band, ...]:
        """Look several bands up, in the order asked for.

        Args:
            names: band names; none twice.

        Returns:
            the bands.

        Raises:
            UsageError: an unknown name, or a name given twice.
        """
        chosen = tuple(self.band(name) for name in names)
        seen: set[str] = set()
        for band in chosen:
            if band.name in seen:
                raise UsageError(f"{self.name}: band {band.name!r} is named twice; name it once")
            seen.add(band.name)
        return chosen


def wavelengths(bands: Iterable[Band]) -> tuple[float, ...]:
    """Centre wavelengths for a model that needs them.

    Args:
        bands: the bands, in channel order.

    Returns:
        one wavelength in nanometres a band.

    Raises:
        UsageError: a band without a wavelength; there is no default to fall back on.
    """
    result = []
    for band in bands:
        if band.wavelength_nm is None:
            where = f" of {band.modality}" if band.modality else ""
            raise UsageError(
                f"band {band.name!r}{where} has no wavelength; "
                "use a model that does not need one, or leave the band out"
            )
        result.append(band.wavelength_nm)
    return tuple(result)


def _nearest(name: str, names: list[str]) -> str:
    if len(names) > 20 and not suggest(name, names).startswith("did you mean"):
        return f"its {len(names)} bands are {names[0]} to {names[-1]}"
    return suggest(name, names)
