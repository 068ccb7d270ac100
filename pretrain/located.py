"""The location encoder that a run leaves behind, with the head that puts images beside places."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm.card import Card
from fm.checkpoint import read_card
from fm.location import checkpoint, create
from fm.location.encoder import LocationEncoder
from fm.tensors import Weights
from pretrain.objective import Objective

LOCATION = "location"
"""Folder of the encoder, within a run's or an export's."""
LOCATED = "card-location.json"
"""In a run's folder: what exports of its checkpoints have to know."""


@dataclass(frozen=True)
class Located:
    """Where in an objective a location encoder is.

    Attributes:
        architecture: arguments of `fm.location.create`.
        image_head: those of `fm.location.ImageHead`; None without one.
        names: of the weights in the encoder's file to those in the objective.
    """

    architecture: Mapping[str, Any]
    image_head: Mapping[str, Any] | None
    names: Mapping[str, str]


def located(objective: Objective) -> Located | None:
    """Find the location encoder that an objective exports; None without one."""
    parts = objective.exported()
    encoder = parts.get("location")
    if not isinstance(encoder, LocationEncoder):
        return None
    place = objective.place_of(encoder)
    names = {name: f"{place}.{name}" for name in encoder.state_dict()}
    space = objective.shared_space()
    if space is not None:
        head, scale = (objective.place_of(parts[name]) for name in ("image_head", "scale"))
        told = {"weight": f"{head}.weight", "bias": f"{head}.bias", "log_scale": f"{scale}.log"}
        names |= {f"{checkpoint.HEAD}.{name}": own for name, own in told.items()}
    return Located(dict(encoder.config), space, names)


def save_located(
    folder: Path, found: Located, card: Card, weights: Weights, *, image_encoder: Path
) -> None:
    """Write the encoder's folder.

    Args:
        folder: where.
        found: what it is.
        card: of the run's model.
        weights: by the names in the file.
        image_encoder: checkpoint folder of the image encoder, written already.
    """
    told = card.to_dict()
    about = {key: told[key] for key in ("name", "objective", "data", "training", "licence")}
    if found.image_head is not None:
        about[checkpoint.HEAD] = {
            **found.image_head,
            "encoder": os.path.relpath(image_encoder, folder),
            "encoder_sha256": read_card(image_encoder).weights_sha256,
        }
    encoder = create(**found.architecture)
    checkpoint.save(folder, encoder, about, state=weights, overwrite=True)
