"""Kinds of optimisers, decay by layer and scheduled weight decay, through the engine."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fm.errors import UsageError
from fm.models.layers import in_block
from pretrain.engine.engine import Engine
from pretrain.engine.groups import parameter_groups
from pretrain.engine.optimizers import build_optimizer
from pretrain.ranks.processes import processes
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig
from tests.pretrain.batches import mae, s2_batch


@pytest.fixture(scope="module")
def device() -> Iterator[torch.device]:
    with processes() as place:
        yield place


def engine_of(objective: torch.nn.Module, device: torch.device, **options: object) -> Engine:
    optimizer = OptimizerConfig.model_validate({"lr": 1e-3, **options})
    config = EngineConfig(precision="fp32")
    return Engine(objective, optimizer, config, micro_batch=4, accumulate=1, device=device)  # type: ignore[arg-type]


def step(engine: Engine, number: int, **options: float) -> float:
    return engine.step([s2_batch(4, seed=number)], 1e-3, stop=False, **options)[0].loss  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["lamb", "muon"])
def test_other_optimisers_learn_and_go_on_bit_for_bit(
    kind: str, device: torch.device, tmp_path: Path
) -> None:
    engine = engine_of(mae(), device, kind=kind)
    losses = [step(engine, 0) for _ in range(2)]
    assert losses[1] < losses[0]
    engine.save(str(tmp_path), "here")
    want = step(engine, 1)
    state = copy.deepcopy(engine.objective.state_dict())
    other = engine_of(mae(), device, kind=kind)
    other.load(str(tmp_path), "here")
    assert step(other, 1) == want
    assert all(torch.equal(v, state[k]) for k, v in other.objective.state_dict().items())


def test_muon_takes_matrices_of_blocks_and_adamw_the_rest(device: torch.device) -> None:
    ours, bare = mae(), mae()
    bare.load_state_dict(copy.deepcopy(ours.state_dict()))
    step(engine_of(ours, device, kind="muon", weight_decay=0.0), 0)
    batch = s2_batch(4, seed=0)
    adamw = torch.optim.AdamW(parameter_groups(bare, 0.0), lr=1e-3, betas=(0.9, 0.95))
    out = bare(batch, batch.rng)
    before = {name: p.detach().clone() for name, p in bare.named_parameters()}
    (out.loss_sum / out.weight).backward()
    adamw.step()
    moved = dict(ours.named_parameters())
    for name, by_adamw in bare.named_parameters():
        change = moved[name] - before[name]
        if in_block(name) and name.endswith("weight") and by_adamw.ndim == 2:
            # the largest singular value is near one, times 0.2 sqrt(longer side) of Liu et al.;
            # AdamW's first step, nearly all signs, has one several times as large
            largest = torch.linalg.matrix_norm(change, 2) / (1e-3 * 0.2 * max(change.shape) ** 0.5)
            assert 0.7 < largest < 1.3, name
            adam = torch.linalg.matrix_norm(by_adamw - before[name], 2)
            assert adam > 1.5 * torch.linalg.matrix_norm(change, 2), name
        elif not name.endswith("bias"):  # a key's bias has no gradient but rounding
            assert torch.allclose(moved[name], by_adamw, atol=1e-5), name


def test_rates_of_layers_follow_the_schedule(device: torch.device) -> None:
    engine = engine_of(mae(), device, layer_decay=0.5)
    step(engine, 0)
    groups = engine.engine.optimizer.param_groups
    assert {group["lr"] for group in groups} == {1e-3, 5e-4, 2.5e-4}


def test_weight_decay_of_a_step_reaches_matrices_alone(device: torch.device) -> None:
    engine = engine_of(mae(), device, weight_decay=0.0)
    step(engine, 0, weight_decay=0.3)
    groups = engine.engine.optimizer.param_groups
    assert {(group["decayed"], group["weight_decay"]) for group in groups} == {
        (True, 0.3),
        (False, 0.0),
    }


@pytest.mark.parametrize("kind", ["lamb", "muon"])
def test_what_needs_whole_matrices_is_refused_under_zero(kind: str) -> None:
    objective = mae()
    config = OptimizerConfig.model_validate({"kind": kind})
    with pytest.raises(UsageError, match=f"optimizer.kind={kind} looks at whole matrices"):
        build_optimizer(objective, objective.backbone, config, zero_stage=1)
