"""Checkpoints people take away: `model.safetensors`, `card.json`, `README.md` in one folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from fm import weights as carried
from fm.card import Card
from fm.errors import FMError, UsageError
from fm.files import atomic_folder, read_json, sha256_file, write_json
from fm.likeness import M, TooManyError, likeness
from fm.models import Backbone, rebuild
from fm.models.embed import SpectralBasis
from fm.tensors import Weights, write_tensors

WEIGHTS, CARD, README = "model.safetensors", "card.json", "README.md"
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a constructor says to values of a card that are of no kind it knows."""


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
            with fresh weights; of those that lie there the shapes are compared. What was fitted to
            pixels and not trained (spectral bases) stays.
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
    fresh = weights == "random"
    path = _weights(folder, card, verify and not fresh)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(
            lambda: rebuild(card.architecture, card.bands, card.normalisation, card.scaling),
            folder / CARD,
            (path, shapes_of(path)),
        )
    if fresh:
        if model.bases():
            keep_fitted(model, _read(_weights(folder, card, verify)))
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
    load_strict(model, _read(path), str(path))
    model.card = card
    return model.eval()


def build(
    make: Callable[[], M],
    card: Path,
    weights: tuple[Path, Mapping[str, Sequence[int]]],
) -> M:
    """Make the model that a card describes, once it is known to be that of the weights.

    A card may come from anybody: the model is made without memory first (on torch's meta device),
    so that what it takes is bounded by the file that is there.

    Args:
        make: makes it; called twice, where the random numbers stand the second time.
        card: the file, for errors.
        weights: their file and the shape of each of them.

    Raises:
        FMError: the card describes no model, or one that the weights do not fit.
    """
    before = torch.get_rng_state()
    try:
        like = likeness(make, len(weights[1]))
    except TooManyError:
        raise FMError(
            f"{weights[0]}: the weights do not fit the model of {card.name}, which has many more"
        ) from None
    except FMError as error:
        raise FMError(f"{card}: {error}; it is damaged, or of a newer eofm") from None
    except _MALFORMED as error:
        said = str(error).strip().partition("\n")[0]
        raise FMError(
            f"{card}: malformed architecture ({type(error).__name__}: {said}); it is damaged"
        ) from None
    _compare(like, weights[1], str(weights[0]))
    torch.set_rng_state(before)
    return make()


def _weights(folder: Path, card: Card, verify: bool) -> Path:
    path = folder / WEIGHTS
    if not path.is_file():
        inside = folder / "export"
        hint = f"did you mean {inside}?" if (inside / WEIGHTS).is_file() else "it is damaged"
        raise FMError(f"{folder}: the checkpoint has no {WEIGHTS}; {hint}")
    if verify and card.weights_sha256 != sha256_file(path):
        raise FMError(f"{path}: the hash is not the one in {CARD}; the file is damaged or replaced")
    return path


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a safetensors file; reads its header alone.

    Raises:
        FMError: it is none.
    """
    try:
        with safe_open(str(path), framework="pt") as opened:
            names = opened.keys()
            return {name: tuple(opened.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise FMError(f"{path}: not a safetensors file ({error})") from None


def _read(path: Path) -> dict[str, torch.Tensor]:
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
        raise FMError(f"{folder}: no such checkpoint folder{elsewhere(folder)}")
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


def elsewhere(model: str | os.PathLike[str]) -> str:
    """Say for an error where a model may be that is no folder here; nothing where none is known."""
    from fm.foreign.catalogue import catalogue
    from fm.hub import is_repository

    if ours := carried.meant(model):
        return f"; did you mean {ours!r}, which eofm carries?"
    released = catalogue().get(str(model))
    if released is not None and released.kind == "backbone":
        return f"; fm models pull {model} makes one of known weights"
    if is_repository(str(model)) and not Path(model).parent.exists():
        return f"; if it is on the hub, fm models pull {model} brings it"
    return ""


def load_strict(model: torch.nn.Module, state: dict[str, torch.Tensor], where: str) -> None:
    """Load weights, refusing any difference of keys or shapes.

    Raises:
        FMError: says how many keys differ and names the first ones.
    """
    _compare(model, {name: value.shape for name, value in state.items()}, where)
    model.load_state_dict(state)


def _compare(model: torch.nn.Module, given: Mapping[str, Sequence[int]], where: str) -> None:
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    missing = sorted(set(own) - set(given))
    extra = sorted(set(given) - set(own))
    shapes = sorted(k for k in set(own) & set(given) if own[k] != tuple(given[k]))
    if missing or extra or shapes:
        parts = []
        for what, keys in (("missing", missing), ("not known", extra), ("wrong shape", shapes)):
            if keys:
                shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
                parts.append(f"{len(keys)} {what} ({shown})")
        raise FMError(f"{where}: the weights do not fit the model: {'; '.join(parts)}")
