"""What there is to look at in an array: the pictures that its bands allow, and their colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shards.format import ModalityInfo

CURVES = 50
"""Modalities with at least so many bands also get their mean spectrum drawn."""
LARGEST = 512
"""Side of a picture in pixels; larger arrays are thinned out."""

_Window = tuple[float, float, float]
# lowest, wanted and highest centre wavelength in nanometres of red, green and blue
_TRUE: tuple[_Window, ...] = ((620, 660, 700), (520, 560, 600), (440, 480, 515))
_SWIR: tuple[_Window, ...] = ((2050, 2200, 2350), (760, 860, 910), (620, 665, 720))
_CO, _CROSS = ("VV", "HH"), ("VH", "HV")
_CONTRAST_DB = 6.0


@dataclass(frozen=True)
class Panel:
    """One picture of an array.

    Attributes:
        title: what it shows, with the names of its bands.
        kind: `bands` (three as red, green and blue, or one in grey), `radar` (co- and
            cross-polarised backscatter and their difference as red, green and blue), or `curve`
            (the mean spectrum).
        channels: of the array.
    """

    title: str
    kind: Literal["bands", "radar", "curve"]
    channels: tuple[int, ...]


def panels(info: ModalityInfo) -> list[Panel]:
    """Choose the pictures that the bands of a modality allow, by wavelength and polarisation.

    True colour needs bands near 660, 560 and 480 nm, the short-wave infrared composite bands near
    2200, 860 and 665 nm. Without either, three bands spread over the array are shown, or one.
    """
    names = info.bands
    wavelengths = [band.wavelength_nm for band in info.table]
    radar = _radar(info)
    if radar is not None:
        co, cross = (names[k] for k in radar)
        return [Panel(f"radar: {co} {cross} {co}-{cross}", "radar", radar)]
    found = []
    for title, windows in (("true colour", _TRUE), ("SWIR composite", _SWIR)):
        channels = [_nearest(wavelengths, window) for window in windows]
        if None not in channels and len(set(channels)) == 3:
            chosen = tuple(k for k in channels if k is not None)
            found.append(Panel(_title(title, names, chosen), "bands", chosen))
    if not found:
        last = len(names) - 1
        chosen = (last, last // 2, 0) if last >= 2 else (0,)
        title = "three bands" if last >= 2 else info.table[0].unit
        found.append(Panel(_title(title, names, chosen), "bands", chosen))
    if len(names) >= CURVES and None not in wavelengths:
        span = f"{min(w or 0 for w in wavelengths):.0f} to {max(w or 0 for w in wavelengths):.0f}"
        found.append(Panel(f"mean spectrum, {span} nm", "curve", tuple(range(len(names)))))
    return found


def picture(array: np.ndarray, info: ModalityInfo, panel: Panel) -> np.ndarray:
    """Turn an array into colours.

    Bands are stretched between the 2nd and 98th percentile of the dataset, so that brightness can
    be compared between samples; of this array where the dataset has no statistics.

    Args:
        array: `[C, H, W]` or `[T, C, H, W]` (the first time is shown), as stored.
        info: its bands, scaling, no-data and statistics.
        panel: of `panels(info)`, no curve.

    Returns:
        `[H, W, 4]` red, green, blue and opacity in 0 to 1; pixels without data are transparent.
    """
    image = array[0] if array.ndim == 4 else array
    step = -(-max(image.shape[-2:]) // LARGEST)
    physical = to_physical(image[:, ::step, ::step], info, panel.channels)
    ranges = [_range(info, physical[i], k) for i, k in enumerate(panel.channels)]
    if panel.kind == "radar":
        if info.table[panel.channels[0]].unit != "dB":  # backscatter as it is: to decibels
            physical = _decibel(physical)
            ranges = [(float(_decibel(low)), float(_decibel(high))) for low, high in ranges]
        physical = np.concatenate([physical, physical[:1] - physical[1:]])
        ranges.append(_contrast(info, physical[2], panel))
    stretched = np.stack(
        [
            np.clip((plane - low) / max(high - low, 1e-12), 0, 1)
            for plane, (low, high) in zip(physical, ranges, strict=True)
        ]
    )
    valid = np.isfinite(stretched).all(axis=0)
    colours = np.nan_to_num(stretched if len(stretched) == 3 else stretched.repeat(3, axis=0))
    return np.moveaxis(np.concatenate([colours, valid[None].astype(np.float64)]), 0, -1)


def spectrum(array: np.ndarray, info: ModalityInfo) -> tuple[np.ndarray, np.ndarray]:
    """Return wavelengths in nanometres, rising, and the mean of each band over valid pixels.

    Where bands are missing between two neighbours (water vapour), a NaN stands between them, so
    that a line drawn through the points has a gap.
    """
    image = array[0] if array.ndim == 4 else array
    nm = np.array([band.wavelength_nm for band in info.table], np.float64)
    mean = np.full(len(nm), np.nan)
    for k in range(len(nm)):  # one band at a time: a float64 copy of the cube may not fit
        values = to_physical(image, info, (k,))
        if np.isfinite(values).any():
            mean[k] = np.nanmean(values)
    order = np.argsort(nm)
    nm, mean = nm[order], mean[order]
    steps = np.diff(nm)
    gaps = np.flatnonzero(steps > 4 * np.median(steps)) + 1
    return np.insert(nm, gaps, np.nan), np.insert(mean, gaps, np.nan)


def to_physical(image: np.ndarray, info: ModalityInfo, channels: Sequence[int]) -> np.ndarray:
    """Return some bands in physical units, float64, NaN where there is no data."""
    scale, offset = info.scaling
    result = image[list(channels)].astype(np.float64) * scale + offset
    for place, k in enumerate(channels):
        code = None if info.nodata is None else info.nodata[k]
        if code is not None and image.dtype.kind in "iu":
            result[place][image[k] == code] = np.nan
    return result


def _radar(info: ModalityInfo) -> tuple[int, int] | None:
    polarisations = [band.polarisation for band in info.table]
    for co, cross in zip(_CO, _CROSS, strict=True):
        if co in polarisations and cross in polarisations:
            return polarisations.index(co), polarisations.index(cross)
    return None


def _nearest(wavelengths: Sequence[float | None], window: _Window) -> int | None:
    low, wanted, high = window
    inside = [(abs(w - wanted), k) for k, w in enumerate(wavelengths) if w and low <= w <= high]
    return min(inside)[1] if inside else None


def _title(what: str, names: Sequence[str], channels: Sequence[int]) -> str:
    return f"{what}: " + " ".join(names[k] for k in channels)


def _range(info: ModalityInfo, plane: np.ndarray, k: int) -> tuple[float, float]:
    """Values that become black and white."""
    ends = [info.statistics.get(name, []) for name in ("p2", "p98")]
    if all(len(end) > k and end[k] is not None for end in ends):
        return float(ends[0][k]), float(ends[1][k])
    return _own_range(plane)


def _own_range(plane: np.ndarray) -> tuple[float, float]:
    values = plane[np.isfinite(plane)]
    if not len(values):
        return 0.0, 1.0
    low, high = np.percentile(values, (2, 98))
    return float(low), float(high)


def _contrast(info: ModalityInfo, plane: np.ndarray, panel: Panel) -> tuple[float, float]:
    """Range of the difference of two polarisations in dB: around that of their medians."""
    middle = info.statistics.get("p50", [])
    if len(middle) > max(panel.channels):
        both = np.array([middle[k] for k in panel.channels], np.float64)
        if info.table[panel.channels[0]].unit != "dB":
            both = _decibel(both)
        centre = float(both[0] - both[1])
        if np.isfinite(centre):
            return centre - _CONTRAST_DB, centre + _CONTRAST_DB
    return _own_range(plane)


def _decibel(values: np.ndarray | float) -> np.ndarray:
    return 10 * np.log10(np.maximum(values, 1e-10))
