"""MoCo-v3 beside the paper's algorithm, written out on its own."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from fm.models import Inputs
from pretrain.engine.engine import Engine
from pretrain.objectives.contrast.moco import MoCo
from pretrain.objectives.contrast.siamese import pooled
from pretrain.ranks.processes import processes
from pretrain.schedule import Clock
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig
from tests.conformance.objectives import CONTRASTS

CASE = CONTRASTS["moco-v3"]
ROWS = 12


def head(parts: nn.Sequential, layers: int, x: Tensor) -> Tensor:
    """Apply linear layers without bias, a batch norm behind each, ReLU between (section 3).

    The last norm has no weights.
    """
    linear = [part for part in parts if isinstance(part, nn.Linear)]
    norms = [part for part in parts if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    assert len(linear) == len(norms) == layers
    assert not any("bias" in name for part in linear for name, _ in part.named_parameters())
    assert not list(norms[-1].parameters())
    for number, (layer, norm) in enumerate(zip(linear, norms, strict=True)):
        x = x @ layer.weight.double().T
        x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
        if number < layers - 1:
            x = (x * norm.weight.double() + norm.bias.double()).clamp(min=0)
    return x


def test_three_steps_are_the_papers_algorithm() -> None:
    """Algorithm 1 of the paper (arXiv 2104.02057) in float64 behind the features.

    Defects: a teacher that moves before the student or by another step's momentum, keys that learn
    or go through the predictor, heads of other layers, a last norm with weights of its own.
    """
    config = {**CASE.config, "mask_ratio": 0.0, "momentum": {"start": 0.7, "end": 1.0}}
    objective = replace(CASE, config=config).build()
    assert isinstance(objective, MoCo)
    named = ("backbone", "projector", "predictor")
    student = nn.ModuleDict({name: copy.deepcopy(getattr(objective, name)) for name in named})
    teacher = copy.deepcopy(student)
    begun = {name: value.detach().clone() for name, value in student.named_parameters()}
    drawn: list[Inputs] = []
    original = objective.inputs
    objective.inputs = lambda batch: drawn.append(original(batch)) or drawn[-1]  # type: ignore[method-assign, func-returns-value]

    def keys(network: nn.ModuleDict, view: Inputs) -> Tensor:
        x = pooled(network["backbone"], view, None).double()  # type: ignore[arg-type]
        return head(network["projector"], 3, x)  # type: ignore[arg-type]

    told = {"kind": "sgd", "lr": 0.01, "weight_decay": 0.0, "momentum": 0.0}
    with processes() as device:
        engine = Engine(
            objective,
            OptimizerConfig.model_validate(told),
            EngineConfig(precision="fp32"),
            micro_batch=ROWS,
            accumulate=1,
            device=device,
        )
        for number in range(3):
            batch = CASE.batch(objective, ROWS, seed=number)
            for x in batch.pixels.values():  # unlike, or the norms multiply rounding
                x *= torch.linspace(0.3, 2, ROWS)[:, None, None, None]
            batch.clock = Clock(ROWS * number, 2 * ROWS)
            drawn.clear()
            found, _ = engine.step([batch], 0.01, stop=False)
            loss = torch.zeros((), dtype=torch.float64)
            for asks, answers in (drawn, drawn[::-1]):
                query = head(student["predictor"], 2, keys(student, asks))  # type: ignore[arg-type]
                with torch.no_grad():
                    key = normalize(keys(teacher, answers))
                said = normalize(query) @ key.T / 0.2
                loss = loss + 2 * 0.2 * cross_entropy(said, torch.arange(ROWS))
            assert found.loss == pytest.approx(
                loss.item(), rel=1e-4
            )  # rounding of features, times the norms
            loss.backward()
            follow = 1 - 0.3 * (math.cos(math.pi * number / 2) + 1) / 2
            with torch.no_grad():
                for own, slow in zip(student.parameters(), teacher.parameters(), strict=True):
                    if own.grad is not None:
                        own.sub_(0.01 * own.grad)
                        own.grad = None
                    slow.copy_(follow * slow + (1 - follow) * own)
    ours = objective.state_dict()
    for network, prefix in ((student, ""), (teacher, "teacher.")):
        off, way = 0.0, 0.0
        for name, value in network.named_parameters():
            if f"{prefix}{name}" in ours or not prefix:
                off += (ours[f"{prefix}{name}"] - value).norm().item() ** 2
                way += (value - begun[name]).norm().item() ** 2
        assert off < 3e-3**2 * way, (prefix, off, way)
    assert not any(name.startswith("teacher.predictor") for name in ours)
