"""EfficientNet-Lite by the names that its own package gives, without timm."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from fm.foreign.families.efficientnet import REPEATS
from fm.foreign.inventory import inventory

STRIDES = (1, 2, 2, 2, 1, 2, 1)


def random_state(variant: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights under which the signal neither dies nor grows."""
    state = {}
    for key, shape in inventory(f"efficientnet_{variant}").expand().items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
        elif key.endswith("running_var"):
            state[key] = torch.rand(shape, generator=generator) + 0.5
        else:
            fan = max(1, math.prod(shape[1:]))
            state[key] = torch.randn(shape, generator=generator) * (1.5 / fan) ** 0.5
            if key.endswith("weight") and len(shape) == 1:
                state[key] = state[key].abs() * 0.5 + 0.7
    return state


def by_its_own_keys(state: dict[str, Tensor], x: Tensor, variant: str = "lite0") -> Tensor:
    """The last map (Tan and Le, arXiv 1905.11946, its Lite form) by plain convolutions."""

    def conv(key, x, stride=1, groups=1):
        weight = state[f"{key}.weight"]
        pads = []
        for side in x.shape[:-3:-1]:  # TensorFlow's "same": what is odd goes right and below
            total = max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pads), weight, stride=stride, groups=groups)

    def norm(key, x):
        parts = [state[f"{key}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *parts, eps=1e-3)

    x = functional.relu6(norm("_bn0", conv("_conv_stem", x, 2)))
    block = 0
    for count, first in zip(REPEATS[variant], STRIDES, strict=True):
        for n in range(count):
            key, before = f"_blocks.{block}", x
            if f"{key}._expand_conv.weight" in state:
                x = functional.relu6(norm(f"{key}._bn0", conv(f"{key}._expand_conv", x)))
            stride = first if n == 0 else 1
            x = conv(f"{key}._depthwise_conv", x, stride, x.shape[1])
            x = functional.relu6(norm(f"{key}._bn1", x))
            x = norm(f"{key}._bn2", conv(f"{key}._project_conv", x))
            if n:
                x = x + before
            block += 1
    return functional.relu6(norm("_bn1", conv("_conv_head", x)))
