"""What a finished run leaves behind: the card of its checkpoint and pictures of reconstructions."""

from typing import Any

import numpy as np
import torch

import fm
from fm.card import Card
from fm.checkpoint import read_card
from fm.models import Backbone
from fm.rng import CounterRng
from pretrain import collective
from pretrain.config import RunConfig
from pretrain.engine import Engine, MicroBatch
from pretrain.monitor import save_panels
from pretrain.runfolder import RunFolder


def make_card(
    config: RunConfig, dataset: Any, backbone: Backbone, training: dict[str, Any]
) -> Card:
    """Write down what a run made: architecture, bands, objective, data seen, training.

    Args:
        config: of the run.
        dataset: what it was trained on.
        backbone: the trained model.
        training: the summary of the run.
    """
    parent = None
    if config.init_from is not None:
        parent = f"{read_card(config.init_from).name} ({config.init_from})"
    return Card(
        name=config.name,
        architecture=backbone.architecture,
        bands=backbone.bands,
        normalisation=backbone.normalisation,
        scaling=backbone.scaling,
        objective=config.objective.model_dump(mode="json"),
        data={
            "name": dataset.info.name,
            "manifest_hash": dataset.manifest_hash,
            "where": config.data.where,
            "split": config.data.identity().get("split"),
            "samples": len(dataset),
            **_seen(dataset),
        },
        training=training,
        licence=dataset.info.licence,
        parent=parent,
    )


def _seen(dataset: Any) -> dict[str, Any]:
    """Return the location cells (about 10 km) and months of a dataset, as far as it says."""
    lonlat, time = dataset.lonlat, dataset.time
    known = np.isfinite(lonlat).all(axis=1)
    cells = np.unique(fm.geo.block_id(lonlat[known], 10.0))
    moments = time[np.isfinite(time)].astype("datetime64[s]")
    months = np.unique(moments.astype("datetime64[M]")).astype(str)
    return {
        "cell_km": 10.0,
        "cells": cells.tolist(),
        "located": int(known.sum()),
        "months": months.tolist(),
    }


def draw_pictures(
    config: RunConfig, folder: RunFolder, dataset: Any, engine: Engine, device: torch.device
) -> None:
    """Reconstruct the first samples of the stored order; every rank computes, the first writes."""
    count = min(config.monitor.pictures, len(dataset))
    loader = dataset.loader(
        batch_size=count,
        seed=config.seed,
        modalities=config.data.modalities or list(dataset.modalities),
        threads=1,
        steps=1,
        shuffle=False,
        crop=config.data.crop,
        device=device,
        max_bad=1.0,  # the run has ended; a picture may miss a sample
    )
    batch = next(iter(loader))
    loader.close()
    rng = CounterRng(config.seed, batch.epochs, batch.positions)
    samples = engine.panels(MicroBatch.of(batch, rng))
    if collective.rank() == 0:
        save_panels(folder.pictures, samples, batch.keys)
