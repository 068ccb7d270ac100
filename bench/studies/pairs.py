"""Do two views of a tile find each other by a backbone's features?

What a contrast trains, measured alike for every backbone: pooled features of two crops of each
tile, standardised over all of them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

import shards
from fm.models import Backbone
from fm.rng import CounterRng
from pretrain.augment import ViewConfig, draw_view
from pretrain.engine.batches import MicroBatch


def found_again(model: Backbone, tiles: Path, view: ViewConfig) -> dict[str, Any]:
    """Look for the second view of each tile among those of all tiles.

    Args:
        model: whose pooled features are compared.
        tiles: the dataset, of one modality.
        view: how both are made.

    Returns:
        `found`, the share of first views whose nearest second view, by cosine, is their own;
        `cosine`, its mean over pairs; `tiles`, how many there are.
    """
    ds = shards.open(str(tiles))
    (modality,) = ds.modalities
    stored = np.stack([ds[i].arrays[modality] for i in range(len(ds))])
    count = len(stored)
    rng = CounterRng(0, torch.zeros(count, dtype=torch.int64), torch.arange(count))
    info = ds.modalities[modality]
    batch = MicroBatch(
        {modality: torch.from_numpy(stored)},
        torch.ones(count),
        {modality: (info.scale, info.offset)},
        rng,
    )
    rows = []
    with torch.no_grad():
        for name in ("first", "second"):
            made = draw_view(batch, rng, name, view, bands=model.bands)
            inputs = model.inputs(made.pixels, scaling=made.scaling, valid=made.valid)
            rows.append(model._encode(inputs, hidden=False).pooled)
    both = torch.cat(rows)
    spread = both.std(dim=0)
    first, second = normalize((both - both.mean(dim=0)) / spread.clamp(min=1e-9)).chunk(2)
    cosines = first @ second.T
    nearest = cosines.argmax(dim=1) == torch.arange(count)
    return {
        "found": nearest.float().mean().item(),
        "cosine": cosines.diagonal().mean().item(),
        "tiles": count,
    }
