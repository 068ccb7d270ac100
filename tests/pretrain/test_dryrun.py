"""The dry run: every shipped recipe, and what it says against what a run does."""

import json
from pathlib import Path

import pytest
import torch

from fm.config import list_recipes
from fm.errors import FMError, UsageError
from pretrain.build import build
from pretrain.data import open_data
from pretrain.plan.dryrun import describe, text
from pretrain.trainer import load_config
from tests.pretrain.test_trainer import config_file


@pytest.mark.parametrize("name", list_recipes("pretrain"))
def test_a_shipped_recipe_can_be_built_without_its_data(name: str) -> None:
    found = describe(load_config(name))
    assert found["parameters"]["all"] > found["parameters"]["backbone"] > 0
    for part in found["parts"].values():
        assert part["samples"] is None
        assert part["tokens"] > 1
        assert part["predicted"] > 0
    assert found["samples"] == found["steps"] * found["batch_size"]
    assert found["name"] in text(found)
    json.dumps(found)


def test_it_says_what_a_run_builds(tmp_path: Path, tiny_dataset: Path) -> None:
    config = load_config(str(config_file(tmp_path, tiny_dataset)), ["engine.micro_batch=2"])
    found = describe(config)
    objective = build(config, open_data(config).layout)
    counts = [sum(p.numel() for p in m.parameters()) for m in (objective.backbone, objective)]
    assert list(found["parameters"].values()) == counts
    assert found["state_bytes"] == 16 * counts[1]
    (part,) = found["parts"].values()
    assert part["grids"] == {"s2l1c": [4, 4]}
    assert part["shapes"]["s2l1c_20"] == [6, 12, 12]
    assert (found["micro_batch"], found["accumulate"]) == (2, 4)
    assert found["passes"] == 30 * 8 / 24
    assert all(p.device == torch.device("cpu") for p in objective.parameters())
    # without the data the recipe's own words and the sensor tables give the same
    said = [
        "data.path=/nowhere",
        "data.modalities=[s2l1c_10, s2l1c_20, s2l1c_60]",
        "data.crop=24",
    ]
    blind = describe(load_config(str(config_file(tmp_path, tiny_dataset)), said))
    assert blind["parameters"] == found["parameters"]
    assert {k: v for k, v in blind["parts"][""].items() if k != "samples"} == {
        k: v for k, v in part.items() if k != "samples"
    }


def test_bands_of_other_grids_may_stand_on_one(tmp_path: Path) -> None:
    path = str(config_file(tmp_path, Path("/nowhere")))
    words = ["data.modalities=[s2l1c_10]", "data.crop=12", "model.token_m=60"]
    bands = "data.bands={s2l1c_10: [B02, B05:B07, B12]}"
    assert describe(load_config(path, [*words, bands]))["parts"][""]["shapes"] == {
        "s2l1c_10": [5, 12, 12]
    }
    enmap = ["data.modalities=[enmap_30]", "data.crop=4", "model.token_m=60"]
    bands = "data.bands={enmap_30: [B001:B126, B142:B160, B168:B224]}"
    found = describe(load_config(path, [*enmap, bands]))
    assert found["parts"][""]["shapes"] == {"enmap_30": [202, 4, 4]}


def test_what_it_cannot_know_is_one_line(tmp_path: Path, tiny_dataset: Path) -> None:
    path = str(config_file(tmp_path, Path("/nowhere")))
    said = ["data.modalities=[s2l1c_10]", "data.crop=12"]
    for words, problem in (
        ([], "no dataset at /nowhere"),
        (said[:1], r"data\.crop must say"),
        (["data.modalities=[nosuch_10]", said[1]], "no modality 'nosuch_10'"),
        ([*said, "model.token_m=50", "model.name=vit_nan"], "did you mean 'vit_nano'"),
        ([*said, "engine.micro_batch=3"], "nearest engine.micro_batch: 2 or 4"),
        ([*said, "data.bands={s2l1c_10: [B99]}"], "no band 'B99'"),
        (["data.modalities=[s2l1c_10, s2l1c_20]", "data.crop=13"], "not whole pixels of s2l1c_20"),
    ):
        with pytest.raises(FMError, match=problem) as error:
            describe(load_config(path, words))
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="has no s1grd_10"):  # data that is there is looked at
        describe(load_config(path, [f"data.path={tiny_dataset}", "data.modalities=[s1grd_10]"]))


def test_a_path_that_was_typed_must_be_there(tmp_path: Path) -> None:
    from fm.cli import main

    assert main(["pretrain", "mae_s2_tiny", "--dry-run", "--json"]) == 0
    assert main(["pretrain", "mae_s2_tiny", f"data.path={tmp_path / 'no'}", "--dry-run"]) == 2
    here = tmp_path / "s2"
    here.mkdir()
    words = [f"data.parts.s2.path={here}"]
    config = load_config("mae_multisensor_tiny", words)
    with pytest.raises(UsageError, match="while other parts are there"):
        describe(config)
