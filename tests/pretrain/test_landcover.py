"""Land-cover fractions as a target: alone, and as a term beside another objective."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from fm.errors import UsageError
from fm.models import create_model
from fm.normalize import Normalisation
from fm.rng import CounterRng
from fm.sensors import sensor
from pretrain.engine.batches import MicroBatch
from pretrain.objectives import ObjectiveConfig, build_objective
from pretrain.objectives.contrast.batch_norm import BatchNorm
from pretrain.objectives.landcover import LandCover
from tests.pretrain.batches import backbone, s2_batch

MAE = {"kind": "mae", "decoder": {"width": 32, "depth": 1, "heads": 2}}


def objective(**changes: Any) -> LandCover:
    config: Any = TypeAdapter(ObjectiveConfig).validate_python(
        {"kind": "landcover", "label": "cover", "classes": 3, **changes}
    )
    made = build_objective(config, backbone())
    assert isinstance(made, LandCover)
    return made


def batch(count: int = 4, *, known: int | None = None) -> MicroBatch:
    made = s2_batch(count)
    shares = torch.rand(count, 3, generator=torch.Generator().manual_seed(5))
    shares = shares / shares.sum(dim=1, keepdim=True)
    shares[count if known is None else known :] = float("nan")
    return replace(made, labels={"cover": shares})


def test_the_loss_is_the_mean_difference_of_shares() -> None:
    made, given = objective(), batch(known=3)
    given.weight[1] = 0.5
    found = made(given, given.rng)
    predicted = made.head(made.features(given)).softmax(dim=1)
    losses = (predicted[:3] - given.labels["cover"][:3]).abs().sum(dim=1) / 3
    assert found.loss_sum.item() == pytest.approx((losses * given.weight[:3]).sum().item())
    assert found.weight.item() == made.weight(given).item() == 2.5


def test_unlabelled_and_unreadable_samples_change_nothing() -> None:
    made, given = objective(), batch(known=2)
    loss = made(given, given.rng).loss_sum
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)
    given.pixels["s2l1c_10"][2:] = 3000
    assert made(given, given.rng).loss_sum.item() == pytest.approx(loss.item())
    given.weight[0] = 0
    other = made(given, given.rng)
    assert (other.weight.item(), made.weight(given).item()) == (1.0, 1.0)


def test_batch_norms_are_of_the_whole_batch_without_what_could_not_be_read() -> None:
    bands = {"s2l1c_10": sensor("sentinel2-l1c").modalities["s2l1c_10"]}
    config: Any = TypeAdapter(ObjectiveConfig).validate_python(
        {"kind": "landcover", "label": "cover", "classes": 3}
    )
    torch.manual_seed(0)
    model = create_model("resnet_18", bands=bands, token_m=320, blocks=(1, 1, 1, 1), planes=4)
    made, given = build_objective(config, model), batch()
    assert made.whole_batch
    assert not objective().whole_batch  # a ViT has none
    assert any(isinstance(part, BatchNorm) for part in made.modules())
    given.pixels, given.scaling = {"s2l1c_10": torch.rand(4, 4, 64, 64)}, {}
    given.weight[3] = 0
    before = made(given, given.rng).loss_sum.item()
    given.pixels["s2l1c_10"][3] = 9
    assert made(given, given.rng).loss_sum.item() == before


def test_it_learns_the_shares() -> None:
    made, given = objective(), batch()
    optimizer = torch.optim.Adam(made.parameters(), 3e-3)
    first = made(given, given.rng).loss_sum.item()
    for _ in range(40):
        optimizer.zero_grad()
        loss = made(given, given.rng).loss_sum
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3 * first


def test_beside_another_both_means_are_added_whatever_the_split() -> None:
    alone, given = objective(), batch()
    both = objective(beside=MAE, weight=0.5)
    both.head.load_state_dict(alone.head.state_dict())
    assert both.beside is not None
    both.backbone.load_state_dict(alone.backbone.state_dict())
    term = alone(given, given.rng)
    mae = both.beside(given, given.rng)
    found = both(given, given.rng)
    mean = mae.loss_sum / mae.weight + 0.5 * term.loss_sum / term.weight
    assert (found.loss_sum / found.weight).item() == pytest.approx(mean.item(), rel=1e-5)
    assert found.weight.item() == both.weight(given).item()
    # holes in the pixels: samples count by how many of their tokens are predicted
    valid = {m: torch.rand(x.shape) > 0.2 for m, x in given.pixels.items()}
    for mask in valid.values():
        mask[0, ..., : mask.shape[-1] // 2] = False
    holed = replace(given, valid=valid)
    whole = both(holed, holed.rng)
    parts = [both(part, part.rng) for part in holed.split(3)]
    assert sum(p.loss_sum.item() for p in parts) == pytest.approx(whole.loss_sum.item(), rel=1e-5)
    for name, value in whole.metrics.items():
        each = sum(part.metrics[name].item() for part in parts)
        assert each == pytest.approx(value.item(), rel=1e-4), name


def test_the_backbone_s_weights_are_there_once() -> None:
    made = objective(beside=MAE)
    names = [name for name in made.state_dict() if "patch_embed" in name]
    assert names
    assert all(name.startswith("beside.backbone.") for name in names)
    assert made.exported()["backbone"] is made.backbone
    assert made.block_modules() == made.beside.block_modules()


def test_labels_of_both_are_read_and_checked() -> None:
    made = objective(beside={"kind": "landcover", "label": "other", "classes": 2})
    assert made.label_names == ("other", "cover")
    assert made.label_kinds["cover"] == ("fractions", "class")
    made.take_classes({"cover": ("a", "b", "c"), "other": ("a", "b")})
    with pytest.raises(UsageError, match="label other has 4 classes in the data"):
        made.take_classes({"cover": ("a", "b", "c"), "other": ("a", "b", "c", "d")})
    with pytest.raises(UsageError, match=r"cover is the label of objective\.beside too"):
        objective(beside={"kind": "landcover", "label": "cover", "classes": 3})


def radar(**options: Any) -> LandCover:
    bands = dict(sensor("sentinel1-grd").modalities)
    zscore = {m: Normalisation("zscore", (-14.0,) * 2, (5.0,) * 2) for m in bands}
    torch.manual_seed(0)
    model = create_model("vit_nano", bands=bands, normalisation=zscore, token_m=120, **options)
    config: Any = TypeAdapter(ObjectiveConfig).validate_python(
        {"kind": "landcover", "label": "cover", "classes": 3}
    )
    return build_objective(config, model)  # type: ignore[return-value]


def seasons(count: int = 6) -> MicroBatch:
    generator = torch.Generator().manual_seed(2)
    pixels = {"s1grd_10": torch.randn(count, 4, 2, 24, 24, generator=generator) * 5 - 14}
    shares = torch.rand(count, 4, 3, generator=generator)
    shares[:, 1] = float("nan")
    shares[-1] = float("nan")
    zeros = torch.zeros(count, dtype=torch.int64)
    times = torch.arange(4.0, dtype=torch.float64).expand(count, 4) * 8e6
    return MicroBatch(
        pixels,
        torch.ones(count),
        {},
        CounterRng(7, zeros, torch.arange(count)),
        time=times[:, 0],
        times=times,
        labels={"cover": shares / shares.sum(dim=-1, keepdim=True)},
    )


def test_a_backbone_of_single_images_predicts_the_image_it_sees() -> None:
    made, given = radar(depth=1), seasons()
    seen = made._seen(given)
    shown = [
        next(t for t in range(4) if torch.equal(given.pixels["s1grd_10"][i, t], x))
        for i, x in enumerate(seen.pixels["s1grd_10"])
    ]
    assert len(set(shown)) > 1
    known = [t != 1 and i < 5 for i, t in enumerate(shown)]
    assert made.weight(given).item() == sum(known)
    wanted = torch.stack([given.labels["cover"][i, t] for i, t in enumerate(shown)])
    assert torch.equal(torch.nan_to_num(made._target(seen)), torch.nan_to_num(wanted))


def test_a_backbone_of_series_predicts_the_mean_of_the_known_images() -> None:
    made, given = radar(depth=1, time_code_width=12), seasons()
    assert made.weight(given).item() == 5
    target = made._target(made._seen(given))
    wanted = given.labels["cover"][:5][:, [0, 2, 3]].mean(dim=1)
    assert torch.allclose(target[:5], wanted)
    assert torch.isfinite(made(given, given.rng).loss_sum)
