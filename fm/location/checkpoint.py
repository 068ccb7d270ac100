"""Folders of location encoders: `model.safetensors` and `location.json`, complete or absent."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fm.checkpoint import WEIGHTS, build, load_strict
from fm.errors import FMError
from fm.files import atomic_folder, read_json, sha256_file, write_json
from fm.location.encoder import LocationEncoder, Sum
from fm.location.registry import create
from fm.tensors import Weights, write_tensors
from fm.version import WRITER, check_format

DESCRIPTION = "location.json"
FORMAT_VERSION = 2
"""2 has the head of an image encoder beside the encoder, 1 has the encoder alone."""
HEAD = "image_head"
"""In the description; with a dot before the names of its weights."""


def save(
    folder: str | os.PathLike[str],
    encoder: LocationEncoder | Sum,
    about: Mapping[str, Any] | None = None,
    *,
    state: Weights | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a location encoder, whole or not at all.

    Args:
        folder: where; refused if it exists and `overwrite` is false.
        encoder: made by `fm.location.create`, or a sum of such.
        about: plain values to say of it: `name`, `objective`, `data`, `training`, `licence`; and
            `image_head`, the arguments of `fm.location.ImageHead` with `encoder`, the image
            encoder's folder as seen from this one, and `encoder_sha256`, of its weights.
        state: the weights when they are not the encoder's own (gathered from other ranks); with
            those of the head, `image_head.NAME`, where there is one.
        overwrite: replace an existing one.

    Returns:
        what `location.json` says.

    Raises:
        FMError: `folder` exists.
    """
    weights = Weights.of(encoder.state_dict()) if state is None else state
    with atomic_folder(folder, overwrite=overwrite, ours=(DESCRIPTION,)) as aside:
        write_tensors(aside / WEIGHTS, weights)
        os.chmod(aside / WEIGHTS, 0o644)
        told = {
            "format_version": FORMAT_VERSION if HEAD in (about or {}) else 1,
            "written_by": WRITER,
            **(about or {}),
            "architecture": dict(encoder.config),
            "weights_sha256": sha256_file(aside / WEIGHTS),
        }
        write_json(aside / DESCRIPTION, told)
    return told


def describe(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `location.json` says.

    Raises:
        FMError: no such folder, no location encoder, or a newer format.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        inside = Path(folder) / "location"
        hint = f"; did you mean {inside}?" if (inside / DESCRIPTION).is_file() else ""
        raise FMError(f"{folder}: no location encoder, it has no {DESCRIPTION}{hint}")
    told = read_json(path, "location encoder")
    if not isinstance(told, dict) or not {"format_version", "architecture"} <= told.keys():
        raise FMError(f"{path}: not the description of a location encoder")
    check_format(told, FORMAT_VERSION, str(path))
    return dict(told)


def load(folder: str | os.PathLike[str]) -> LocationEncoder | Sum:
    """Load a folder that `save` wrote, in `eval()`.

    Raises:
        FMError: it is missing or damaged, or the weights do not fit.
    """
    told, state = describe(folder), read_weights(folder)
    path = Path(folder) / WEIGHTS
    shapes = {name: value.shape for name, value in state.items()}
    with torch.random.fork_rng(devices=[]):
        encoder = build(
            lambda: _made(told["architecture"]), Path(folder) / DESCRIPTION, (path, shapes)
        )
    load_strict(encoder, state, str(path))
    return encoder.eval()


def read_weights(folder: str | os.PathLike[str], part: str | None = None) -> dict[str, Tensor]:
    """Read the weights of a folder, once their hash is known to fit: the encoder's, or a part's.

    Raises:
        FMError: the file is missing or damaged.
    """
    told, path = describe(folder), Path(folder) / WEIGHTS
    if not path.is_file() or sha256_file(path) != told.get("weights_sha256"):
        raise FMError(f"{path}: missing, or not what {DESCRIPTION} was written for")
    try:
        state = load_file(str(path))
    except SafetensorError as error:
        raise FMError(f"{path}: not a safetensors file ({error})") from None
    if part is None:
        return {name: x for name, x in state.items() if not name.startswith(f"{HEAD}.")}
    return {n.removeprefix(f"{part}."): x for n, x in state.items() if n.startswith(f"{part}.")}


def _made(architecture: Mapping[str, Any]) -> LocationEncoder | Sum:
    if "branches" in architecture:
        return Sum([create(**branch) for branch in architecture["branches"]])
    return create(**architecture)
