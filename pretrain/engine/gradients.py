"""Gradients between the backward pass and the optimiser step: their norm, taken or dropped."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

CLIP_EPSILON = 1e-6
"""What torch adds to the norm before it divides by it."""


class Gradients:
    """The reduced gradients of one step, wherever DeepSpeed keeps them.

    DeepSpeed offers the norm only after its step. Under ZeRO its own parts of the step are asked
    before it, and the step is then told what they said, so that nothing is computed twice. To drop
    gradients, DeepSpeed is told that they overflowed: it clears them and leaves the weights and
    moments as they are, as it does in fp16 (`stage_1_and_2.py` and `stage3.py`, 0.19).

    Args:
        engine: DeepSpeed's.
        zero_stage: its ZeRO stage.
    """

    def __init__(self, engine: Any, zero_stage: int) -> None:
        self._engine, self._stage = engine, zero_stage
        self._groups: Any = None

    def norm(self) -> Tensor:
        """Return the norm over all parameters, before clipping; infinite where one is not finite.

        Under ZeRO this is a collective.
        """
        optimizer = self._engine.optimizer
        if self._stage == 0:
            gradients = [p.grad for p in self._engine.parameters() if p.grad is not None]
            self._groups = torch.nn.utils.get_total_norm(gradients, foreach=True)
            return self._groups
        if self._stage < 3:
            optimizer._wait_for_offload_copies()
            self._groups = optimizer.scaled_global_norm()
            return self._groups / optimizer.loss_scale
        from deepspeed.runtime.utils import combine_grad_norm_groups

        self._groups = optimizer._get_norm_groups()
        return combine_grad_norm_groups(self._groups) / optimizer.loss_scale

    def take(self) -> None:
        """Let DeepSpeed take its step; call after `norm`."""
        if self._stage == 0:
            with _replaced(self._engine, clip_fp32_gradients=self._clip):
                self._engine.step()
            return
        name = "scaled_global_norm" if self._stage < 3 else "_get_norm_groups"
        with _replaced(self._engine.optimizer, **{name: lambda: self._groups}):
            self._engine.step()

    def _clip(self) -> None:
        """Clip by the norm that is known; DeepSpeed would take another pass for its own."""
        most = self._engine.gradient_clipping()
        if float(self._groups) > most - CLIP_EPSILON:  # else the factor is 1
            parameters = [p for p in self._engine.parameters() if p.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(parameters, most, self._groups, foreach=True)

    def drop(self) -> None:
        """Clear the gradients; weights and moments stay as they are."""
        optimizer = self._engine.optimizer
        if self._stage == 0:
            for parameter in self._engine.parameters():
                parameter.grad = None  # which AdamW passes over, its step count too
            with _replaced(self._engine, clip_fp32_gradients=lambda: None):  # fails without any
                self._engine.step()
            return
        if self._stage == 3:
            overflow: dict[str, Any] = {"_get_norm_groups": lambda: [torch.tensor(-1.0)]}
        else:

            def overflowed(partition_gradients: bool = True) -> None:
                del partition_gradients
                optimizer.overflow = True

            overflow = {"check_grad_overflow": True, "check_overflow": overflowed}
        with _replaced(optimizer, **overflow):
            self._engine.step()


@contextmanager
def _replaced(target: Any, **values: Any) -> Iterator[None]:
    """Give an object other attributes while the block runs."""
    before = {name: vars(target)[name] for name in values if name in vars(target)}
    vars(target).update(values)
    try:
        yield
    finally:
        for name in values:
            del vars(target)[name]
        vars(target).update(before)
