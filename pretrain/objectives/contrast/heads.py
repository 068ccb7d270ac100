"""Projectors and predictors: what lies between the features of a backbone and a contrast."""

from itertools import pairwise
from typing import Literal

from torch import nn

from pretrain.objectives.contrast.batch_norm import BatchNorm

Last = Literal["none", "plain"]
"""What is behind the last layer: nothing, or a batch norm without weights of its own."""


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between: the projector of MoCo-v2 (arXiv 2003.04297) and SeCo.

    Args:
        widths: in, inside and out; two of them make one layer.
    """
    layers: list[nn.Module] = []
    for inside, outside in pairwise(widths):
        layers += [nn.Linear(inside, outside), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def normed_perceptron(*widths: int, last: Last = "plain") -> nn.Sequential:
    """The same with batch norm over all ranks and no biases: MoCo-v3's (arXiv 2104.02057).

    Its projector of a ViT has three layers, its other heads two; all end in a norm without weights
    but the predictor of a ResNet.

    Args:
        widths: in, inside and out.
        last: what is behind the last layer.
    """
    layers: list[nn.Module] = []
    for inside, outside in pairwise(widths):
        layers += [nn.Linear(inside, outside, bias=False), BatchNorm(outside), nn.ReLU()]
    layers = layers[:-2]
    if last == "plain":
        layers.append(BatchNorm(widths[-1], affine=False))
    return nn.Sequential(*layers)
