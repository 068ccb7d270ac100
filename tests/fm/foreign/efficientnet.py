"""EfficientNet by the names that its own packages give, without timm."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from fm.foreign.families.efficientnet import REPEATS
from fm.foreign.inventory import inventory

STRIDES = (1, 2, 2, 2, 1, 2, 1)


def random_state(layout: str, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights under which the signal neither dies nor grows."""
    state = {}
    found = inventory(layout)
    for key, shape in found.expand(found.tiny).items():
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


def by_its_own_keys(
    state: dict[str, Tensor],
    x: Tensor,
    variant: str = "lite0",
    lead: str = "",
    padded_for: int | None = None,
) -> Tensor:
    """The last map (Tan and Le, arXiv 1905.11946) by plain convolutions.

    Squeeze-and-excitation and the head are there where the state has them. With `padded_for` every
    convolution is padded as on images of that size, otherwise as on the one at hand.
    """
    side = [padded_for or 0]

    def weights(key):
        return state[f"{lead}{key}.weight"], state.get(f"{lead}{key}.bias")

    def conv(key, x, stride=1, groups=1):
        weight, _ = weights(key)
        pads = []
        for own in x.shape[:-3:-1]:  # TensorFlow's "same": what is odd goes right and below
            size = side[0] if padded_for else own
            total = max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0)
            pads += [total // 2, total - total // 2]
        side[0] = -(-side[0] // stride)
        return functional.conv2d(functional.pad(x, pads), weight, stride=stride, groups=groups)

    def norm(key, x):
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(state[f"{lead}{key}.{n}"] for n in names), eps=1e-3)

    squeeze = f"{lead}_blocks.0._se_reduce.weight" in state
    act = functional.silu if squeeze else functional.relu6
    x = act(norm("_bn0", conv("_conv_stem", x, 2)))
    block = 0
    for count, first in zip(REPEATS[variant], STRIDES, strict=True):
        for n in range(count):
            key, before = f"_blocks.{block}", x
            if f"{lead}{key}._expand_conv.weight" in state:
                x = act(norm(f"{key}._bn0", conv(f"{key}._expand_conv", x)))
            stride = first if n == 0 else 1
            x = act(norm(f"{key}._bn1", conv(f"{key}._depthwise_conv", x, stride, x.shape[1])))
            if squeeze:
                gate = x.mean((2, 3), keepdim=True)
                gate = act(functional.conv2d(gate, *weights(f"{key}._se_reduce")))
                x = x * functional.conv2d(gate, *weights(f"{key}._se_expand")).sigmoid()
            x = norm(f"{key}._bn2", conv(f"{key}._project_conv", x))
            if n:
                x = x + before
            block += 1
    if f"{lead}_conv_head.weight" not in state:
        return x
    return act(norm("_bn1", conv("_conv_head", x)))
