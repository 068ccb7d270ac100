"""What is done to a backbone before its weights are trained: rates by layer, drop path, LoRA."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fm.errors import UsageError
from fm.models.layers import in_block, layer_numbers

_REMEDY = "take a protocol without it, such as finetune"


def parameter_groups(
    network: nn.Module,
    *,
    rate: float,
    weight_decay: float,
    layer_decay: float,
    head_multiple: float,
    what: str,
) -> list[dict[str, Any]]:
    """Arrange the trained parameters for AdamW.

    Args:
        network: its module `backbone`, if it has one, is decayed by layer; all else is the head.
        rate: of the head's side before `head_multiple`.
        weight_decay: of matrices and kernels of convolutions; biases, norms and tokens have none.
        layer_decay: factor for each layer away from the head.
        head_multiple: factor of the head's rate.
        what: name of the model, for errors.

    Returns:
        groups with `params`, `weight_decay`, and their peak rate as `lr` and `peak`.
    """
    factor: dict[str, float] = {}
    names = [n for n, _ in network.named_parameters() if n.startswith("backbone.")]
    if layer_decay < 1:
        numbers, top = layer_numbers([n.removeprefix("backbone.") for n in names], what, _REMEDY)
        factor = {n: layer_decay ** (top - k) for n, k in zip(names, numbers, strict=True)}
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        own = factor.get(name, 1.0) if name.startswith("backbone.") else head_multiple
        # a class token may have four axes too
        matrix = parameter.ndim == 2 or (parameter.ndim == 4 and name.endswith("weight"))
        empty = {"params": [], "weight_decay": weight_decay if matrix else 0.0}
        group = groups.setdefault((own, matrix), empty | {"lr": rate * own, "peak": rate * own})
        group["params"].append(parameter)
    return list(groups.values())


def drop_paths(model: nn.Module, rate: float, what: str) -> None:
    """Let the residual blocks of a backbone be skipped at random while it is trained.

    The probability rises linearly from 0 at the first block to `rate` at the last (Huang et al.,
    arXiv 1603.09382, section 3). It works on timm's blocks, of ViTs and ResNets.

    Raises:
        UsageError: the model has none of them.
    """
    from timm.layers import DropPath

    names = ("drop_path1", "drop_path2", "drop_path")

    def present(module: nn.Module) -> list[str]:
        empty = (nn.Module, type(None))
        return [n for n in names if hasattr(module, n) and isinstance(getattr(module, n), empty)]

    blocks = [(module, present(module)) for module in model.modules() if present(module)]
    if not blocks:
        raise UsageError(f"drop_path: {what} has no blocks that can be skipped; give 0")
    for number, (block, found) in enumerate(blocks):
        share = rate * number / max(len(blocks) - 1, 1)
        for name in found:
            module = DropPath(share) if share else nn.Identity()
            setattr(block, name, module.train(block.training))


class LowRank(nn.Module):
    """The parametrisation `W + alpha / rank * B A` of a linear layer's weight.

    A starts as `nn.Linear` does and B at zero, so that training starts at W.

    Args:
        outputs: rows of W.
        inputs: columns of W.
        rank: of the update.
        alpha: of the factor.
    """

    def __init__(self, outputs: int, inputs: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with its update."""
        return weight + self.scale * (self.b @ self.a)


def add_lora(
    model: nn.Module, rank: int, alpha: float, targets: Sequence[str], what: str
) -> list[str]:
    """Freeze a model and give linear layers inside its blocks a trained low-rank update.

    Args:
        model: changed in place.
        rank: of the updates.
        alpha: their factor times the rank.
        targets: last parts of the layers' names.
        what: name of the model, for the error.

    Returns:
        names of the layers.

    Raises:
        UsageError: no linear layer of these names inside numbered blocks.
    """
    model.requires_grad_(False)
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in targets and in_block(name)
    ]
    if not found:
        raise UsageError(
            f"lora: {what} has no linear layers {' or '.join(targets)} in its blocks; take a "
            f"protocol that trains all weights, such as finetune"
        )
    for _, layer in found:
        update = LowRank(layer.out_features, layer.in_features, rank, alpha)
        parametrize.register_parametrization(layer, "weight", update)
    return [name for name, _ in found]


def training_mode(network: nn.Module) -> None:
    """Set train mode, but for batch norms whose own weights are frozen: they keep their numbers."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            own = list(module.parameters(recurse=False))
            if own and not any(p.requires_grad for p in own):
                module.eval()
