"""Pairs of views that find each other, or cannot."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.studies.pairs import found_again
from fm.models import Backbone, create_model
from fm.normalize import Normalisation
from fm.sensors import sensor
from pretrain.augment import ViewConfig
from shards import write_dataset
from shards.building.declare import Declared
from shards.sample import Sample

MODALITY, COUNT = "l7gls_28", 9
BANDS = sensor("landsat7-etm-gls").modalities[MODALITY]
WHOLE = ViewConfig(size=12, scale=(1.0, 1.0), ratio=(1.0, 1.0), flips="none")
CROPS = ViewConfig(size=12, scale=(0.1, 0.3), flips="square")


@pytest.fixture(scope="module")
def model() -> Backbone:
    torch.manual_seed(0)
    bands = {MODALITY: BANDS}
    scale = Normalisation("zscore", (120.0,) * len(BANDS), (60.0,) * len(BANDS))
    return create_model(
        "vit_nano", bands=bands, token_m=85.5, width=16, depth=1, normalisation={MODALITY: scale}
    ).eval()


def tiles(folder: Path, made: np.ndarray) -> Path:
    """Write images `[n, C, 16, 16]`."""
    declared = {MODALITY: Declared("landsat7-etm-gls", tuple(band.name for band in BANDS))}
    samples = (Sample(f"t{i}", {MODALITY: x}) for i, x in enumerate(made))
    told = {"labels": {}, "provenance": {}, "licence": "CC0-1.0"}
    write_dataset(folder, samples, name="tiles", modalities=declared, **told)
    return folder


def test_the_same_view_twice_is_found(model: Backbone, tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(1, 255, (COUNT, len(BANDS), 16, 16))
    found = found_again(model, tiles(tmp_path / "tiles", drawn.astype(np.uint8)), WHOLE)
    assert found == {"found": 1.0, "cosine": pytest.approx(1.0, abs=1e-5), "tiles": COUNT}


def test_crops_of_one_noise_are_not_told_apart(model: Backbone, tmp_path: Path) -> None:
    """Defect: a first view compared with itself; the same cut for both."""
    drawn = np.random.default_rng(0).integers(1, 255, (1, len(BANDS), 16, 16))
    alike = np.repeat(drawn, COUNT, axis=0).astype(np.uint8)
    found = found_again(model, tiles(tmp_path / "tiles", alike), CROPS)
    assert found["found"] < 0.5
    assert found["cosine"] < 0.5
