"""Many logistic objectives over the same features: values, gradients, scores."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """`P` problems of `K` scores over the same features; parameters are [P, K, W].

    What belongs to samples has them last, [P, K, N]: then sums over a few scores run along memory.

    Attributes:
        x: [N, W] features, the last column ones: its parameters are the intercepts.
        low: the same in the type of the conjugate gradients.
        across: [W, N], `low` transposed in memory: a product with few rows is a third faster so.
        power: [W] mean squares of the columns.
        y: [N] class numbers of the softmax (K classes), or [P, N] of 0 and 1 for sigmoids (K = 1).
        decay: [P] weight of the penalty, 1 / (C * N), in float64.
        softmax: which of the two.
    """

    x: Tensor
    low: Tensor
    across: Tensor
    power: Tensor
    y: Tensor
    decay: Tensor
    softmax: bool

    def select(self, keep: Tensor) -> "Problem":
        """Some of the problems."""
        y = self.y if self.softmax else self.y[keep]
        return replace(self, y=y, decay=self.decay[keep])

    def scores(self, theta: Tensor) -> Tensor:
        """Scores [P, K, N] in float64."""
        return times(theta.to(self.x.dtype), self.x.T).double()

    def evaluate(self, theta: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Objectives [P] and probabilities [P, K, N] at scores z."""
        if self.softmax:
            p = z - z.amax(1, keepdim=True)
            own = p.gather(1, self.y.expand(len(z), 1, -1))[:, 0]
            p.exp_()
            total = p.sum(1, keepdim=True)
            loss = (total[:, 0].log() - own).mean(1)
            p /= total
        else:
            loss = (torch.nn.functional.softplus(z[:, 0]) - self.y * z[:, 0]).mean(1)
            p = torch.sigmoid(z)
        return loss + 0.5 * self.decay * (theta[..., :-1] ** 2).sum((1, 2)), p

    def gradient(self, theta: Tensor, p: Tensor) -> Tensor:
        """Gradients [P, K, W] in float64."""
        residual = p.to(self.x.dtype, copy=True)
        if self.softmax:
            where = self.y.expand(len(p), 1, -1)
            residual.scatter_add_(1, where, residual.new_full((1, 1, 1), -1.0).expand(where.shape))
        else:
            residual -= self.y[:, None]
        g = times(residual, self.x).double() / len(self.x)
        g[..., :-1] += self.decay[:, None, None] * theta[..., :-1]
        return g


def times(a: Tensor, b: Tensor) -> Tensor:
    """[P, K, A] times [A, B] in one product."""
    return (a.flatten(0, 1) @ b).unflatten(0, a.shape[:2])
