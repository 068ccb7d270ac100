"""Weights of torchgeo: the names say bands and normaliser, the file comes from the user.

Two things torchgeo's tables do not say are taken from elsewhere: the architecture from the class of
the weights (`meta["model"]` of the ResNet-152 of Satlas says resnet50), the units from the numbers
(a divisor of some thousands is of stored reflectance, one of 255 of 8 bits).
"""

import os
from typing import Any

import numpy as np

from fm.errors import UsageError
from fm.normalize import Normalisation
from fm.sensors import Band, sensor
from probes.backbones.adapter import Adapter, Intake, rgb
from probes.backbones.of_timm import adapter, build, parsed

ARCHITECTURES = {
    "ResNet18_Weights": "resnet18",
    "ResNet50_Weights": "resnet50",
    "ResNet152_Weights": "resnet152",
    "ViTSmall16_Weights": "vit_small_patch16_224",
    "ViTBase16_Weights": "vit_base_patch16_224",
    "ViTLarge16_Weights": "vit_large_patch16_224",
    "ViTHuge14_Weights": "vit_huge_patch14_224",
    "ViTSmall14_DINOv2_Weights": "vit_small_patch14_dinov2",
    "ViTBase14_DINOv2_Weights": "vit_base_patch14_dinov2",
}
"""Class of the weights to timm's name: networks that are timm's own."""

SENSORS = {
    "SENTINEL2": "sentinel2-l1c",
    "SENTINEL1": "sentinel1-grd",
    "LANDSAT_TM_TOA": "landsat5-tm-l1",
    "LANDSAT_ETM_TOA": "landsat7-etm-l1",
    "LANDSAT_ETM_SR": "landsat7-etm-l2",
    "LANDSAT_OLI_TIRS_TOA": "landsat8-oli-l1",
    "LANDSAT_OLI_SR": "landsat8-oli-l2",
}
"""Beginning of the weights' name to the sensor whose bands it lists."""
TOLERANCE_NM = 20.0
"""Centres of one band on two instruments; B08 and B8A of Sentinel-2 are 32 nm apart."""


def load_torchgeo(
    name: str, *, file: str | os.PathLike[str] | None, seed: int = 0, bands: str | None = None
) -> Adapter:
    """Load a network of torchgeo with the weights of a file, or (None) with random ones.

    Args:
        name: `ResNet50_Weights.SENTINEL2_ALL_MOCO`.
        file: the released weights, as the user has them.
        seed: of random weights.
        bands: where torchgeo does not list them.

    Raises:
        UsageError: no such weights, a network that is not timm's, or bands nobody states.
        FMError: the file does not fit.
    """
    from torchgeo.models import get_weight

    try:
        weights: Any = get_weight(name)
    except ValueError:
        raise UsageError(
            f"torchgeo has no weights {name!r}; name them as ResNet50_Weights.SENTINEL2_ALL_MOCO, "
            f"see torchgeo.models"
        ) from None
    kind = type(weights).__name__
    if kind not in ARCHITECTURES:
        raise UsageError(
            f"torchgeo:{name}: {kind} is of none of {', '.join(ARCHITECTURES)}; convert the file "
            f"with `fm models convert` if it is of a family of docs/foreign.md"
        )
    meta = weights.meta
    listed = _bands(weights.name, meta)
    channels = parsed(bands) if bands is not None else listed
    if not channels:
        raise UsageError(
            f"torchgeo:{name}: torchgeo does not list its {meta['in_chans']} bands in a sensor we "
            f"know; give --bands SENSOR:BAND,BAND in their order"
        )
    if len(channels) != meta["in_chans"]:
        raise UsageError(
            f"torchgeo:{name}: {len(channels)} bands are named, the weights take {meta['in_chans']}"
        )
    network, sizes = build(ARCHITECTURES[kind], len(channels), seed)
    said: dict[str, Any] = {}
    if bands is not None and not _alike(channels, listed):
        known = f"torchgeo lists {', '.join(meta.get('bands') or ()) or 'none'}"
        text = f"channels are as declared by --bands {bands}, {known}"
        said = {"declared": bands, "doubt": f"WARNING: {text}" if listed else text}
    intake = Intake(channels, *normaliser(weights.transforms, channels), **{**sizes, **said})
    return adapter(
        network,
        intake,
        name=name,
        source=f"torchgeo:{name}",
        licence="unknown",
        file=file,
        seed=seed,
        again=lambda other: load_torchgeo(name, file=None, seed=other, bands=bands),
    )


def _bands(weights: str, meta: dict[str, Any]) -> tuple[Band, ...]:
    listed = [str(band) for band in meta.get("bands") or ()]
    if listed == ["R", "G", "B"]:
        return rgb()
    known = [value for key, value in SENSORS.items() if weights.startswith(key)]
    if not known or not listed:
        return ()
    names = {band.name for band in sensor(known[0]).bands}
    spelt = [name if name in names else _padded(name) for name in listed]
    return sensor(known[0]).select(spelt) if set(spelt) <= names else ()


def _alike(declared: tuple[Band, ...], listed: tuple[Band, ...]) -> bool:
    """Say whether each channel's bands measure the same; names differ between sensors."""
    if len(declared) != len(listed):
        return False
    for one, other in zip(declared, listed, strict=True):
        if one.wavelength_nm is None or other.wavelength_nm is None:
            if one.name != other.name:
                return False
        elif abs(one.wavelength_nm - other.wavelength_nm) > TOLERANCE_NM:
            return False
    return True


def _padded(name: str) -> str:
    """`B2` as `B02`, `B8a` as `B8A`."""
    name = name.upper()
    return f"B0{name[1]}" if len(name) == 2 and name[1].isdigit() else name


def normaliser(transforms: Any, bands: tuple[Band, ...]) -> tuple[Normalisation | None, str | None]:
    """Read all `Normalize` steps of torchgeo's transforms as one shift and scale a band.

    Returns:
        the normalisation and its unit (`Intake.unit`); None twice where the unit cannot be told.
    """
    units = {band.unit for band in bands}
    steps = [
        (np.asarray(step.mean, float).ravel(), np.asarray(step.std, float).ravel())
        for step in (transforms if hasattr(transforms, "__iter__") else [transforms])
        if type(step).__name__ == "Normalize"
    ]
    shift, scale = np.zeros(len(bands)), np.ones(len(bands))
    for mean, std in steps:  # (x - shift) / scale, then (y - mean) / std
        shift, scale = shift + scale * mean, scale * std
    if units == {"dB"}:
        return Normalisation("zscore", tuple(shift), tuple(scale)), "dB"
    if not steps:
        return None, None
    first = steps[0][1]
    if first.min() <= 300 < first.max():
        return None, None  # Satlas: 8-bit colours beside stored reflectance
    if first.max() > 300 and units == {"reflectance"}:
        return Normalisation("zscore", tuple(shift / 1e4), tuple(scale / 1e4)), "reflectance"
    if first.max() <= 300:
        return Normalisation("zscore", tuple(shift / 255), tuple(scale / 255)), "display"
    return None, None
