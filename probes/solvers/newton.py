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

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from probes.solvers.hessian import Block, Hessian, Preconditioner, direction, dot
from probes.solvers.problem import Problem

SMALL = 100_000_000
"""Multiplications in one product over all problems below which one thread is used."""
LOOSE, LOOSEST, TIGHTEST = 0.01, 0.1, 1e-6
"""Squared residuals, of the first one, at which conjugate gradients stop."""


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
        self.stop, self.part, self.steps, self.whole = stop, problem, 0, False
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
        hessian = Hessian.of(self.part, p, whole=self.whole)
        blocks = [self.blocks[i] for i in self.live.tolist()]
        patience = hessian.patience()
        for i, block in enumerate(blocks):
            if block.spent >= patience[i]:
                blocks[i].inverse, blocks[i].spent = hessian.block(i), 0
        precondition = Preconditioner.of(self.part, p, blocks)
        rho = dot(low_g, precondition(low_g))
        if goal is None:
            goal = 0.2 * self.stop.tol * self.value / rho.clamp_min(1e-300)
        # no tighter than the last step has earned, nor than is needed to be done
        earned = torch.where(torch.isinf(self.before), LOOSE, 0.8 * (rho / self.before) ** 2)
        ratio = torch.maximum(earned.clamp(max=LOOSE), goal).clamp(TIGHTEST, LOOSEST)
        self.before = rho
        found, taken = direction(hessian, precondition, low_g, ratio)
        for block, count in zip(blocks, taken.tolist(), strict=True):
            block.spent += count
        step = found.double()
        slope = dot(g, step)
        small = torch.zeros_like(self.value, dtype=torch.bool)
        if self.stop.gtol is None:
            small = -0.5 * slope <= self.stop.tol * self.value
            if hessian.spares and bool(small.any()):
                # what it leaves out may hold more than it promises: ask all samples
                small, self.whole = torch.zeros_like(small), True
        moved = self._search(step, slope)
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
