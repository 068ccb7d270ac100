"""Looks at a model while it is trained, without a trace: modes, gradients and generators stay."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from pretrain.engine.batches import MicroBatch
from pretrain.engine.engine import Engine
from pretrain.objective import Objective, Output

T = TypeVar("T")


def look(engine: Engine, batch: MicroBatch, see: Callable[[Objective, MicroBatch], T]) -> T:
    """Call something on the objective as a step calls its loss; call on every rank.

    It runs where a forward pass of the engine does, so that weights are whole under ZeRO 3 and the
    run's precision holds, in `eval()` and without gradients.

    Args:
        engine: of the run.
        batch: of the size of a micro-batch.
        see: takes the objective and the batch.

    Returns:
        what `see` does.
    """
    objective = engine.objective
    found: list[T] = []

    def instead(batch: MicroBatch, rng: object) -> Output:
        del rng
        found.append(see(objective, batch))
        nothing = batch.weight.sum()
        return Output(nothing, nothing)

    with torch.no_grad(), unchanged(engine.engine.module):
        engine.engine.eval()
        vars(objective)["forward"] = instead
        try:
            engine.engine(batch)
        finally:
            del vars(objective)["forward"]
    return found[0]


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Keep torch's generators, and put the mode of every module back."""
    modes = {part: part.training for part in module.modules()}
    try:
        with generators_kept():
            yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def generators_kept() -> Iterator[None]:
    """Put the states of the global generators of torch, numpy and Python back."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)
