"""Each small recipe of the contrastive family runs as it is shipped, and leaves a model behind."""

import math
from pathlib import Path

import pytest
import torch

import fm
from fm.config import list_recipes
from pretrain import load_config, run
from pretrain.runs.folder import read_lines
from tests.pretrain.recipe_data import write_for

KINDS = ("moco", "softcon", "seco", "caco", "dino", "decur", "closp", "landcover")
RECIPES = [
    name
    for name in list_recipes("pretrain")
    if name.endswith("_tiny") and load_config(name).objective.kind in KINDS
]
SMALLER = ("data.batch_size=4", "schedule={steps: 2, warmup: 0}", "engine.precision=fp32")
QUIET = ("monitor.pictures=0", "monitor.tensorboard=false")


def test_every_kind_has_one() -> None:
    assert {load_config(name).objective.kind for name in RECIPES} == set(KINDS)


@pytest.mark.parametrize("name", RECIPES)
def test_a_small_recipe_runs(name: str, tmp_path: Path) -> None:
    words = [*write_for(load_config(name), tmp_path / "data"), *SMALLER, *QUIET]
    result = run(name, [*words, f"out={tmp_path / 'run'}"])
    losses = [line["loss"] for line in read_lines(tmp_path / "run" / "metrics.jsonl")]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    model = fm.load(str(result.export))
    shapes = {m: (len(b), s) for m, b, s in _looked_at(model)}
    pixels = {m: torch.rand(1, bands, side, side) for m, (bands, side) in shapes.items()}
    with torch.no_grad():
        pooled = model.encode(pixels).pooled
    assert pooled.shape == (1, model.width)
    assert pooled.isfinite().all()


def _looked_at(model: fm.models.Backbone) -> list[tuple[str, tuple, int]]:
    """Name each modality's bands, and the side of two tokens."""
    sides = {m.modality: 2 * m.patch for g in model.groups.values() for m in g.members}
    return [(m, bands, sides[m]) for m, bands in model.bands.items()]
