"""What the card of an adapted model says, so that nobody takes it for the original."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fm.card import Card
from fm.models import Backbone

ADAPTED = " (adapted)"


def adapted_card(model: Backbone, other: Backbone, report: Mapping[str, Any]) -> Card:
    """Make the card of a model that was made of another.

    Architecture, bands, normalisation and scaling are the new model's; name, hash and bands of the
    original, and the report, stand in `adapted_from`. What was adapted before stays inside.

    Args:
        model: the original.
        other: what became of it.
        report: how.
    """
    own = model.card or Card(
        name=str(model.architecture.get("name", "model")),
        architecture=model.architecture,
        bands=model.bands,
        normalisation=model.normalisation,
        scaling=model.scaling,
    )
    origin: dict[str, Any] = {
        "name": own.name,
        "weights_sha256": own.weights_sha256,
        "bands": {m: [band.name for band in items] for m, items in model.bands.items()},
        "token_m": {name: group.token_m for name, group in model.groups.items()},
        "report": dict(report),
    }
    if own.adapted_from is not None:
        origin["adapted_from"] = dict(own.adapted_from)
    return replace(
        own,
        name=own.name if own.name.endswith(ADAPTED) else own.name + ADAPTED,
        architecture=other.architecture,
        bands=other.bands,
        normalisation=other.normalisation,
        scaling=other.scaling,
        weights_sha256="",
        adapted_from=origin,
    )
