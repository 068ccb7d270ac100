"""What an exported file says of its inputs and of where it comes from."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fm.card import Card
from fm.export.graph import METADATA, Signature


def without_cells(card: Card) -> dict[str, Any]:
    """Return a card for the inside of a file: without the list of places it saw, which is long."""
    values = card.to_dict()
    values["data"] = _short(values["data"])
    return values


def _short(data: Mapping[str, Any]) -> dict[str, Any]:
    """Leave the cells out, those of the parts of a mixture too."""
    return {
        key: _short(value) if isinstance(value, Mapping) else value
        for key, value in data.items()
        if key != "cells"
    }


def described(signature: Signature) -> dict[str, Any]:
    """Return inputs and outputs as plain values."""
    model, shapes = signature.model, signature.shapes()
    stored = signature.values == "stored"
    inputs: dict[str, Any] = {}
    for name in signature.names():
        if name in METADATA:
            unit = "degrees (lon, lat)" if name == "lonlat" else "seconds since 1970 UTC"
            inputs[name] = {
                "dtype": "float64",
                "shape": shapes[name],
                "unit": f"{unit}, NaN where unknown",
            }
            continue
        scale, offset = model.scaling[name]
        bands = model.bands[name]
        units = sorted({band.unit for band in bands})
        inputs[name] = {
            "dtype": "int32" if stored else "float32",
            "shape": shapes[name],
            "unit": "stored numbers" if stored else ", ".join(units),
            "scale": scale if stored else 1.0,
            "offset": offset if stored else 0.0,
            "bands": [asdict(band) for band in bands],
            "normalisation": model.normalisation[name].to_dict(),
            "normalised_inside": True,
        }
    return {
        "values": signature.values,
        "tokens": None if signature.tokens is None else list(signature.tokens),
        "inputs": inputs,
        "outputs": {
            "pooled": ["batch", model.width],
            "tokens": ["batch", "tokens", model.width],
        },
    }


def inputs_in_words(signature: Signature) -> list[str]:
    """Return what a person must know of the inputs, a sentence each."""
    stored = signature.values == "stored"
    said = [
        "Pixels are the stored integers of the product as int32; scale and offset are applied "
        "inside."
        if stored
        else "Pixels are physical float32: reflectance as a fraction, radar in dB.",
        "Normalisation is inside; every pixel is taken as valid.",
    ]
    for name, shape in signature.shapes().items():
        words = ", ".join(str(part) for part in shape)
        bands = signature.model.bands.get(name)
        listed = f": {', '.join(band.name for band in bands)}" if bands is not None else ""
        said.append(f"`{name}` is [{words}]{listed}.")
    if signature.model.metric:
        said.append("Images have the sampling distance of the bands.")
    return said
