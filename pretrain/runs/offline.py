"""The model in a checkpoint of a run, without the run: no data, no ranks, no engine."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from fm.card import Card
from fm.checkpoint import CARD, save
from fm.errors import FMError, UsageError
from fm.files import atomic_folder, read_json
from fm.models import rebuild
from fm.tensors import Weights
from pretrain.engine.files import ModelFiles
from pretrain.located import LOCATED, LOCATION, Located, save_located
from pretrain.runs.folder import TAG, Position, RunFolder, read_position


def export(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> Card:
    """Write the backbone of a checkpoint as a model to take away.

    The location encoder of a run that learns one is written into its folder `location`. One tensor
    is held at a time, whatever the ranks and the ZeRO stage that wrote them.

    Args:
        path: a run's folder, whose newest checkpoint is taken, or one of its checkpoints.
        out: the folder to write; refused if it exists.

    Returns:
        the model's card.

    Raises:
        UsageError: `path` is neither.
        FMError: there is no checkpoint, or it is damaged, or `out` exists.
    """
    folder, position, run = _find(Path(path))
    if not (run / CARD).is_file():
        raise FMError(
            f"{run} has no {CARD}: an earlier version began it; start the run again, which writes "
            f"one, or let it end, which writes {run / 'export'}"
        )
    card = Card.from_dict(read_json(run / CARD, "model card"), str(run / CARD))
    files = ModelFiles(folder / TAG, position.zero_stage)
    place = f"objective.{card.training.get('module', 'backbone')}."  # in DeepSpeed's files
    weights = files.weights(place)
    with torch.device("meta"):
        model = rebuild(card.architecture, card.bands, card.normalisation, card.scaling)
    _compare(weights, {n: tuple(v.shape) for n, v in model.state_dict().items()}, folder)
    training = {**card.training, "steps": position.step, "samples_seen": position.samples}
    card = replace(card, training=training)
    if not (run / LOCATED).is_file():
        return save(out, model, card, state=weights)
    found = Located(**read_json(run / LOCATED, "description of a location encoder"))
    whole = files.weights("objective.")
    if lost := sorted(set(found.names.values()) - whole.layout.keys()):
        raise FMError(f"{folder}: holds no {lost[0]}, of the location encoder; it is damaged")
    with atomic_folder(out) as aside:
        made = save(aside, model, card, state=weights, overwrite=True)
        weights = whole.renamed(found.names)
        save_located(aside / LOCATION, found, made, weights, image_encoder=aside)
    return made


def _find(path: Path) -> tuple[Path, Position, Path]:
    """Return a checkpoint, where it stands and its run."""
    if (path / "position.json").is_file():
        return path, read_position(path), path.resolve().parents[1]
    if not (path / "state.json").is_file():
        raise UsageError(f"{path}: neither a run's folder nor one of its checkpoints/step-*")
    found = RunFolder(path).latest()
    if found is None:
        raise FMError(f"{path}: this run has not written a checkpoint yet")
    return *found, path


def _compare(weights: Weights, own: dict[str, tuple[int, ...]], folder: Path) -> None:
    there = {name: shape for name, (_, shape) in weights.layout.items()}
    if there != own:
        differ = sorted(n for n in own.keys() | there.keys() if own.get(n) != there.get(n))
        raise FMError(
            f"{folder}: {len(differ)} weights are not those of the run's {CARD} "
            f"({', '.join(differ[:3])}{', ...' if len(differ) > 3 else ''}); the run went on with "
            f"another config since, or the checkpoint is damaged"
        )
