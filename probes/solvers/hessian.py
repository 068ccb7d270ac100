"""Hessians of logistic objectives: products with vectors, preconditioners, Newton directions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from probes.solvers.problem import Problem, times

LONGEST = 300
"""Iterations at most."""
STRIPS = 4
PATIENCE = 0.2
"""Iterations that cost what a block of one score does, for each feature: its products are dense."""
BLOCKS = 1 << 28
"""Numbers in all blocks of a solve at most."""
SPARED, FEW = 1e-4, 0.4
"""Share of a problem's curvature, and the share of samples that must hold no more of it."""


@dataclass
class Block:
    """What is known of one problem's Hessian: inverses a score, and iterations since."""

    inverse: "Tensor | None" = None
    spent: int = 0


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of each problem, in float64."""
    return (a.double() * b.double()).sum((1, 2))


class Preconditioner:
    """Approximate inverse Hessians, cheap for all problems and better for some.

    The cheap one is the Hessian if every sample had the average class covariance: that [K, K]
    covariance (Kronecker) the diagonal scatter of the features, which are rotated so that it is
    diagonal. The better one, `block`, has one inverse a score and leaves out how scores bear on one
    another.
    """

    def __init__(self, vectors: Tensor, inverse: Tensor, blocks: Sequence[Block]) -> None:
        self.vectors, self.inverse, self.blocks = vectors, inverse, list(blocks)
        self.better = [i for i, block in enumerate(blocks) if block.inverse is not None]

    @classmethod
    def of(cls, problem: Problem, p: Tensor, blocks: Sequence[Block]) -> "Preconditioner":
        """At probabilities p [P, K, N], with the blocks of each problem."""
        if problem.softmax:
            average = torch.diag_embed(p.mean(2)) - p @ p.mT / p.shape[2]
        else:
            average = (p * (1 - p)).mean(2)[..., None]
        values, vectors = torch.linalg.eigh(average.double())
        bend = values.clamp_min(0)[..., None] * problem.power.double()
        bend[..., :-1] += problem.decay[:, None, None]
        inverse = 1 / bend.clamp_min(1e-30)
        if problem.softmax:
            # Adding one number to all intercepts changes nothing: the first eigenvector is that
            # direction, without curvature, and a step along it would be rounding noise.
            inverse[:, 0, -1] = 0
        return cls(vectors.to(p), inverse.to(p), blocks)

    def __call__(self, r: Tensor) -> Tensor:
        """Apply it to [P, K, W]."""
        out = self.vectors @ (self.inverse * (self.vectors.mT @ r))
        for i in self.better:
            inverse = self.blocks[i].inverse
            assert inverse is not None
            better = (inverse @ r[i, ..., None])[..., 0]
            # scores of a softmax may be shifted together: gradients have no part in that
            out[i] = better - better.mean(0) if r.shape[1] > 1 else better
        return out

    def select(self, keep: Tensor) -> "Preconditioner":
        """Some of the problems."""
        blocks = [self.blocks[i] for i in keep.nonzero().flatten().tolist()]
        return Preconditioner(self.vectors[keep], self.inverse[keep], blocks)


@dataclass(frozen=True)
class Hessian:
    """Hessians of `P` problems, to be multiplied with vectors.

    Samples that are told apart well bend the objective next to nothing. Those that hold the last
    `SPARED` of a problem's curvature are left out of the products when they are many, and stand as
    if their features were uncorrelated, which over all samples they are.

    Attributes:
        low: [n, W] features of the samples that count.
        across: [W, n] the same, transposed in memory.
        p: [P, K, n] their probabilities.
        count: N, all samples.
        ridge: [P, K, W] the penalty, and what the samples left out are worth.
        softmax: see `Problem`.
    """

    low: Tensor
    across: Tensor
    p: Tensor
    count: int
    ridge: Tensor
    softmax: bool

    @classmethod
    def of(cls, problem: Problem, p: Tensor, *, whole: bool = False) -> "Hessian":
        """At probabilities p [P, K, N]; of all samples if asked."""
        low, across, count = problem.low, problem.across, len(problem.low)
        weight = p * (1 - p)
        ridge = torch.zeros(*p.shape[:2], low.shape[1], dtype=p.dtype, device=p.device)
        ridge[..., :-1] = problem.decay[:, None, None]
        share = weight.sum(1)
        share /= share.sum(1, keepdim=True).clamp_min(1e-30)
        least, order = share.amax(0).sort()
        spared = int((least.cumsum(0) < SPARED).sum())
        if spared > FEW * count and not whole:
            keep = order[spared:].sort().values
            tail = (weight.sum(2) - weight[..., keep].sum(2)).clamp_min(0) / count
            ridge += tail[..., None] * problem.power.to(p)
            low, p = low[keep], p[..., keep]
            across = low.T.contiguous()
        return cls(low, across, p, count, ridge, problem.softmax)

    @property
    def spares(self) -> bool:
        """Whether samples are left out."""
        return len(self.low) < self.count

    def select(self, keep: Tensor) -> "Hessian":
        """Some of the problems."""
        return replace(self, p=self.p[keep], ridge=self.ridge[keep])

    def __call__(self, v: Tensor) -> Tensor:
        """Multiply with [P, K, W]."""
        u = times(v, self.across)
        if self.softmax:
            u *= self.p
            u -= self.p * u.sum(1, keepdim=True)
        else:
            u *= self.p * (1 - self.p)
        return times(u, self.low) / self.count + self.ridge * v

    def patience(self) -> list[float]:
        """Iterations of each problem that cost what its `block` does; it serves later steps too."""
        problems, scores, width = self.ridge.shape
        if problems * scores * width * width > BLOCKS:
            return [math.inf] * problems
        weight = self.p * (1 - self.p)
        bearing = (weight > 1e-3 * weight.mean(2, keepdim=True)).float().mean((1, 2))
        return (PATIENCE * width * bearing + 8).tolist()

    def block(self, i: int) -> Tensor:
        """Invert, for each score of one problem, its part of the Hessian: [K, W, W]."""
        inverses = []
        for p, ridge in zip(self.p[i], self.ridge[i], strict=True):
            weight = p * (1 - p)
            least, order = weight.sort()
            spared = int((least.cumsum(0) < SPARED * weight.sum()).sum())
            if spared > FEW * len(weight):
                keep = order[spared:].sort().values
                part = self.low[keep] * weight[keep].sqrt()[:, None]
            else:
                part = self.low * weight.sqrt()[:, None]
            hessian = _scatter(part).double() / self.count
            hessian.diagonal().add_(ridge.double())
            scale = hessian.diagonal().clamp_min(1e-30).rsqrt()
            hessian *= scale[:, None] * scale
            jitter = 8 * torch.finfo(part.dtype).eps
            failed = torch.ones((), dtype=torch.int)
            while bool(failed):
                hessian.diagonal().add_(jitter)
                factor, failed = torch.linalg.cholesky_ex(hessian)
                jitter *= 100
            inverses.append((torch.cholesky_inverse(factor) * scale[:, None] * scale).to(part))
        return torch.stack(inverses)


def _scatter(x: Tensor) -> Tensor:
    """X'X in a few strips, of which only the upper triangle is multiplied."""
    width = x.shape[1]
    strip = -(-width // STRIPS)
    made = x.new_zeros(width, width)
    for at in range(0, width, strip):
        made[at : at + strip, at:] = x[:, at : at + strip].T @ x[:, at:]
    return made.triu() + made.triu(1).T


def direction(
    hessian: Hessian,
    precondition: Preconditioner,
    g: Tensor,
    ratio: Tensor,
) -> tuple[Tensor, Tensor]:
    """Solve Hessian * d = -g by preconditioned conjugate gradients.

    Each problem stops when its squared residual (in the preconditioner's norm) has shrunk by
    `ratio` [P], and leaves the batch when a third of the problems have stopped.

    Returns:
        d [P, K, W], and the iterations of each [P].
    """
    answer = torch.zeros_like(g)
    taken = torch.zeros(len(g), dtype=torch.long, device=g.device)
    index = torch.arange(len(g), device=g.device)
    d, r = torch.zeros_like(g), -g
    s = precondition(r)
    q = s.clone()
    rho = dot(r, s)
    target = ratio * rho
    live = rho > 0
    for _ in range(LONGEST):
        if not bool(live.any()):
            break
        taken[index[live]] += 1
        hq = hessian(q)
        bend = dot(q, hq)
        live = live & (bend > 0)
        alpha = torch.where(live, rho / torch.where(live, bend, 1.0), 0.0).to(g)[:, None, None]
        d = d + alpha * q
        r = r - alpha * hq
        s = precondition(r)
        new = dot(r, s)
        live = live & (new > target)
        q = s + torch.where(live, new / rho, 0.0).to(g)[:, None, None] * q
        rho = torch.where(live, new, rho)
        if int(live.sum()) * 3 < len(live) * 2:
            answer[index] = d
            index, d, r, q, rho = index[live], d[live], r[live], q[live], rho[live]
            target, hessian = target[live], hessian.select(live)
            precondition = precondition.select(live)
            live = live[live]
    answer[index] = d
    return answer, taken
