"""Our own folder again: weights as safetensors, card, page."""

from pathlib import Path

from fm import checkpoint
from fm.card import Card
from fm.export.graph import Graph, Signature
from fm.export.task import outputs
from fm.export.verify import agreement
from fm.export.written import Settings, Written
from fm.models import Backbone


def write(aside: Path, model: Backbone, card: Card, settings: Settings) -> Written:
    """Write a checkpoint folder, load it, and compare to the bit."""
    checkpoint.save(aside, model, card, overwrite=True)
    again = checkpoint.load(aside)
    signature = Signature.of(model, "physical")
    rows = []
    for words, inputs in signature.trials().items():
        rows += agreement(
            outputs(Graph(model, stored=False), inputs),
            outputs(Graph(again, stored=False), inputs),
            on=words,
            tolerance=settings.tolerance or 0.0,
            what="safetensors",
        )
    use = 'import fm\n\nmodel = fm.load("FOLDER")  # this folder\n'
    return Written(rows, use, ["`card.json` says bands, units, order and normalisation."])
