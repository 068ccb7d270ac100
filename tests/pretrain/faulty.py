"""A run with a fault: `python -m tests.pretrain.faulty FAULT RANK STEP CONFIG [key=value ...]`.

The fault happens on one rank at one step (from 1), inside the forward pass. A script of its own, so
that real ranks under a real launcher can have it.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from fm.cli import main
from fm.errors import FMError
from pretrain.objectives.mae import MAE


def _nan(output: Any) -> Any:
    output.loss_sum = output.loss_sum * torch.nan
    return output


def _leap(output: Any) -> Any:
    output.loss_sum = output.loss_sum * 50
    return output


def _refuse(output: Any) -> Any:
    raise FMError("the sample has horns; shear it")


def _crash(output: Any) -> Any:
    raise ZeroDivisionError("a bug of ours")


def _killed(output: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _stuck(output: Any) -> Any:
    time.sleep(600)


FAULTS: dict[str, Callable[[Any], Any]] = {
    "nan": _nan,
    "leap": _leap,
    "refuse": _refuse,
    "crash": _crash,
    "killed": _killed,
    "stuck": _stuck,
}


def faulty(forward: Callable[..., Any], fault: str, rank: int, steps: tuple[int, ...]) -> Any:
    """Wrap an objective's forward pass so that it fails at some steps on one rank."""

    def wrapped(self: Any, batch: Any, rng: Any) -> Any:
        output = forward(self, batch, rng)
        here = int(os.environ.get("RANK", "0")) == rank and batch.step + 1 in steps
        return FAULTS[fault](output) if here and self.training else output

    return wrapped


def run(fault: str, rank: int, step: int, words: list[str]) -> int:
    """Put the fault in and run `fm pretrain`."""
    MAE.forward = faulty(MAE.forward, fault, rank, (step,))  # type: ignore[method-assign]
    return main(["pretrain", *words])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
