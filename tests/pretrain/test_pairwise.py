"""The pairwise sigmoid loss in closed form."""

import math

import pytest
import torch

from pretrain.losses import pairwise_sigmoid


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_two_samples_in_closed_form() -> None:
    """Orthogonal pairs: one term of its partner at cosine 1, one of the other at cosine 0."""
    rows = torch.eye(2)
    found = pairwise_sigmoid(rows, rows, temperature=0.1, bias=-10.0, own=0)
    assert found.tolist() == pytest.approx([softplus(0.0) + softplus(-10.0)] * 2, rel=1e-6)


def test_identical_captions_belong_together_and_what_is_not_allowed_counts_nothing() -> None:
    rows = torch.eye(2)
    same = torch.ones(2, 2)
    found = pairwise_sigmoid(rows, rows, temperature=0.5, bias=0.0, positives=same)
    assert found.tolist() == pytest.approx([softplus(-2.0) + softplus(0.0)] * 2, rel=1e-6)
    seen = torch.tensor([True, False])
    found = pairwise_sigmoid(rows, rows, temperature=0.5, bias=0.0, positives=same, allowed=seen)
    assert found.tolist() == pytest.approx([softplus(-2.0), softplus(0.0)], rel=1e-6)


def test_scale_and_bias_are_learned() -> None:
    scale, bias = torch.tensor(2.0, requires_grad=True), torch.tensor(-3.0, requires_grad=True)
    rows = torch.randn(3, 4)
    found = pairwise_sigmoid(rows, rows, temperature=1 / scale.exp(), bias=bias, own=0)
    found.sum().backward()
    assert scale.grad
    assert bias.grad
    with pytest.raises(ValueError, match="own or positives"):
        pairwise_sigmoid(rows, rows, temperature=1.0, bias=0.0)
