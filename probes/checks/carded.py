"""What a result repeats of its model's card, so that a score can be read without the checkpoint."""

from typing import Any

from fm.card import Card

_PLACES = ("cells", "months", "located", "cell_km")
"""Where pretraining saw the ground: many numbers, which the overlap of a result sums up."""


def told(card: Any) -> dict[str, Any]:
    """Sum up a card for `Result.model`.

    Args:
        card: an `fm.card.Card`; anything else, such as None, has nothing to tell.

    Returns:
        `card` with objective, training, data (without its places), bands, licence and parent;
        empty without a card.
    """
    if not isinstance(card, Card):
        return {}
    data = {k: v for k, v in card.data.items() if k not in _PLACES}
    if "parts" in data:
        data["parts"] = {
            name: {k: v for k, v in part.items() if k not in _PLACES}
            for name, part in data["parts"].items()
        }
    bands = {modality: [band.name for band in held] for modality, held in card.bands.items()}
    return {
        "card": {
            "objective": dict(card.objective),
            "training": dict(card.training),
            "data": data,
            "bands": bands,
            "licence": card.licence,
            "parent": card.parent,
        }
    }
