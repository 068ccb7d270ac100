"""Checkpoints people take away: `model.safetensors`, `card.json`, `README.md` in one folder."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fm import weights as carried
from fm.card import Card
from fm.errors import FMError, UsageError
from fm.files import atomic_folder, read_json, sha256_file, write_json
from fm.models import Backbone, rebuild
from fm.models.embed import SpectralBasis
from fm.tensors import Weights, write_tensors

WEIGHTS, CARD, README = "model.safetensors", "card.json", "README.md"


def describe(model: Backbone, name: str) -> Card:
    """Make the card of a model that was not trained by a run."""
    return Card(
        name=name,
        architecture=model.architecture,
        bands=model.bands,
        normalisation=model.normalisation,
        scaling=model.scaling,
    )


def save(
    folder: str | os.PathLike[str],
    model: Backbone,
    card: Card | None = None,
    *,
    state: Mapping[str, torch.Tensor] | Weights | None = None,
    overwrite: bool = False,
) -> Card:
    """Write a checkpoint folder, whole or not at all.

    Args:
        folder: where; refused if it exists and `overwrite` is false.
        model: the backbone.
        card: what to say of it; the model's own, or `describe(model)`, when None.
        state: the weights when they are not the model's own (gathered from other ranks), held one
            at a time where they come as `Weights`.
        overwrite: replace an existing checkpoint.

    Returns:
        the card as written, with the hash of the weights.
    """
    card = card or model.card or describe(model, Path(folder).name)
    weights = state if isinstance(state, Weights) else Weights.of(state or model.state_dict())
    with atomic_folder(folder, overwrite=overwrite, ours=(CARD,)) as aside:
        write_tensors(aside / WEIGHTS, weights)
        os.chmod(aside / WEIGHTS, 0o644)
        card = replace(card, weights_sha256=sha256_file(aside / WEIGHTS))
        write_json(aside / CARD, card.to_dict())
        (aside / README).write_text(card.readme(), encoding="utf-8")
    return card


def load(
    folder: str | os.PathLike[str],
    *,
    weights: str = "pretrained",
    seed: int = 0,
    verify: bool = True,
) -> Backbone:
    """Load a checkpoint folder as a model in `eval()`.

    Args:
        folder: a folder that `save` wrote (a run's `export/`), or `eofm/NAME` of weights that eofm
            carries (`fm.weights`).
        weights: `"pretrained"`, or `"random"` for the same architecture, bands and normalisation
            with fresh weights. What was fitted to pixels and not trained (spectral bases) stays.
        seed: of the fresh weights.
        verify: compare the weights' hash with the card's.

    Raises:
        FMError: the folder is missing, is not a checkpoint, is damaged, or the weights do not
            match the architecture key by key.
        UsageError: `weights` is neither of the two, or eofm carries nothing of that name.
    """
    folder = carried.place(folder)
    if weights not in ("pretrained", "random"):
        raise UsageError(f"weights={weights!r}: give 'pretrained' or 'random'")
    card = read_card(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = rebuild(card.architecture, card.bands, card.normalisation, card.scaling)
        except FMError as error:
            raise FMError(f"{folder / CARD}: {error}; it is damaged, or of a newer eofm") from None
    if weights == "random":
        if model.bases():
            keep_fitted(model, _weights(folder, card, verify))
        model.card = replace(
            card,
            name=f"{card.name} (random weights, seed {seed})",
            objective={},
            data={},
            training={},
            parent=None,
            weights_sha256="",
        )
        return model.eval()
    load_strict(model, _weights(folder, card, verify), str(folder / WEIGHTS))
    model.card = card
    return model.eval()


def _weights(folder: Path, card: Card, verify: bool) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        inside = folder / "export"
        hint = f"did you mean {inside}?" if (inside / WEIGHTS).is_file() else "it is damaged"
        raise FMError(f"{folder}: the checkpoint has no {WEIGHTS}; {hint}")
    if verify and card.weights_sha256 != sha256_file(path):
        raise FMError(f"{path}: the hash is not the one in {CARD}; the file is damaged or replaced")
    try:
        return load_file(str(path))
    except SafetensorError as error:
        raise FMError(f"{path}: not a safetensors file ({error})") from None


def keep_fitted(model: Backbone, state: Mapping[str, torch.Tensor]) -> None:
    """Give a model with fresh weights what another's spectral bases were fitted to.

    A random floor differs from the pretrained model in what was trained, in nothing else.
    """
    for name, module in model.named_modules():
        if isinstance(module, SpectralBasis):
            own = module.state_dict()
            module.load_state_dict({key: state[f"{name}.{key}"] for key in own})


def read_card(folder: str | os.PathLike[str]) -> Card:
    """Read the card of a checkpoint folder, or of carried weights by `eofm/NAME`.

    Raises:
        FMError: no such folder, or not a checkpoint.
    """
    folder = carried.place(folder)
    if not folder.is_dir():
        elsewhere = len(folder.parts) == 2 and not folder.parent.exists()
        hint = f"; if it is on the hub, fm models pull {folder} brings it" if elsewhere else ""
        raise FMError(f"{folder}: no such checkpoint folder{hint}")
    if not (folder / CARD).is_file():
        inside = folder / "export"
        hint = (
            f"; did you mean {inside}?"
            if (inside / CARD).is_file()
            else "; give a folder with model.safetensors and card.json"
        )
        raise FMError(f"{folder}: not an eofm checkpoint, it has no {CARD}{hint}")
    values = read_json(folder / CARD, "model card")
    if not isinstance(values, dict):
        raise FMError(f"{folder / CARD}: not the card of an eofm checkpoint")
    return Card.from_dict(values, str(folder / CARD))


def load_strict(model: torch.nn.Module, state: dict[str, torch.Tensor], where: str) -> None:
    """Load weights, refusing any difference of keys or shapes.

    Raises:
        FMError: says how many keys differ and names the first ones.
    """
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    extra = sorted(set(state) - set(own))
    shapes = sorted(k for k in set(own) & set(state) if own[k].shape != state[k].shape)
    if missing or extra or shapes:
        parts = []
        for what, keys in (("missing", missing), ("not known", extra), ("wrong shape", shapes)):
            if keys:
                shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
                parts.append(f"{len(keys)} {what} ({shown})")
        raise FMError(f"{where}: the weights do not fit the model: {'; '.join(parts)}")
    model.load_state_dict(state)
