"""What every objective must let a run see of it: features, losses by band, counted operations."""

from dataclasses import replace

import pytest
import torch

from fm.rng import CounterRng
from pretrain.objective import Objective
from pretrain.plan.flops import flops_of
from tests.conformance.objectives import OBJECTIVES, ObjectiveCase

Built = tuple[ObjectiveCase, Objective]


@pytest.fixture(params=OBJECTIVES, ids=str)
def built(request: pytest.FixtureRequest) -> Built:
    case = OBJECTIVES[request.param]
    return case, case.build()


@torch.no_grad()
def test_features_are_one_vector_a_sample_whatever_its_batch_mates(built: Built) -> None:
    case, objective = built
    objective.eval()  # as runs look at models
    batch = case.batch(objective, 3)
    features = objective.features(batch)
    assert features.shape == (3, objective.backbone.width)
    assert features.isfinite().all()
    alone = objective.features(batch.select(slice(1, 2)))
    assert torch.allclose(alone[0], features[1], atol=1e-5)


@torch.no_grad()
def test_losses_by_band_are_sums_over_samples(built: Built) -> None:
    case, objective = built
    batch = case.batch(objective, 3)
    whole = objective.parts(batch, batch.rng)
    assert all(bool(pair.isfinite().all()) for pair in whole.values())
    rows = [batch.select(slice(i, i + 1)) for i in range(3)]
    single = [objective.parts(row, row.rng) for row in rows]
    for key, pair in whole.items():
        apart = torch.stack([one[key] for one in single]).sum(dim=0)
        assert torch.allclose(pair, apart, rtol=1e-4, atol=1e-5), key


def test_operations_can_be_counted_without_values(built: Built) -> None:
    case, objective = built
    batch = case.batch(objective, 2)
    rng = batch.rng
    without = replace(
        batch,
        pixels={name: x.to("meta") for name, x in batch.pixels.items()},
        weight=batch.weight.to("meta"),
        labels={name: x.to("meta") for name, x in batch.labels.items()},
        valid=None,
        times=None if batch.times is None else batch.times.to("meta"),
        rng=CounterRng(rng.seed, rng.epochs.to("meta"), rng.positions.to("meta")),
    )
    found = flops_of(objective.to("meta"), without)
    assert found.forward > 0
    # a product has two of its size on the way back, less where nobody asks; a teacher has none
    least = 0.0 if case.frugal or case.teacher is not None else 0.2
    assert least * found.forward < found.backward <= 2 * found.forward
