"""What the recipes of the contrastive family say of their optimiser, against what was published."""

from pathlib import Path

import numpy as np
import pytest
import torch

import fm
import shards
from fm.errors import FMError, UsageError
from pretrain import load_config, run
from shards.building.writer import Declared
from shards.sample import Sample

MOCO2 = {"kind": "sgd", "lr": 0.03, "inertia": 0.9, "weight_decay": 1e-4, "decayed": "all"}
MOCO3 = {"kind": "adamw", "lr": 1.5e-4, "weight_decay": 0.1, "decayed": "all"}
FALLS = {"kind": "steps", "milestones": (0.6, 0.8), "factor": 0.1, "warmup": 0}
COSINE = {"kind": "cosine", "warmup": 0, "min_lr": 0.0}
TENTH = {"kind": "cosine", "warmup": 9531}
"""Ten of a hundred epochs."""

PUBLISHED: dict[str, tuple[dict[str, object], dict[str, object], int, float, int]] = {
    "moco_ssl4eo_s12_resnet_50": (MOCO2, COSINE, 256, 100, 244_000),
    "moco_ssl4eo_s12_vit_small": (MOCO3, TENTH, 256, 100, 244_000),
    "dino_ssl4eo_s12_resnet_50": (
        {**MOCO2, "decayed": "matrices", "base_lr": 0.03, "clip": 3.0},
        {**TENTH, "min_lr": 1e-6, "weight_decay_end": None},
        *(256, 100, 244_000),
    ),
    "dino_ssl4eo_s12_vit_small": (
        {**MOCO3, "decayed": "matrices", "base_lr": 1.5e-4, "weight_decay": 0.04, "clip": 3.0},
        {**TENTH, "min_lr": 1e-6, "weight_decay_end": 0.4},
        *(256, 100, 244_000),
    ),
    "seco_resnet_50": (MOCO2, FALLS, 256, 200, 200_000),
    "seco_ssl4eco_resnet_50": (MOCO2, {"kind": "constant", "warmup": 0}, 256, 100, 254_403),
    "caco_resnet_50": (MOCO2, FALLS, 256, 200, 200_000),
    "decur_ssl4eo_s12_resnet_50": (
        {"kind": "lars", "lr": 0.2, "inertia": 0.9, "weight_decay": 1e-6, "trust": 1e-3},
        *(COSINE, 256, 100, 244_000),
    ),
    "decur_ssl4eo_s12_vit_small": (
        {"kind": "adamw", "lr": 1e-4, "weight_decay": 0.01, "decayed": "all"},
        *(COSINE, 512, 100, 244_000),
    ),
    "softcon_resnet_50": (MOCO2, COSINE, 256, 100, 247_377),
    "softcon_s1_resnet_50": (MOCO2, COSINE, 256, 100, 247_377),
    "softcon_vit_small": (MOCO3, {**TENTH, "warmup": 9663}, 256, 100, 247_377),
    "softcon_vit_base": (MOCO3, {**TENTH, "warmup": 9663}, 256, 100, 247_377),
    "softcon_s1_vit_small": (MOCO3, {**TENTH, "warmup": 9663}, 256, 100, 247_377),
    "softcon_s1_vit_base": (MOCO3, {**TENTH, "warmup": 9663}, 256, 100, 247_377),
    "closp_resnet_50": (
        {"kind": "adamw", "lr": 1e-6, "decayed": "all"},
        {"kind": "cosine", "warmup": 31722},
        *(64, 30, 338_342 * 2),
    ),
    "satclip_vit_small": (
        {"kind": "adamw", "lr": 1e-4, "weight_decay": 0.01, "decayed": "matrices"},
        {"kind": "constant", "warmup": 0},
        *(8192, 500, 90_000),
    ),
}
"""Optimiser, schedule, global batch, epochs, samples of an epoch."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_states_what_was_published(name: str) -> None:
    """Contrastive specification 1.5, 2.2, 3.2, 4, 5, 6.2; location specification 1.5."""
    optimizer, schedule, batch, epochs, samples = PUBLISHED[name]
    config = load_config(name)
    found = {key: getattr(config.optimizer, key) for key in optimizer}
    assert found == optimizer
    assert {key: getattr(config.schedule, key) for key in schedule} == schedule
    assert config.data.batch_size == batch
    assert config.schedule.steps == pytest.approx(epochs * samples / batch, rel=1e-3)
    if config.optimizer.kind == "adamw":
        assert config.optimizer.betas == (0.9, 0.999)


def test_biases_of_decur_learn_at_their_own_rate() -> None:
    optimizer = load_config("decur_ssl4eo_s12_resnet_50").optimizer
    assert optimizer.lr * optimizer.bias_scale == pytest.approx(0.0048)


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Four patches as `fm shards build s2-100k` makes them."""
    draw = np.random.default_rng(0)
    sensor = fm.sensor("sentinel2-l2a")
    shards.write_dataset(
        tmp_path / "data",
        (
            Sample(
                f"p{i}",
                {"s2l2a": draw.integers(0, 5000, (12, 256, 256)).astype(np.uint16)},
                split="train",
                lonlat=(10.0 * i, 5.0),
            )
            for i in range(4)
        ),
        name="places",
        modalities={
            "s2l2a": Declared(sensor.name, tuple(b.name for b in sensor.bands), gsd_m=10.0)
        },
        labels={},
        provenance={},
        licence="none",
    )
    return tmp_path / "data"


def test_satclip_as_published_needs_weights(places: Path, tmp_path: Path) -> None:
    words = [f"data.path={places}", f"out={tmp_path / 'run'}", "data.batch_size=4"]
    with pytest.raises(FMError, match=r"^init_from=models/vits16.*no such file; .*init_from=FILE"):
        run("satclip_vit_small", words)
    with pytest.raises(UsageError, match="a frozen image encoder has to know something"):
        run("satclip_vit_small", [*words, "init_from=null", "init=null"])


@pytest.mark.slow
def test_satclip_as_published_runs_from_moco_weights(places: Path, tmp_path: Path) -> None:
    """The frozen encoder is what the file gives, B10 left out, and sees reflectance as it is."""
    import timm

    torch.manual_seed(0)
    tower = timm.create_model("vit_small_patch16_224", in_chans=13, num_classes=0)
    torch.save(tower.state_dict(), tmp_path / "moco.pth")
    words = [f"data.path={places}", f"out={tmp_path / 'run'}", "data.batch_size=4"]
    words += [f"init_from={tmp_path / 'moco.pth'}", "schedule.steps=2", "engine.precision=fp32"]
    result = run("satclip_vit_small", [*words, "monitor.pictures=0", "objective.location.width=32"])
    model = fm.load(str(result.export))
    pixels = torch.rand(1, 12, 224, 224)
    with torch.no_grad():
        found = model.encode({"s2l2a": pixels}).pooled
        given = torch.cat([pixels[:, :10], torch.zeros(1, 1, 224, 224), pixels[:, 10:]], dim=1)
        want = tower.eval().forward_features(given)[:, 0]
    assert torch.allclose(found, want, atol=1e-4)
    assert fm.location.load(tmp_path / "run" / "location")(torch.zeros(1, 2)).shape == (1, 256)
