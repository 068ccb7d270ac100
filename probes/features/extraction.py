"""Frozen features: extracted once, kept in the cache folder the user names.

A cache entry is named by a hash over the weights, the benchmark and its data, and the settings;
nothing in it is ever matched by file name or date.
"""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fm.console import progress
from fm.errors import FMError
from fm.files import write_atomic
from fm.models import Backbone
from probes.backbones.adapter import Adapter
from probes.backbones.cost import count
from probes.backbones.feed import ForeignFeed, OwnFeed, make_feed
from probes.benchmarks.base import Data, Inputs
from probes.features import readout, workers
from probes.settings.features import Axes

VERSION = 3
"""Raised when the same inputs would give other features."""


@dataclass
class Account:
    """What extracting features was and cost; filled in by `extract`.

    Attributes:
        axes: as `Result.axes`; None until then, and where the model has no axes.
        notes: what a reader of the numbers has to know.
        cost: as `Result.cost`.
    """

    axes: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    cost: dict[str, Any] | None = None


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
    update(digest, model.state_dict())
    return digest.hexdigest()


def update(digest: "hashlib._Hash", state: Mapping[str, Tensor]) -> None:
    """Add tensors to a digest: names, types, shapes and bytes."""
    for name, tensor in sorted(state.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())


def prepare(model: Any, inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Turn inputs into tensors on the model's device, a whole number of its tokens.

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
                mask = np.ones((*array.shape[:-3], *array.shape[-2:]), bool)
            edge = ((0, down), (0, right))
            array = np.pad(array, ((0, 0),) * (array.ndim - 2) + edge)
            mask = np.pad(mask, ((0, 0),) * (mask.ndim - 2) + edge)
        pixels[modality] = torch.from_numpy(np.ascontiguousarray(array))
        if mask is not None:
            valid[modality] = torch.from_numpy(np.ascontiguousarray(mask))
    there = device_of(model)
    pixels = {modality: x.to(there) for modality, x in pixels.items()}
    if inputs.valid is None and not extended:
        return pixels, None
    for modality, x in pixels.items():
        shape = (*x.shape[:-3], *x.shape[-2:])
        valid.setdefault(modality, torch.ones(shape, dtype=torch.bool))
    return pixels, {modality: mask.to(there) for modality, mask in valid.items()}


def device_of(model: Any) -> torch.device:
    """Return where a model's weights are; the CPU of what has none."""
    parameters = model.parameters() if isinstance(model, torch.nn.Module) else iter(())
    first = next(parameters, None)
    return torch.device("cpu") if first is None else first.device


def told(model: Any, inputs: Inputs) -> dict[str, Tensor]:
    """What a model is told of the times of some inputs, as options of `encode`.

    Foreign networks take no times, and our backbones pass over what they were not built for.
    """
    if inputs.times is None or not isinstance(model, Backbone):
        return {}
    times = torch.from_numpy(inputs.times).to(device_of(model))
    return {"times" if times.ndim == 2 else "time": times}


def _token_sizes(model: Any) -> dict[str, int]:
    groups = getattr(model, "groups", {})
    return {m.modality: m.patch for group in groups.values() for m in group.members}


def encode(
    model: Any,
    inputs: Inputs,
    bands: Mapping[str, tuple[str, ...]],
    scaling: Mapping[str, tuple[float, float]],
    words: Sequence[str] = ("pooled",),
    feed: ForeignFeed | OwnFeed | None = None,
) -> Tensor:
    """Return the features [B, D] of some inputs; gradients flow if they are enabled.

    Args:
        model: has `encode`.
        inputs: pixels and validity.
        bands: modality to band names.
        scaling: of stored integers.
        words: the parts of the feature vector, see `probes.features.readout`.
        feed: how the pixels come to the model; None is the model's own way.
    """
    options: dict[str, Any] = {"hidden": True} if readout.needs_hidden(words) else {}
    options |= told(model, inputs)
    if isinstance(feed, ForeignFeed):
        model = model.bind(feed)
    elif feed is not None and not feed.plain:
        inputs = feed.inputs(inputs)
        options |= feed.options()
    pixels, valid = prepare(model, inputs)
    made = model.encode(pixels, bands=bands, valid=valid, scaling=scaling, **options)
    if isinstance(model, Adapter):
        places = {name: (rows // 2, columns // 2) for name, (rows, columns) in made.grid.items()}
    else:
        places = readout.middle(model, inputs.pixels)
    return readout.read(made, words, places)


def extract(
    model: Any,
    data: Data,
    *,
    benchmark: str,
    cache: Path | None = None,
    batch_size: int = 256,
    precision: str = "float32",
    words: Sequence[str] = ("pooled",),
    axes: Axes | None = None,
    processes: int = 1,
    account: Account | None = None,
) -> np.ndarray:
    """Return the features of every sample of a benchmark.

    Args:
        model: has `encode` and `bands`; it is put into `eval()`.
        data: the benchmark, opened; samples that are series are given to the model as series.
        benchmark: its full name.
        cache: folder for features; None keeps nothing.
        batch_size: samples at once.
        precision: `float32`, or `bfloat16` autocast.
        words: the parts of the feature vector, see `probes.features.readout`.
        axes: how pixels come to the model; None is the model's own way.
        processes: that share the batches (`probes.features.workers`); features do not depend on it.
        account: is told axes, notes and cost.

    Returns:
        [N, D] float32.

    Raises:
        UsageError: axes that the model or the data cannot have.
        FMError: a feature is NaN or infinite.
    """
    account = account if account is not None else Account()
    axes = axes or Axes()
    feed = None
    if isinstance(model, Adapter | Backbone) or axes != Axes():
        feed = make_feed(model, data.single(), axes, benchmark=benchmark)
        account.axes, account.notes = feed.record, list(feed.notes)
    settings = {
        "version": VERSION,
        "weights": model_hash(model),
        "benchmark": benchmark,
        "manifest": data.manifest_hash,
        "readout": list(words),
        "precision": precision,
        "axes": feed.record if feed is not None else None,
    }
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    path = cache / f"features-{name[:32]}.npz" if cache is not None else None
    model.eval()

    def one(index: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            part = encode(model, data.read(index), data.bands, data.scaling, words, feed)
        return part.float().cpu().numpy()

    reduced = precision == "bfloat16"
    total = len(data.targets)
    account.cost = count(model, lambda: one(np.arange(1)))
    if path is not None:
        kept = _read(path, settings, total)
        if kept is not None:
            account.cost["samples_per_second"] = kept[1]
            return kept[0]
    batches = [
        np.arange(start, min(start + batch_size, total)) for start in range(0, total, batch_size)
    ]
    begun = time.perf_counter()
    with progress("encoding", total) as bar:
        features = workers.rows(one, batches, processes, bar.advance)
    speed = round(total / (time.perf_counter() - begun), 2)
    account.cost |= {"samples_per_second": speed, "processes": processes}
    if not np.isfinite(features).all():
        raise FMError(f"{benchmark}: the model gives NaN or infinite features; it cannot be scored")
    if path is not None:
        stream = io.BytesIO()
        np.savez(
            stream,
            features=features,
            settings=np.array(json.dumps(settings)),
            speed=np.array(speed),
        )
        write_atomic(path, stream.getvalue())
    return features


def _read(
    path: Path, settings: dict[str, Any], count: int
) -> tuple[np.ndarray, float | None] | None:
    """Read a cache entry and its speed; None when it is absent, damaged or of something else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            same = json.loads(str(stored["settings"])) == settings
            features: np.ndarray = stored["features"]
            speed = float(stored["speed"]) if "speed" in stored else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return (features, speed) if same and len(features) == count else None
