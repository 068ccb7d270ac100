"""What a finished run leaves behind: the card of its checkpoint and pictures of reconstructions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

import fm
from fm.card import Card
from fm.rng import CounterRng
from pretrain.config import RunConfig
from pretrain.data import RunData
from pretrain.engine.batches import MicroBatch
from pretrain.engine.engine import Engine
from pretrain.monitors.in_bands import in_bands
from pretrain.monitors.pictures import save_panels
from pretrain.objective import Objective, Panel
from pretrain.ranks import collective
from pretrain.report import stored
from pretrain.runs.folder import RunFolder
from pretrain.settings.data import Samples
from pretrain.start import parent_of
from pretrain.teacher import as_parents


def make_card(
    config: RunConfig, data: RunData, objective: Objective, training: dict[str, Any]
) -> Card:
    """Write down what a run made: architecture, bands, objective, data seen, training.

    Args:
        config: of the run.
        data: what it was trained on.
        objective: whose model was trained, and by whom it was taught.
        training: the summary of the run.
    """
    backbone, teachers = objective.model, objective.parents()
    told = config.data.statistics
    seen = {name: _part(config.data.datasets[name], ds, told) for name, ds in data.parts.items()}
    if config.data.parts is not None:
        for name, share in data.weights.items():
            seen[name]["share"] = share
    licences = {ds.info.name: ds.info.licence for ds in data.parts.values()}
    licences |= {f"teacher {card.name}": card.licence for card in teachers}
    several = len(set(licences.values())) > 1
    parents = [words for words in (parent_of(config), *as_parents(teachers, config)) if words]
    return Card(
        name=config.name,
        architecture=backbone.architecture,
        bands=backbone.bands,
        normalisation=backbone.normalisation,
        scaling=backbone.scaling,
        objective=config.objective.model_dump(mode="json"),
        data=seen[""] if config.data.parts is None else {"parts": seen},
        training=training,
        # the weights owe to all of them
        licence="; ".join(f"{name}: {text}" for name, text in licences.items())
        if several
        else next(iter(licences.values())),
        parent="; ".join(parents) or None,
    )


def _part(samples: Samples, dataset: Any, statistics: str) -> dict[str, Any]:
    return {
        "statistics": statistics,
        "name": dataset.info.name,
        "manifest_hash": dataset.manifest_hash,
        "where": samples.where,
        "split": samples.identity().get("split"),
        "samples": len(dataset),
        **_seen(dataset),
    }


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


def losses_by_part(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return the mean loss at the start and at the end of each part, `""` for one dataset.

    Both are over a tenth of the part's logged steps, at most 10, at least 1.
    """
    losses: dict[str, list[float]] = {}
    for row in rows:
        if "loss" in row:  # else it tells of the run alone: its last step was passed over
            losses.setdefault(row.get("part", ""), []).append(row["loss"])
    result = {}
    for name, found in sorted(losses.items()):
        window = max(min(len(found) // 10, 10), 1)
        result[name] = (sum(found[:window]) / window, sum(found[-window:]) / window)
    return result


def draw_pictures(
    config: RunConfig, folder: RunFolder, data: RunData, engine: Engine, device: torch.device
) -> None:
    """Reconstruct the first samples of each part; every rank computes, the first writes."""
    samples: list[list[Panel]] = []
    keys: list[str] = []
    for number, (name, dataset) in enumerate(data.parts.items()):
        # shared out among the parts, the first ones take what is left over
        share, more = divmod(config.monitor.pictures, len(data.parts))
        count = min(share + (number < more), len(dataset))
        if not count:
            continue
        # the run has ended; a picture may miss a sample
        batch = data.first(name, count, seed=config.seed, device=device, max_bad=1.0)
        rng = CounterRng(config.seed, batch.epochs, batch.positions)
        found = engine.panels(MicroBatch.of(batch, rng))
        samples += [in_bands(panels, engine.objective.backbone) for panels in found]
        keys += batch.keys if found else []  # some objectives have nothing to show
    if samples and collective.rank() == 0:
        save_panels(folder.pictures, samples, keys)
        backbone = engine.objective.backbone
        stored.save(
            folder.pictures,
            samples,
            keys,
            bands=backbone.bands,
            normalisation=backbone.normalisation,
        )
