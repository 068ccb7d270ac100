"""Kinds of optimisers, decay by layer and scheduled weight decay, through the engine."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fm.errors import FMError, UsageError
from fm.models.layers import in_block
from pretrain.engine.engine import Engine
from pretrain.engine.groups import parameter_groups
from pretrain.engine.optimizers import Rates, build_optimizer
from pretrain.ranks.processes import processes
from pretrain.runs.universal import convert
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


OTHERS: dict[str, dict[str, object]] = {
    "lamb": {},
    "muon": {},
    "sgd": {"weight_decay": 1e-4, "nesterov": True},
    "lars": {"lr": 1.0, "weight_decay": 1e-6},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_optimisers_learn_and_go_on_bit_for_bit(
    kind: str, device: torch.device, tmp_path: Path
) -> None:
    options = {"kind": kind, **OTHERS[kind]}
    engine = engine_of(mae(), device, **options)
    losses = [step(engine, 0) for _ in range(2)]
    assert losses[1] < losses[0]
    engine.save(str(tmp_path), "here")
    want = step(engine, 1)
    state = copy.deepcopy(engine.objective.state_dict())
    other = engine_of(mae(), device, **options)
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


@pytest.mark.parametrize("kind", ["lamb", "muon", "lars"])
def test_what_needs_whole_matrices_is_refused_under_zero(kind: str) -> None:
    objective = mae()
    config = OptimizerConfig.model_validate({"kind": kind, "lr": 1e-3, **OTHERS[kind]})
    with pytest.raises(UsageError, match=f"optimizer.kind={kind} looks at whole matrices"):
        build_optimizer(objective, objective.backbone, config, zero_stage=1)


class Small(nn.Module):
    """A matrix that begins at zero, another one, biases and a norm, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)
        nn.init.zeros_(self.last.weight)
        self.double()


def stepped(
    values: dict[str, object], told: list[tuple[float, float | None]]
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[dict[str, Tensor]]]:
    """Take steps with made-up gradients; return weights before and after, and the gradients."""
    torch.manual_seed(0)
    module = Small()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    config = OptimizerConfig.model_validate(values)
    optimizer = build_optimizer(module, mae().backbone, config, zero_stage=0)
    rates = Rates(optimizer.param_groups)
    gradients = []
    for rate, decay in told:
        rates.set(optimizer.param_groups, rate, decay)
        for parameter in module.parameters():
            parameter.grad = torch.randn_like(parameter)
        gradients.append({n: p.grad.clone() for n, p in module.named_parameters()})  # type: ignore[union-attr]
        optimizer.step()
    return before, {n: p.detach().clone() for n, p in module.named_parameters()}, gradients


TOLD: list[tuple[float, float | None]] = [(0.1, None), (0.3, None), (0.02, 0.05)]
"""Rates, which change from step to step, and the decay of the last."""


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decayed", ["matrices", "all"])
def test_sgd_is_torchs_form_in_float64(decayed: str, nesterov: bool) -> None:
    """v = m v + g and w -= lr v: the rate outside, so that a lower one slows old gradients too."""
    values = {"kind": "sgd", "lr": 1.0, "weight_decay": 0.2, "momentum": 0.7}
    before, after, gradients = stepped(
        {**values, "decayed": decayed, "nesterov": nesterov, "bias_scale": 0.5}, TOLD
    )
    for name, weight in before.items():
        matrix = name in ("first.weight", "last.weight")
        velocity = torch.zeros_like(weight)
        for (rate, told), gradient in zip(TOLD, gradients, strict=True):
            decay = (0.2 if told is None else told) if matrix or decayed == "all" else 0.0
            full = gradient[name] + decay * weight
            velocity = 0.7 * velocity + full
            ahead = full + 0.7 * velocity if nesterov else velocity
            weight = weight - rate * (1.0 if matrix else 0.5) * ahead
        assert torch.allclose(after[name], weight, rtol=1e-12, atol=1e-14), name


@pytest.mark.parametrize("decay", [0.2, 0.0])
def test_lars_adapts_and_decays_matrices_alone(decay: float) -> None:
    """You et al., algorithm 1, with the rate outside of the momentum.

    Defects: norms and biases decayed or adapted; matrices not adapted where the decay is 0.
    """
    values = {"kind": "lars", "lr": 1.0, "weight_decay": decay, "momentum": 0.7, "trust": 0.02}
    told = [(rate, None) for rate, _ in TOLD]
    before, after, gradients = stepped({**values, "bias_scale": 0.024}, told)
    for name, weight in before.items():
        matrix = name in ("first.weight", "last.weight")
        velocity = torch.zeros_like(weight)
        for (rate, _), gradient in zip(told, gradients, strict=True):
            full = gradient[name]
            if matrix:
                own, norm = weight.norm(), full.norm()
                # a weight of zero has no norm to go by
                ratio = 0.02 * own / (norm + decay * own + 1e-8) if own > 0 else 1.0
                full = ratio * (full + decay * weight)
            velocity = 0.7 * velocity + full
            weight = weight - rate * (1.0 if matrix else 0.024) * velocity
        assert torch.allclose(after[name], weight, rtol=1e-12, atol=1e-14), name


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_sgd_under_zero_is_sgd_and_goes_on_bit_for_bit(
    stage: int, device: torch.device, tmp_path: Path
) -> None:
    """Defect: momentum or decay taken from what DeepSpeed makes of the groups."""
    settings: dict[str, object] = {"kind": "sgd", "lr": 0.05, "weight_decay": 0.1, "clip": 1.0}
    settings |= {"decayed": "all", "layer_decay": 0.5, "bias_scale": 0.3}

    def made(stage: int) -> Engine:
        torch.manual_seed(1)
        config = EngineConfig(precision="fp32", deepspeed=f"zero{stage}")
        optimizer = OptimizerConfig.model_validate(settings)
        return Engine(mae(), optimizer, config, micro_batch=4, accumulate=1, device=device)

    plain, cut = made(0), made(stage)
    wanted = [step(plain, number) for number in range(4)]
    found = [step(cut, number) for number in range(2)]
    cut.save(str(tmp_path), "here")
    with pytest.raises(FMError, match="DeepSpeed converts AdamW's moments alone"):
        convert(tmp_path / "here", tmp_path / "universal")
    found += [step(cut, number) for number in (2, 3)]
    assert found == pytest.approx(wanted, rel=1e-6)
    again = made(stage)
    again.load(str(tmp_path), "here")
    assert [step(again, number) for number in (2, 3)] == found[2:]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"kind": "sgd", "lr": 0.03}, "kind=sgd needs optimizer.lr .* and optimizer.weight_decay"),
        ({"kind": "lars", "weight_decay": 0.0}, "kind=lars needs optimizer.lr"),
        ({"nesterov": True}, "nesterov=true is for kind=sgd"),
        (
            {"kind": "sgd", "lr": 1, "weight_decay": 0, "momentum": 0, "nesterov": True},
            "momentum above 0",
        ),
        (
            {"kind": "lars", "lr": 1, "weight_decay": 0, "decayed": "all"},
            "leaves biases and norms without decay",
        ),
        ({"trust": 0.01}, "trust is LARS's; kind=adamw has none"),
    ],
)
def test_settings_of_another_kind_are_refused(words: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        OptimizerConfig.model_validate(words)


def test_identity_holds_what_the_kind_uses() -> None:
    base = {"lr": 1.0, "weight_decay": 0.0}
    sgd = OptimizerConfig.model_validate({"kind": "sgd", **base})
    assert sgd.identity() == {"kind": "sgd", **base, "clip": 0.0, "momentum": 0.9}
    same = OptimizerConfig.model_validate({"kind": "sgd", **base, "momentum": 0.9, "eps": 1e-3})
    assert same.identity() == sgd.identity()
    lars = OptimizerConfig.model_validate({"kind": "lars", **base, "bias_scale": 0.024})
    assert lars.identity()["trust"] == 1e-3
    assert lars.identity()["bias_scale"] == 0.024
    muon = OptimizerConfig.model_validate({"kind": "muon"})
    assert muon.identity()["momentum"] == 0.95  # as before it could be left out
