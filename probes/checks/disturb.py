"""Ways to disturb test images: lost bands, noise, gain, a cloud, other pixel sizes, other bands.

Everything works on physical values in float32. What a band is set to, how much noise it gets and
how bright a cloud is comes from the training split, never from test images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fm.sensors import Band, sensor, sensor_of_modality
from fm.spectral import interpolation, response, supported
from probes.benchmarks.base import Inputs
from probes.features.pixels import Moments, physical

NOISE = (0.1, 0.3)
GAINS = (0.8, 1.2)
CLOUD = 0.25
"""Share of the image's area under the cloud."""
FEW = 16
"""Up to so many bands each is dropped alone; of more, random shares."""
SHARES = (0.1, 0.5)
RESPONSES = ("enmap-l2a", "sentinel2-l2a")
"""Sensors whose bands stand in for a hyperspectral one's."""
HYPERSPECTRAL = 30
"""A modality of at least so many bands, all with wavelengths."""

Draws = Sequence[np.random.Generator]
Change = Callable[[Inputs, Draws], Inputs]
"""Inputs in physical float32 and a generator a sample to the disturbed inputs."""
Bands = Mapping[str, tuple[Band, ...]]


@dataclass(frozen=True)
class Disturbance:
    """One way to disturb images.

    Attributes:
        name: short, such as `drop-B08`.
        how: in a few words.
        change: does it.
        dropped: modality to the channels that are lost; `change` sets them to the training mean,
            and a model that takes any bands can be given the others alone.
    """

    name: str
    how: str
    change: Change
    dropped: dict[str, tuple[int, ...]] = field(default_factory=dict)


def as_physical(inputs: Inputs, scaling: Mapping[str, tuple[float, float]]) -> Inputs:
    """Turn stored numbers into physical float32; pixels that are not valid become 0."""
    pixels = {}
    for modality, array in inputs.pixels.items():
        x = physical(array, scaling[modality])
        if inputs.valid is not None:
            x = np.where(inputs.valid[modality][:, None], x, 0)
        pixels[modality] = x.astype(np.float32)
    return Inputs(pixels, inputs.valid)


def disturbances(bands: Bands, levels: Mapping[str, Moments], seed: int) -> list[Disturbance]:
    """List what is done to a benchmark with these bands.

    Args:
        bands: modality to the bands of its arrays.
        levels: statistics of the training split.
        seed: of the bands that are lost together.
    """
    found = _drops(bands, levels, seed)
    for share in NOISE:
        how = f"Gaussian noise of {share:g} deviations of each band in the training split"
        found.append(Disturbance(f"noise-{share:g}", how, _noise(levels, share)))
    for factor in GAINS:
        how = f"every value (of dB, the power) times {factor:g}"
        found.append(Disturbance(f"gain-{factor:g}", how, _gain(bands, factor)))
    optical = {m for m, items in bands.items() if all(b.polarisation is None for b in items)}
    if optical:
        how = f"a square of {CLOUD:.0%} of the image as bright as the brightest training pixel"
        found.append(Disturbance(f"cloud-{CLOUD:g}", how, _cloud(optical, levels)))
    for scale, name, word in ((0.5, "gsd-x2", "half"), (2.0, "gsd-x0.5", "twice")):
        how = f"the same ground in {word} the pixels a side, the model is not told"
        found.append(Disturbance(name, how, _resample(scale)))
    for name in RESPONSES:
        if matrices := _responses(bands, name):
            how = f"as {name} sees it, brought back to the sensor's bands by wavelength"
            found.append(Disturbance(f"response-{name}", how, _mix(matrices)))
    return found


def _drops(bands: Bands, levels: Mapping[str, Moments], seed: int) -> list[Disturbance]:
    """Each modality of several, each band of few, random shares of many."""
    lost: dict[str, dict[str, tuple[int, ...]]] = {}
    if len(bands) > 1:
        lost |= {f"drop-{m}": {m: tuple(range(len(items)))} for m, items in bands.items()}
    places = [(m, i) for m, items in bands.items() for i in range(len(items))]
    if 1 < len(places) <= FEW:
        lost |= {f"drop-{bands[m][i].name}": {m: (i,)} for m, i in places}
    elif len(places) > FEW:
        order = np.random.Generator(np.random.PCG64([seed, 6])).permutation(len(places))
        for share in SHARES:
            chosen = [places[k] for k in sorted(order[: round(share * len(places))].tolist())]
            lost[f"drop-{share:.0%}-of-bands"] = {
                m: tuple(i for other, i in chosen if other == m) for m in {m: 0 for m, _ in chosen}
            }

    def change(dropped: Mapping[str, tuple[int, ...]]) -> Change:
        def to_mean(inputs: Inputs, draws: Draws) -> Inputs:
            pixels = {m: x.copy() for m, x in inputs.pixels.items()}
            for modality, channels in dropped.items():
                for i in channels:
                    pixels[modality][:, i] = levels[modality].mean[i]
            return Inputs(pixels, inputs.valid)

        return to_mean

    how = "lost"
    return [Disturbance(name, how, change(where), where) for name, where in lost.items()]


def _noise(levels: Mapping[str, Moments], share: float) -> Change:
    def change(inputs: Inputs, draws: Draws) -> Inputs:
        pixels = {}
        for modality, x in inputs.pixels.items():
            noise = np.stack([draw.standard_normal(x.shape[1:], np.float32) for draw in draws])
            pixels[modality] = _add(x, noise * (share * levels[modality].spread)[:, None, None])
        return Inputs(pixels, inputs.valid)

    return change


def _gain(bands: Bands, factor: float) -> Change:
    def change(inputs: Inputs, draws: Draws) -> Inputs:
        pixels = {}
        for modality, x in inputs.pixels.items():
            power = np.array([b.unit == "dB" for b in bands[modality]])
            times = np.where(power, 1.0, factor)[:, None, None]
            plus = np.where(power, 10 * np.log10(factor), 0.0)[:, None, None]
            pixels[modality] = (x * times + plus).astype(np.float32)
        return Inputs(pixels, inputs.valid)

    return change


def _cloud(optical: set[str], levels: Mapping[str, Moments]) -> Change:
    def change(inputs: Inputs, draws: Draws) -> Inputs:
        corner = np.stack([draw.random(2) for draw in draws])
        pixels = dict(inputs.pixels)
        for modality in optical & set(pixels):
            x = pixels[modality].copy()
            for n, place in enumerate(corner):
                box = []
                for at, side in zip(place, x.shape[-2:], strict=True):
                    # the same ground on every grid: places in shares of the side
                    size = max(1, round(side * CLOUD**0.5))
                    start = round(float(at) * (side - size))
                    box.append(slice(start, start + size))
                x[n][:, *box] = levels[modality].high[:, None, None]
            pixels[modality] = x
        return Inputs(pixels, inputs.valid)

    return change


def _resample(scale: float) -> Change:
    def change(inputs: Inputs, draws: Draws) -> Inputs:
        pixels, valid = {}, {}
        for modality, x in inputs.pixels.items():
            size = [max(1, round(side * scale)) for side in x.shape[-2:]]
            known = np.ones((len(x), *x.shape[-2:]), bool)
            if inputs.valid is not None:
                known = inputs.valid[modality]
            weight = _scaled(known[:, None].astype(np.float32), size)
            # means over the valid pixels alone
            x = _scaled(np.where(known[:, None], x, 0), size)
            pixels[modality] = np.where(weight > 0, x / np.where(weight > 0, weight, 1), 0)
            valid[modality] = weight[:, 0] >= 0.5
        return Inputs(pixels, None if inputs.valid is None else valid)

    return change


def _scaled(x: np.ndarray, size: list[int]) -> np.ndarray:
    mode = "area" if size[0] <= x.shape[-2] else "bilinear"
    align = None if mode == "area" else False
    made = functional.interpolate(torch.from_numpy(x), size, mode=mode, align_corners=align)
    return np.asarray(made.numpy())


def _responses(bands: Bands, name: str) -> dict[str, NDArray[np.float32]]:
    """Modality to [C, C]: another sensor's bands from ours, and ours from those by wavelength."""
    target = [b for b in sensor(name).bands if b.wavelength_nm and b.fwhm_nm]
    found = {}
    for modality, items in bands.items():
        described = all(b.wavelength_nm and b.fwhm_nm for b in items)
        if (
            len(items) < HYPERSPECTRAL
            or not described
            or sensor(name).platform in _platforms(items)
        ):
            continue
        kept = [target[i] for i in supported(items, target)]
        kept.sort(key=lambda b: float(b.wavelength_nm or 0))
        there = response(items, kept, quiet=True)
        at = np.array([float(b.wavelength_nm or 0) for b in kept])
        wanted = np.array([float(b.wavelength_nm or 0) for b in items])
        found[modality] = (interpolation(at, wanted) @ there).astype(np.float32)
    return found


def _platforms(items: Sequence[Band]) -> set[str]:
    return {sensor_of_modality(band.modality).platform for band in items}


def _mix(matrices: Mapping[str, NDArray[np.float32]]) -> Change:
    def change(inputs: Inputs, draws: Draws) -> Inputs:
        pixels = {
            m: np.einsum("oc,nchw->nohw", matrices[m], x, optimize=True) if m in matrices else x
            for m, x in inputs.pixels.items()
        }
        return Inputs(pixels, inputs.valid)

    return change


def _add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x + y).astype(np.float32)
