"""Logistic regression for a whole grid of C in a few batched solves.

The objective is the one of scikit-learn's `LogisticRegression` (its user guide, section 1.1.11):

    f(W, b) = C * sum_n loss(W x_n + b, y_n) + 0.5 * ||W||^2,   b not penalised,

with the softmax cross-entropy for three or more classes, and one sigmoid per column for two
classes or multi-label targets (one-vs-rest).

An exact change of variables comes first: the features are centred (the free intercept absorbs it)
and rotated onto the eigenvectors of their scatter matrix (||W|| is invariant), where the Hessian
is nearly diagonal. `probes.solvers.newton` then solves one C after another, all columns together,
each from where the solutions before it point to: a smooth path in log C. In float64 the products
run in float32 until that has found all it can, and the gradients and scores of the last steps, of
all C at once, in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fm.errors import FMError
from probes.solvers.hessian import Block
from probes.solvers.newton import Solved, Stop, solve
from probes.solvers.problem import Problem

POINTS = 4
"""Solved C through which the path of solutions is continued."""
LITTLE = 2_000_000_000
"""Multiplications in one product for all C and columns below which all of it is float64."""
CELLS = 1 << 25
"""Scores of one solve: columns of many labels are solved in parts."""
SINGLE = 1e-6
"""How far float32 products are trusted, relative to the objective, or in the gradient."""


@dataclass(frozen=True)
class Fit:
    """Solutions for a grid of `G` values of C over `K` classes and `D` features.

    Attributes:
        weights: [G, K, D].
        intercepts: [G, K]; -inf for a class that the training set lacks.
        loss: [G], the objective at the solution, summed over the columns for multi-label.
        converged: [G] bool; false where `max_steps` ended a solve (said in the result).
        steps: Newton steps of the slowest problem.
    """

    weights: Tensor
    intercepts: Tensor
    loss: Tensor
    converged: Tensor
    steps: int

    def scores(self, features: np.ndarray | Tensor) -> np.ndarray:
        """Return the scores [G, N, K] of features [N, D]; larger means more likely."""
        x = torch.as_tensor(features).to(self.weights)
        made = torch.einsum("nd,gkd->gnk", x, self.weights) + self.intercepts[:, None]
        return made.cpu().numpy()


def fit(
    features: np.ndarray | Tensor,
    targets: np.ndarray,
    grid: Sequence[float],
    *,
    classes: int | None = None,
    tol: float = 1e-7,
    gtol: float | None = None,
    max_steps: int = 100,
    dtype: torch.dtype = torch.float64,
    device: str | torch.device | None = None,
) -> Fit:
    """Fit every C of `grid` at once.

    Args:
        features: [N, D] finite numbers, scaled by the caller.
        targets: [N] class numbers from 0 (softmax; one sigmoid when there are two classes), or
            [N, K] of 0 and 1 (multi-label, one sigmoid a column).
        grid: values of C, the weight of the summed loss.
        classes: number of classes K; the largest target + 1 when None. A class or column without
            both outcomes in `targets` gets a constant score.
        tol: relative stopping tolerance on the objective, see `probes.solvers.newton.Stop`.
        gtol: stop by the largest component of the gradient of f / (C * N) instead, which is what
            scikit-learn's `tol` bounds.
        max_steps: Newton steps at most, in each solve.
        dtype: torch.float64 or torch.float32; losses are summed in float64 in both.
        device: where it runs; None takes that of the features, the CPU for an array.

    Raises:
        FMError: no rows, NaN in the features, or fewer than two classes.
    """
    given = torch.as_tensor(features, device=device)
    if len(given) == 0 or not bool(torch.isfinite(given).all()):
        raise FMError("logistic regression: the features are empty or hold NaN; check the model")
    if any(c <= 0 for c in grid):
        raise FMError("logistic regression: every C of the grid must be positive")
    x, rotation, mean = _rotated(given.double())
    values, place = np.unique(np.asarray(list(grid), np.float64), return_inverse=True)
    c = torch.as_tensor(values, device=x.device)
    stop = Stop(tol, gtol, rotation, mean)
    if targets.ndim == 2:
        total = targets.shape[1]
        y = torch.as_tensor(np.asarray(targets), device=x.device) > 0
        used = (y.any(0) & ~y.all(0)).nonzero().flatten()
        constant = torch.where(y[0], 30.0, -30.0).double()
        found = _columns(x, y[:, used].float(), c, stop, max_steps, dtype)
    else:
        total = int(classes if classes is not None else targets.max() + 1)
        present, index = np.unique(targets, return_inverse=True)
        if len(present) < 2:
            raise FMError("logistic regression: the training set holds a single class")
        used = torch.as_tensor(present, dtype=torch.long, device=x.device)
        constant = torch.full((total,), -torch.inf, dtype=torch.float64, device=x.device)
        labels = torch.as_tensor(index, dtype=torch.long, device=x.device)
        if len(present) == 2:
            found = _columns(x, labels[:, None].float(), c, stop, max_steps, dtype)
            found.theta = torch.cat([torch.zeros_like(found.theta), found.theta], 1)
        else:
            found = _grid(x, labels, len(present), c, stop, max_steps, dtype)
    theta = found.theta[torch.as_tensor(place)]
    weights = x.new_zeros(len(place), total, given.shape[1])
    intercepts = constant[None].repeat(len(place), 1)
    weights[:, used] = theta[..., :-1] @ rotation.T
    intercepts[:, used] = theta[..., -1] - weights[:, used] @ mean
    loss = (found.value * c * len(x))[place]
    return Fit(weights.to(dtype), intercepts.to(dtype), loss, found.done[place], found.steps)


def _rotated(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre and rotate features: [N, D] -> ([N, r], orthonormal [D, r], mean [D]), r <= N, D.

    In float64 whatever the solver's type: the scatter squares the range of the features.
    """
    mean = x.mean(0)
    x = x - mean
    basis = None
    if x.shape[1] > x.shape[0]:
        # W lies in the span of the samples (its gradient is W + a combination of them).
        basis, upper = torch.linalg.qr(x.T)
        x = upper.T
    _, vectors = torch.linalg.eigh(x.T @ x)
    vectors = vectors.flip(1)
    rotation = vectors if basis is None else basis @ vectors
    return x @ vectors, rotation, mean


@dataclass
class _Found:
    """Parameters [G, K, W], mean objectives [G], which are done [G], and steps."""

    theta: Tensor
    value: Tensor
    done: Tensor
    steps: int


def _columns(
    x: Tensor, y: Tensor, c: Tensor, stop: Stop, max_steps: int, dtype: torch.dtype
) -> _Found:
    """Solve one sigmoid for each (C, column), as many columns at once as memory allows."""
    step = max(1, CELLS // (len(x) * len(c)))
    parts = [
        _grid(x, y[:, at : at + step], 1, c, stop, max_steps, dtype)
        for at in range(0, y.shape[1], step)
    ]
    if not parts:
        none = x.new_zeros(len(c), 0, x.shape[1] + 1)
        return _Found(none, torch.zeros_like(c), torch.ones_like(c, dtype=torch.bool), 0)
    return _Found(
        torch.cat([part.theta for part in parts], 1),
        torch.stack([part.value for part in parts]).sum(0),
        torch.stack([part.done for part in parts]).all(0),
        max(part.steps for part in parts),
    )


def _grid(
    x: Tensor,
    y: Tensor,
    scores: int,
    c: Tensor,
    stop: Stop,
    max_steps: int,
    dtype: torch.dtype,
) -> _Found:
    """Solve all C, ascending, of the softmax of y [N] or of each column of y [N, K]."""
    count, columns = len(c), 1 if y.ndim == 1 else y.shape[1]
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    small = x.numel() * count * columns * scores < LITTLE
    low = x if dtype == torch.float64 and small else x.float()
    across = low.T.contiguous()
    power = (x**2).mean(0)
    decay = 1 / (c * len(x))

    def problem(outer: Tensor, which: Sequence[int]) -> Problem:
        spread = y if y.ndim == 1 else y.T.repeat(len(which), 1)
        each = decay[list(which)].repeat_interleave(columns)
        return Problem(outer, low, across, power, spread, each, softmax=y.ndim == 1)

    theta = x.new_zeros(count, columns, scores, x.shape[1])
    value, done = torch.zeros_like(c), torch.zeros_like(c, dtype=torch.bool)
    blocks = [Block() for _ in range(columns)]
    coarse = stop if low is x or dtype == torch.float32 else _coarser(stop)
    steps = 0

    def keep(which: Sequence[int], made: Solved) -> None:
        nonlocal steps
        at, shape = list(which), (len(which), columns)
        theta[at] = made.theta.reshape(*shape, scores, -1)
        value[at] = made.value.reshape(shape).sum(1)
        done[at] = made.done.reshape(shape).all(1)
        steps = max(steps, made.steps)

    for i in range(count):
        this = problem(low, [i])
        made = solve(this, _ahead(this, c.log().tolist(), theta, i), coarse, max_steps, blocks)
        blocks = made.blocks
        keep([i], made)
    if dtype == torch.float64 and low is not x:
        every = range(count)
        keep(every, solve(problem(x, every), theta.flatten(0, 1), stop, max_steps))
    return _Found(theta.flatten(1, 2), value, done, steps)


def _coarser(stop: Stop) -> Stop:
    gtol = None if stop.gtol is None else max(stop.gtol, SINGLE)
    return Stop(max(stop.tol, SINGLE), gtol, stop.basis, stop.mean)


def _ahead(problem: Problem, where: Sequence[float], theta: Tensor, i: int) -> Tensor:
    """Start for the C after the solved ones, [columns, K, W]; zero where nothing is solved.

    Solutions are a smooth path in log C: of the last one and the polynomials through the last few,
    the one with the smallest objective, for each column.
    """
    best, least = theta[max(0, i - 1)], None
    for count in range(1, min(i, POINTS) + 1):
        nodes = range(i - count, i)
        start = torch.zeros_like(best)
        for node in nodes:
            ratios = [(where[i] - where[n]) / (where[node] - where[n]) for n in nodes if n != node]
            start += float(np.prod(ratios)) * theta[node]
        found = problem.evaluate(start, problem.scores(start))[0]
        if least is None:
            best, least = start, found
        else:
            better = found < least
            best = torch.where(better[:, None, None], start, best)
            least = torch.where(better, found, least)
    return best
