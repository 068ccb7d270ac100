"""A look at the first samples before a model embeds them: wrong units are refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fm.console import note
from fm.models import Backbone
from probes.backbones.feed import make_feed
from probes.backbones.look import units
from probes.benchmarks.base import Data, Inputs
from probes.settings.features import Axes


def doubts(
    model: Any,
    inputs: Inputs,
    bands: Mapping[str, tuple[str, ...]],
    scaling: Mapping[str, tuple[float, float]],
    *,
    where: str,
) -> list[str]:
    """Look at samples as a probe does: wrong units are refused, odd values are told and returned.

    Args:
        model: has `encode`.
        inputs: some samples, single images.
        bands: modality to band names.
        scaling: of stored integers.
        where: the dataset or scene, for errors.

    Raises:
        UsageError: values that cannot be what their unit says.
    """

    def read(index: np.ndarray) -> Inputs:
        valid = None if inputs.valid is None else {m: v[index] for m, v in inputs.valid.items()}
        return Inputs({m: x[index] for m, x in inputs.pixels.items()}, valid)

    count = len(next(iter(inputs.pixels.values())))
    blank = np.zeros(count, np.int64)
    data = Data(
        read=read,
        targets=blank,
        split=np.full(count, "train"),
        unit=blank,
        shards=np.full(count, ""),
        classes=(),
        bands=dict(bands),
        scaling=dict(scaling),
        dataset=where,
        manifest_hash="",
        folder=Path(where),
    )
    found = units(data, where)
    if isinstance(model, Backbone):
        found += _untold(model, inputs)
        found += make_feed(model, data, Axes(), benchmark=where).notes
    for text in found:
        note(text)
    return found


def _untold(model: Backbone, inputs: Inputs) -> list[str]:
    """What a model would like to know beside pixels and is not told here."""
    kinds = getattr(getattr(model, "metadata", None), "kinds", ())
    missing = [kind for kind in kinds if kind != "time" or inputs.times is None]
    if not missing:
        return []
    return [
        f"the model also takes {' and '.join(missing)}; none is told, which it counts as unknown"
    ]
