"""The optimisers: torch's and timm's, under DeepSpeed as the client's own."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fm.errors import UsageError
from fm.models import Backbone
from pretrain.engine.groups import parameter_groups
from pretrain.settings.optimizer import OptimizerConfig

ELEMENTWISE = ("adamw", "sgd")
"""Kinds that treat each number on its own, so that ZeRO may cut what they work on."""


def build_optimizer(
    module: nn.Module, backbone: Backbone, config: OptimizerConfig, zero_stage: int
) -> torch.optim.Optimizer:
    """Build the optimiser of a config over a module's parameters.

    DeepSpeed's own LAMB is a CUDA kernel that is compiled on first use, and its Muon is compiled
    by inductor, so timm's are taken; neither can work on the flat pieces that ZeRO makes.

    Args:
        module: whose parameters are trained.
        backbone: the part of it that `layer_decay` is for.
        config: kind and settings.
        zero_stage: DeepSpeed's.

    Raises:
        UsageError: the kind needs whole matrices and ZeRO cuts them; no layers for `layer_decay`;
            no matrix for Muon.
    """
    if config.kind not in ELEMENTWISE and zero_stage > 0:
        raise UsageError(
            f"optimizer.kind={config.kind} looks at whole matrices, and ZeRO stage {zero_stage} "
            f"cuts them; set engine.deepspeed=zero0, or optimizer.kind={ELEMENTWISE[0]}"
        )
    groups: list[dict[str, Any]] = parameter_groups(
        module,
        config.weight_decay,
        backbone=backbone,
        layer_decay=config.layer_decay,
        bias_scale=config.bias_scale,
        all_decayed=config.decayed == "all",
        hidden_apart=config.kind == "muon",
    )
    if config.kind == "adamw":
        # torch's own fused AdamW: DeepSpeed's CPU Adam drifts after a resume (it keeps the powers
        # of beta by repeated multiplication), torch's continues bit for bit
        return torch.optim.AdamW(
            groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True
        )
    if config.kind == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.inertia, nesterov=config.nesterov, fused=True
        )
    if config.kind == "lars":
        from timm.optim.lars import Lars

        for group in groups:
            # timm adapts what is decayed; a matrix is adapted also where the decay is 0
            group["always_adapt"] = group["matrices"]
        return Lars(groups, lr=config.lr, momentum=config.inertia, trust_coeff=config.trust)
    if config.kind == "lamb":
        from timm.optim.lamb import Lamb

        # gradients are clipped by the engine, if at all
        return Lamb(groups, lr=config.lr, betas=config.betas, eps=config.eps, max_grad_norm=None)
    from timm.optim.muon import Muon

    if not any(group["hidden"] for group in groups):
        raise UsageError(
            "optimizer.kind=muon: the model has no matrices inside numbered blocks; set "
            "optimizer.kind=adamw"
        )
    for group in groups:
        group["use_fallback"] = not group["hidden"]
    return Muon(groups, lr=config.lr, momentum=config.inertia, betas=config.betas, eps=config.eps)


class Rates:
    """Sets an optimiser's rates before each step.

    Args:
        groups: of `parameter_groups`, as they were made: what is loaded may not know of scales.
    """

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        self._scales = [float(group["lr_scale"]) for group in groups]
        self._decayed = [bool(group["decayed"]) for group in groups]

    def set(
        self, groups: Sequence[dict[str, Any]], learning_rate: float, weight_decay: float | None
    ) -> None:
        """Set the rates of a step.

        Args:
            groups: the optimiser's, in the same order.
            learning_rate: of this step, before the scales.
            weight_decay: of the groups that are decayed; None leaves it.
        """
        for group, scale, decayed in zip(groups, self._scales, self._decayed, strict=True):
            group["lr"] = learning_rate * scale
            if decayed and weight_decay is not None:
                group["weight_decay"] = weight_decay
