"""Truncated Newton for many logistic problems over the same features.

All problems share one matrix of features, so one matrix product serves all of them (Nocedal and
Wright, Numerical Optimization, 2nd ed., section 7.1). Each takes Newton steps whose equation is
solved loosely by preconditioned conjugate gradients, tighter as it nears its solution (Eisenstat
and Walker, SIAM J. Sci. Comput. 17, 1996, choice 2), and a backtracking line search. Problems that
are done leave the batch.

The objective of a problem is the mean loss + 0.5 * decay * ||W||^2. Everything that is large in
number of samples and wide in features is a product in the type of `Problem.low`; losses,
probabilities and sums over samples are float64, since the loss of samples that are fitted well is
lost in the rounding of their scores.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

SMALL = 100_000_000
"""Multiplications in one product over all problems below which one thread is used."""
LOOSE, LOOSEST, TIGHTEST = 0.01, 0.1, 1e-6
"""Squared residuals, of the first one, at which conjugate gradients stop."""
LONGEST = 300
"""Iterations at most."""
STRIPS = 4
PATIENCE = 0.2
"""Iterations that cost what a block of one score does, for each feature: its products are dense."""
BLOCKS = 1 << 28
"""Numbers in all blocks of a solve at most."""
SPARED, FEW = 1e-4, 0.4
"""Share of a problem's curvature, and the share of samples that must hold no more of it."""


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
        return _times(theta.to(self.x.dtype), self.x.T).double()

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
        g = _times(residual, self.x).double() / len(self.x)
        g[..., :-1] += self.decay[:, None, None] * theta[..., :-1]
        return g


def _times(a: Tensor, b: Tensor) -> Tensor:
    """[P, K, A] times [A, B] in one product."""
    return (a.flatten(0, 1) @ b).unflatten(0, a.shape[:2])


@dataclass(frozen=True)
class Stop:
    """When a problem is done.

    Attributes:
        tol: half the squared Newton decrement, the decrease that the quadratic model promises
            (Boyd and Vandenberghe, Convex Optimization, section 9.5.1), is at most so much of the
            objective; that step is still taken.
        gtol: the largest component of the gradient is at most this; takes the place of `tol`.
        basis: [D, W - 1] turns gradients into those of the features they are measured for.
        mean: [D] of those features, which the columns of `Problem.x` lack.
    """

    tol: float
    gtol: float | None
    basis: Tensor
    mean: Tensor

    def largest(self, g: Tensor) -> Tensor:
        """Largest component of the gradients [P, K, W] for the features as given: [P]."""
        outer = g[..., :-1] @ self.basis.T + g[..., -1:] * self.mean
        return torch.maximum(outer.abs().amax((1, 2)), g[..., -1].abs().amax(1))


@dataclass(frozen=True)
class Solved:
    """Parameters [P, K, W], objectives [P], which are done [P], steps, and what was learned."""

    theta: Tensor
    value: Tensor
    done: Tensor
    steps: int
    blocks: "list[Block]"


@dataclass
class Block:
    """What is known of one problem's Hessian: inverses a score, and iterations since."""

    inverse: "Tensor | None" = None
    spent: int = 0


def solve(
    problem: Problem,
    start: Tensor,
    stop: Stop,
    max_steps: int,
    blocks: "Sequence[Block] | None" = None,
) -> Solved:
    """Solve all problems from [P, K, W] float64, with what is known of their Hessians."""
    with few_threads(problem.low.numel() * start.shape[0] * start.shape[1]):
        run = _Run(problem, start, stop, blocks or [Block() for _ in start])
        while len(run.live) and run.steps < max_steps:
            run.step()
        run.leave(torch.ones_like(run.value, dtype=torch.bool), done=False)
    return Solved(run.theta, run.values, run.done, run.steps, run.blocks)


class _Run:
    """The problems that are not done yet, and the answers of those that are."""

    def __init__(
        self, problem: Problem, start: Tensor, stop: Stop, blocks: Sequence[Block]
    ) -> None:
        self.stop, self.part, self.steps = stop, problem, 0
        self.blocks = [replace(block) for block in blocks]
        self.theta, self.values = start.clone(), torch.zeros_like(problem.decay)
        self.done = torch.zeros(len(start), dtype=torch.bool, device=start.device)
        self.live = torch.arange(len(start), device=start.device)
        self.now = start.clone()
        self.z = problem.scores(start)
        self.value, self.p = problem.evaluate(start, self.z)
        self.before = torch.full_like(problem.decay, torch.inf)

    def leave(self, which: Tensor, *, done: bool) -> None:
        """Keep the answers of some problems and go on without them."""
        if not bool(which.any()):
            return
        gone = self.live[which]
        self.theta[gone], self.values[gone] = self.now[which], self.value[which]
        self.done[gone] = done
        keep = ~which
        self.live, self.now, self.value = self.live[keep], self.now[keep], self.value[keep]
        self.z, self.p, self.before = self.z[keep], self.p[keep], self.before[keep]
        self.part = self.part.select(keep)

    def step(self) -> None:
        """Take one Newton step for every problem that is left."""
        g = self.part.gradient(self.now, self.p)
        goal = None
        if self.stop.gtol is not None:
            height = self.stop.largest(g)
            reached = height <= self.stop.gtol
            self.leave(reached, done=True)
            if not len(self.live):
                return
            g, goal = g[~reached], (0.1 * self.stop.gtol / height[~reached]) ** 2
        self.steps += 1
        low = self.part.low.dtype
        p = self.p.to(low)
        low_g = g.to(low)
        hessian = Hessian.of(self.part, p)
        blocks = [self.blocks[i] for i in self.live.tolist()]
        patience = hessian.patience()
        for i, block in enumerate(blocks):
            if block.spent >= patience[i]:
                blocks[i].inverse, blocks[i].spent = hessian.block(i), 0
        precondition = Preconditioner.of(self.part, p, blocks)
        rho = _dot(low_g, precondition(low_g))
        if goal is None:
            goal = 0.2 * self.stop.tol * self.value / rho.clamp_min(1e-300)
        # no tighter than the last step has earned, nor than is needed to be done
        earned = torch.where(torch.isinf(self.before), LOOSE, 0.8 * (rho / self.before) ** 2)
        ratio = torch.maximum(earned.clamp(max=LOOSE), goal).clamp(TIGHTEST, LOOSEST)
        self.before = rho
        found, taken = _direction(hessian, precondition, low_g, ratio)
        for block, count in zip(blocks, taken.tolist(), strict=True):
            block.spent += count
        direction = found.double()
        slope = _dot(g, direction)
        small = torch.zeros_like(self.value, dtype=torch.bool)
        if self.stop.gtol is None:
            small = -0.5 * slope <= self.stop.tol * self.value
        moved = self._search(direction, slope)
        # without a step that decreases, rounding has the last word
        stuck = (~moved & ~small)[~small]
        self.leave(small, done=True)
        self.leave(stuck, done=False)

    def _search(self, direction: Tensor, slope: Tensor) -> Tensor:
        """Backtrack along the direction, each problem for itself; say which found a step.

        Scores are linear in the step, so that it repeats no matrix product. The slack forgives
        rounding where the decrease is below the precision of the value.
        """
        dz = self.part.scores(direction)
        length = torch.ones_like(self.value)
        slack = 8 * torch.finfo(torch.float64).eps * self.value.abs()
        for trial in range(31):
            theta = self.now + length[:, None, None] * direction
            z = self.z + length[:, None, None] * dz
            value, p = self.part.evaluate(theta, z)
            good = (value <= self.value + 1e-4 * length * slope + slack) | (length == 0)
            if bool(good.all()):
                break
            length = torch.where(good, length, 0.5 * length if trial < 29 else 0.0)
        self.now, self.z, self.value, self.p = theta, z, value, p
        return length > 0


def _dot(a: Tensor, b: Tensor) -> Tensor:
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
    def of(cls, problem: Problem, p: Tensor) -> "Hessian":
        """At probabilities p [P, K, N]."""
        low, across, count = problem.low, problem.across, len(problem.low)
        weight = p * (1 - p)
        ridge = torch.zeros(*p.shape[:2], low.shape[1], dtype=p.dtype, device=p.device)
        ridge[..., :-1] = problem.decay[:, None, None]
        share = weight.sum(1)
        share /= share.sum(1, keepdim=True).clamp_min(1e-30)
        least, order = share.amax(0).sort()
        spared = int((least.cumsum(0) < SPARED).sum())
        if spared > FEW * count:
            keep = order[spared:].sort().values
            tail = (weight.sum(2) - weight[..., keep].sum(2)).clamp_min(0) / count
            ridge += tail[..., None] * problem.power.to(p)
            low, p = low[keep], p[..., keep]
            across = low.T.contiguous()
        return cls(low, across, p, count, ridge, problem.softmax)

    def select(self, keep: Tensor) -> "Hessian":
        """Some of the problems."""
        return replace(self, p=self.p[keep], ridge=self.ridge[keep])

    def __call__(self, v: Tensor) -> Tensor:
        """Multiply with [P, K, W]."""
        u = _times(v, self.across)
        if self.softmax:
            u *= self.p
            u -= self.p * u.sum(1, keepdim=True)
        else:
            u *= self.p * (1 - self.p)
        return _times(u, self.low) / self.count + self.ridge * v

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


def _direction(
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
    rho = _dot(r, s)
    target = ratio * rho
    live = rho > 0
    for _ in range(LONGEST):
        if not bool(live.any()):
            break
        taken[index[live]] += 1
        hq = hessian(q)
        bend = _dot(q, hq)
        live = live & (bend > 0)
        alpha = torch.where(live, rho / torch.where(live, bend, 1.0), 0.0).to(g)[:, None, None]
        d = d + alpha * q
        r = r - alpha * hq
        s = precondition(r)
        new = _dot(r, s)
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


@contextmanager
def few_threads(multiplications: int) -> Iterator[None]:
    """Run small products on one thread.

    They gain little from a second one and wait at a barrier thousands of times: on two cores
    that another process also uses, two threads took 15 times as long as one.
    """
    before = torch.get_num_threads()
    if multiplications < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
