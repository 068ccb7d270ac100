"""Frozen features: extracted once, kept in the cache folder the user names.

A cache entry is named by a hash over the weights, the benchmark and its data, and the settings;
nothing in it is ever matched by file name or date.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fm.console import progress
from fm.errors import FMError
from fm.files import write_atomic
from probes import readout
from probes.benchmarks.base import Data, Inputs

VERSION = 2
"""Raised when the same inputs would give other features."""


def model_hash(model: Any) -> str:
    """Return the SHA-256 of a model: its tensors, bands, normalisation and architecture."""
    digest = hashlib.sha256()
    about = {
        "class": type(model).__qualname__,
        "architecture": getattr(model, "architecture", None),
        "bands": {m: [str(b) for b in bands] for m, bands in model.bands.items()},
        "normalisation": {k: str(v) for k, v in getattr(model, "normalisation", {}).items()},
        "scaling": getattr(model, "scaling", None),
    }
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def prepare(model: Any, inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Turn inputs into tensors that are a whole number of the model's tokens.

    A grid that does not divide into tokens is extended to the right and below with invalid
    pixels, which `encode` ignores.
    """
    sizes = _token_sizes(model)
    pixels, valid = {}, {}
    extended = False
    for modality, array in inputs.pixels.items():
        mask = inputs.valid[modality] if inputs.valid is not None else None
        step = sizes.get(modality, 1)
        down, right = -array.shape[-2] % step, -array.shape[-1] % step
        if down or right:
            extended = True
            if mask is None:
                mask = np.ones((len(array), *array.shape[-2:]), bool)
            array = np.pad(array, ((0, 0), (0, 0), (0, down), (0, right)))
            mask = np.pad(mask, ((0, 0), (0, down), (0, right)))
        pixels[modality] = torch.from_numpy(np.ascontiguousarray(array))
        if mask is not None:
            valid[modality] = torch.from_numpy(np.ascontiguousarray(mask))
    if inputs.valid is None and not extended:
        return pixels, None
    for modality, x in pixels.items():
        valid.setdefault(modality, torch.ones(len(x), *x.shape[-2:], dtype=torch.bool))
    return pixels, valid


def _token_sizes(model: Any) -> dict[str, int]:
    groups = getattr(model, "groups", {})
    return {m.modality: m.patch for group in groups.values() for m in group.members}


def encode(
    model: Any,
    inputs: Inputs,
    bands: Mapping[str, tuple[str, ...]],
    scaling: Mapping[str, tuple[float, float]],
    words: Sequence[str] = ("pooled",),
) -> Tensor:
    """Return the features [B, D] of some inputs; gradients flow if they are enabled.

    Args:
        model: has `encode`.
        inputs: pixels and validity.
        bands: modality to band names.
        scaling: of stored integers.
        words: the parts of the feature vector, see `probes.readout`.
    """
    pixels, valid = prepare(model, inputs)
    options: dict[str, Any] = {"hidden": True} if readout.needs_hidden(words) else {}
    made = model.encode(pixels, bands=bands, valid=valid, scaling=scaling, **options)
    return readout.read(made, words, readout.middle(model, inputs.pixels))


def extract(
    model: Any,
    data: Data,
    *,
    benchmark: str,
    cache: Path | None = None,
    batch_size: int = 256,
    precision: str = "float32",
    words: Sequence[str] = ("pooled",),
) -> np.ndarray:
    """Return the features of every sample of a benchmark.

    Args:
        model: has `encode` and `bands`; it is put into `eval()`.
        data: the benchmark, opened.
        benchmark: its full name.
        cache: folder for features; None keeps nothing.
        batch_size: samples at once.
        precision: `float32`, or `bfloat16` autocast.
        words: the parts of the feature vector, see `probes.readout`.

    Returns:
        [N, D] float32.

    Raises:
        FMError: a feature is NaN or infinite.
    """
    settings = {
        "version": VERSION,
        "weights": model_hash(model),
        "benchmark": benchmark,
        "manifest": data.manifest_hash,
        "readout": list(words),
        "precision": precision,
    }
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    path = cache / f"features-{name[:32]}.npz" if cache is not None else None
    if path is not None:
        kept = _read(path, settings, len(data.targets))
        if kept is not None:
            return kept
    model.eval()
    parts = []
    total = len(data.targets)
    reduced = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    with torch.inference_mode(), reduced, progress("encoding", total) as bar:
        for start in range(0, total, batch_size):
            index = np.arange(start, min(start + batch_size, total))
            part = encode(model, data.read(index), data.bands, data.scaling, words)
            parts.append(part.float().cpu().numpy())
            bar.advance(len(index))
    features = np.concatenate(parts)
    if not np.isfinite(features).all():
        raise FMError(f"{benchmark}: the model gives NaN or infinite features; it cannot be scored")
    if path is not None:
        stream = io.BytesIO()
        np.savez(stream, features=features, settings=np.array(json.dumps(settings)))
        write_atomic(path, stream.getvalue())
    return features


def _read(path: Path, settings: dict[str, Any], count: int) -> np.ndarray | None:
    """Read a cache entry; None when it is absent, damaged or of something else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            same = json.loads(str(stored["settings"])) == settings
            features: np.ndarray = stored["features"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return features if same and len(features) == count else None
