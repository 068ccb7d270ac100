"""What heads trained by gradient descent share: order, targets, loss, optimisers, stopping.

Several heads train side by side on the same batches. Their parameters carry a leading axis `H`,
and each has its own learning rate; heads never mix, so each is what it would be alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fm.errors import FMError
from probes.benchmarks.base import Data


def stream(count: int, size: int, steps: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Give batches of the numbers 0 to count - 1.

    Every pass over them is a permutation of all; a batch may straddle two passes, so nothing is
    dropped. A batch is never larger than a pass.

    Args:
        count: number of samples.
        size: of a batch.
        steps: number of batches.
        seed: of the order.
    """
    size = min(size, count)
    left = np.empty(0, np.int64)
    turn = 0
    for _ in range(steps):
        if len(left) < size:
            fresh = np.random.Generator(np.random.PCG64([seed, turn])).permutation(count)
            left, turn = np.concatenate([left, fresh]), turn + 1
        yield left[:size]
        left = left[size:]


@dataclass(frozen=True)
class Goal:
    """What is learnt: the targets of all samples and the loss.

    Attributes:
        kind: `class` (softmax cross-entropy), `multilabel` (mean sigmoid cross-entropy of the
            labels) or `regression` (mean squared error of standardised, known targets).
        targets: [N] class numbers, [N, K] of 0 and 1, or [N, K] standardised numbers.
        mean: [K] of the training targets of a regression, else None.
        spread: [K] their deviation, else None.
        outputs: K.
    """

    kind: str
    targets: Tensor
    mean: Tensor | None
    spread: Tensor | None
    outputs: int

    @classmethod
    def of(cls, task: str, data: Data, train: np.ndarray) -> "Goal":
        """Take the targets of a benchmark; numbers are standardised with the training samples.

        Raises:
            FMError: a target of a regression is not known for any training sample.
        """
        outputs = len(data.classes)
        if task == "class":
            return cls(task, torch.from_numpy(data.targets).long(), None, None, outputs)
        values = torch.from_numpy(np.asarray(data.targets, np.float64))
        if task == "multilabel":
            return cls(task, values.float(), None, None, outputs)
        given = data.targets[train]
        if not np.isfinite(given).any(0).all():
            raise FMError("a target is not known for any training sample; draw more of them")
        mean = torch.from_numpy(np.nanmean(given, 0))
        spread = torch.from_numpy(np.nanstd(given, 0))
        spread = torch.where(spread > 1e-12 * mean.abs(), spread, torch.ones_like(spread))
        return cls(task, ((values - mean) / spread).float(), mean, spread, outputs)

    def loss(self, scores: Tensor, rows: Tensor) -> Tensor:
        """Mean loss of each head.

        Args:
            scores: [H, B, K].
            rows: [B] sample numbers.

        Returns:
            [H].
        """
        y = self.targets[rows]
        if self.kind == "class":
            true = scores.gather(2, y.expand(len(scores), -1)[..., None])[..., 0]
            return (torch.logsumexp(scores, 2) - true).mean(1)
        if self.kind == "multilabel":
            return (torch.nn.functional.softplus(scores) - y * scores).mean((1, 2))
        known = torch.isfinite(y)
        errors = torch.where(known, scores - y.nan_to_num(), 0.0)
        return errors.square().sum((1, 2)) / known.sum().clamp(min=1)

    def predictions(self, scores: Tensor) -> NDArray[np.float64]:
        """Turn scores [n, K] into what the task takes: the scores, or numbers in their own unit."""
        found = scores.double()
        if self.mean is not None and self.spread is not None:
            found = found * self.spread + self.mean
        return found.numpy()

    @property
    def scale(self) -> Literal["logits"] | None:
        """What the predictions are, see `Outcome.scale`."""
        return None if self.kind == "regression" else "logits"


class Sgd:
    """SGD with momentum as torch's (no dampening), a rate for each head."""

    def __init__(self, parameters: Sequence[Tensor], momentum: float, decay: float) -> None:
        self.parameters, self.momentum, self.decay = list(parameters), momentum, decay
        self.velocity = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Tensor) -> None:
        """Move each parameter [H, ...] by its gradient; rates are [H]."""
        for p, v, g in zip(self.parameters, self.velocity, gradients, strict=True):
            if self.decay:
                g = g + self.decay * p
            v.mul_(self.momentum).add_(g)
            p.sub_(_spread(rates, p) * v)


class AdamW:
    """AdamW as torch's (betas 0.9 and 0.999), a rate for each head; matrices alone decay."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters, self.decay, self.steps = list(parameters), decay, 0
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Tensor) -> None:
        """Move each parameter [H, ...] by its gradient; rates are [H]."""
        self.steps += 1
        one, two = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        for p, m, v, g in zip(self.parameters, self.first, self.second, gradients, strict=True):
            rate = _spread(rates, p)
            if p.ndim > 2:
                p.sub_(rate * self.decay * p)
            m.lerp_(g, 1 - 0.9)
            v.mul_(0.999).addcmul_(g, g, value=1 - 0.999)
            p.sub_(rate / one * m / ((v / two).sqrt() + 1e-8))


def _spread(rates: Tensor, like: Tensor) -> Tensor:
    return rates.reshape(-1, *[1] * (like.ndim - 1))


class Best:
    """The best score of one head, its weights, and how long ago that was."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.score, self.at, self.seen = -np.inf, 0, 0
        self.state: Any = None

    @property
    def alive(self) -> bool:
        """Whether a better score may still come."""
        return self.seen - self.at < self.patience

    def offer(self, score: float, state: Sequence[Tensor]) -> None:
        """Take a score and the weights it belongs to; the first of equal ones is kept."""
        if not self.alive:
            return
        self.seen += 1
        if np.isfinite(score) and score > self.score:
            self.score, self.at = score, self.seen
            self.state = [value.detach().clone() for value in state]


def finite(scores: Tensor) -> bool:
    """Whether all scores of a head are numbers; one that diverged must not be chosen."""
    return bool(torch.isfinite(scores).all())
