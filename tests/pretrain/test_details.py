"""Losses by band: their weighted means are the loss."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from pretrain.engine.batches import MicroBatch
from pretrain.objective import Objective
from pretrain.objectives.multiscale import MultiScaleConfig, MultiScaleMAE
from tests.pretrain.batches import backbone, mae, s2_batch
from tests.pretrain.test_hyper_mae import batch_of, hyper


def some_invalid(batch: MicroBatch, seed: int = 0) -> MicroBatch:
    """Take pixels out, one sample wholly and one band of another, and the weight of a third."""
    generator = torch.Generator().manual_seed(seed)
    valid = {}
    for name, x in batch.pixels.items():
        mask = torch.rand(x.shape, generator=generator) > 0.3
        mask[0], mask[1, 0] = False, False
        valid[name] = mask
    weight = torch.tensor([1.0, 1.0, 0.0, 0.5])
    return replace(batch, valid=valid, weight=weight)


def totals(objective: Objective, batch: MicroBatch) -> tuple[Any, dict[tuple[str, str], Any]]:
    with torch.no_grad():
        return objective(batch, batch.rng), objective.parts(batch, batch.rng)


@pytest.mark.parametrize("change", [lambda b: b, some_invalid])
@pytest.mark.parametrize("options", [{}, {"target": "band", "decoder": {"predict": 0.5}}])
def test_the_loss_of_mae_is_the_mean_of_its_bands(
    change: Callable[[MicroBatch], MicroBatch], options: dict[str, Any]
) -> None:
    out, parts = totals(mae(**options), change(s2_batch(4)))
    sums = torch.stack(list(parts.values())).sum(dim=0)
    assert sums[0].item() == pytest.approx(out.loss_sum.item(), rel=1e-5)
    assert sums[1].item() == pytest.approx(out.weight.item(), rel=1e-5)
    assert [key[1] for key in parts if key[0] == "s2l1c_60"] == ["B01", "B09", "B10"]


def test_the_loss_of_a_band_is_its_own() -> None:
    objective, batch = mae(target="pixel"), s2_batch(4)
    _, parts = totals(objective, batch)
    pixels = dict(batch.pixels)
    pixels["s2l1c_20"] = pixels["s2l1c_20"].clone()
    # the last band of one modality, so far off that its error changes whatever is predicted
    pixels["s2l1c_20"][:, 5] = 60000
    _, other = totals(objective, replace(batch, pixels=pixels))
    ratio = {key: (other[key][0] / parts[key][0]).item() for key in parts}
    assert ratio["s2l1c_20", "B12"] > 100
    assert max(v for key, v in ratio.items() if key != ("s2l1c_20", "B12")) < 10


@pytest.mark.parametrize("sampling", [None, (0.2, 0.6)])
def test_the_loss_of_hyper_mae_is_the_mean_of_its_bands(sampling: Any) -> None:
    objective = hyper(channel_sampling=sampling, channel_weight=0.5)
    out, parts = totals(objective, batch_of(objective))
    sums = torch.stack(list(parts.values())).sum(dim=0)
    assert sums[0].item() == pytest.approx(out.loss_sum.item(), rel=1e-5)
    assert sums[1].item() == pytest.approx(out.weight.item(), rel=1e-5)
    assert (len(parts) == 8) == (sampling is None)


@pytest.mark.parametrize("change", [lambda b: b, some_invalid])
def test_tokens_and_scales_of_multiscale_are_means_of_their_bands(
    change: Callable[[MicroBatch], MicroBatch],
) -> None:
    torch.manual_seed(0)
    objective = MultiScaleMAE(backbone(token_m=60), MultiScaleConfig(scales=1))
    out, parts = totals(objective, change(s2_batch(4)))
    for metric, fine in (("tokens", False), ("scales", True)):
        chosen = [pair for key, pair in parts.items() if ("/x" in key[0]) == fine]
        sums = torch.stack(chosen).sum(dim=0)
        assert sums[0].item() == pytest.approx(out.metrics[metric].item(), rel=1e-5)
        assert sums[1].item() == pytest.approx(out.weight.item(), rel=1e-5)
    assert ("s2l1c_10/x2", "B02") in parts
