"""Objectives from configs: the weights they start from."""

from pathlib import Path

import pytest
import torch

from fm.errors import UsageError
from pretrain.build import build
from pretrain.data import declared
from pretrain.objective import Objective
from pretrain.trainer import load_config, run
from tests.pretrain.test_trainer import config_file


def built(path: Path, *words: str) -> Objective:
    config = load_config(str(path), ["data.crop=24", *words])
    return build(config, declared(config.data))


def test_weights_of_other_bands_move_with_the_bands(tmp_path: Path, tiny_dataset: Path) -> None:
    path = config_file(tmp_path, tiny_dataset)
    both = "data.modalities=[s2l1c_10,s2l1c_20]"
    run(str(path), [both, "schedule.steps=1", "schedule.warmup=0"])
    source = f"init_from={tmp_path / 'run' / 'export'}"
    parent = built(path, both, source).backbone.state_dict()
    fewer = built(path, "data.modalities=[s2l1c_10]", "data.bands={s2l1c_10: [B08, B02]}", source)
    ours = fewer.backbone.state_dict()
    (name,) = [
        key for key in ours if ours[key].shape != parent[key].shape and key.startswith("patch_")
    ]
    # B02, B03, B04, B08 in the parent; a band's pixels are columns of the projection
    count = ours[name].numel() // (2 * len(ours[name]))
    flat = parent[name].reshape(len(parent[name]), -1, count)
    assert torch.equal(ours[name].reshape(len(ours[name]), 2, count), flat[:, [3, 0]])
    rest = [key for key in ours if key != name and not key.startswith("patch_")]
    assert rest
    assert all(torch.equal(ours[key], parent[key]) for key in rest)
    with pytest.raises(UsageError, match=r"init_from=.*export: s2l1c_60: the model has no"):
        built(path, "data.modalities=[s2l1c_60]", source)
