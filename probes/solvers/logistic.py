"""Logistic regression for a whole grid of C in a few batched solves.

The objective is the one of scikit-learn's `LogisticRegression` (its user guide, section 1.1.11):

    f(W, b) = C * sum_n loss(W x_n + b, y_n) + 0.5 * ||W||^2,   b not penalised,

with the softmax cross-entropy for three or more classes, and one sigmoid per column for two
classes or multi-label targets (one-vs-rest).

An exact change of variables comes first: the features are centred (the free intercept absorbs it)
and rotated onto the eigenvectors of their scatter matrix (||W|| is invariant), where the Hessian
is nearly diagonal. `probes.solvers.newton` then solves all C and columns together; every eighth C
first, the others from where the solutions beside them point to, a smooth path in log C. In float64
the products run in float32 until that has found all it can, and the gradients and scores of the
last steps in float64.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fm.errors import FMError
from probes.solvers.newton import SMALL, Problem, Stop, solve

STRIDES = (4, 2, 1)
CELLS = 1 << 25
"""Scores of one solve: columns of many labels are solved in parts."""
NEAR = 1.2 * float(np.log(10))
"""Solved C this close together give cubic starts, others linear ones."""
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
    small = x.numel() * count * columns * scores < SMALL
    low = x if dtype == torch.float64 and small else x.float()
    power = (x**2).mean(0)
    decay = 1 / (c * len(x))

    def problem(outer: Tensor, which: Sequence[int]) -> Problem:
        spread = y if y.ndim == 1 else y.repeat(1, len(which))
        each = decay[list(which)].repeat_interleave(columns)
        return Problem(outer, low, power, spread, each, softmax=y.ndim == 1)

    theta = x.new_zeros(count, columns, scores, x.shape[1])
    value, done = torch.zeros_like(c), torch.zeros_like(c, dtype=torch.bool)
    blocks: dict[int, list[Tensor | None]] = {}
    where = c.log().tolist()
    coarse = stop if low is x or dtype == torch.float32 else _coarser(stop)
    solved: list[int] = []
    steps = 0

    def run(outer: Tensor, which: Sequence[int], start: Tensor, until: Stop) -> None:
        nonlocal steps
        known: list[Tensor | None] = []
        for i in which:  # of the nearest C that was solved
            far = {abs(where[n] - where[i]): held for n, held in blocks.items()}
            known += far[min(far)] if far else [None] * columns
        made = solve(problem(outer, which), start.flatten(0, 1), until, max_steps, known)
        shape, at = (len(which), columns), list(which)
        theta[at] = made.theta.reshape(start.shape)
        value[at] = made.value.reshape(shape).sum(1)
        done[at] = made.done.reshape(shape).all(1)
        steps = max(steps, made.steps)
        for row, place in enumerate(which):
            blocks[place] = made.blocks[row * columns : (row + 1) * columns]

    first, *others = _levels(count)
    for i in first:  # from one to the next: far from its solution a large C takes many steps
        run(low, [i], _beyond(problem(low, [i]), where, theta, solved, i), coarse)
        solved.append(i)
    for level in others:
        run(low, level, _beside(where, theta, solved, level), coarse)
        solved = sorted([*solved, *level])
    if dtype == torch.float64 and low is not x:
        run(x, range(count), theta.clone(), stop)
    return _Found(theta.flatten(1, 2), value, done, steps)


def _coarser(stop: Stop) -> Stop:
    gtol = None if stop.gtol is None else max(stop.gtol, SINGLE)
    return Stop(max(stop.tol, SINGLE), gtol, stop.basis, stop.mean)


def _levels(count: int) -> Iterator[list[int]]:
    """Places of the grid that are solved together, both ends in the first."""
    seen: set[int] = set()
    for stride in STRIDES:
        if stride > 1 and count < 2 * stride:
            continue
        level = [i for i in range(count) if (i % stride == 0 or i == count - 1) and i not in seen]
        seen |= set(level)
        if level:
            yield level


def _beyond(
    problem: Problem, where: Sequence[float], theta: Tensor, solved: Sequence[int], target: int
) -> Tensor:
    """Start for a C above the solved ones: the last solution, or the line through the last two.

    Whichever has the smaller objective, for each column; zero where nothing is solved.
    """
    if len(solved) < 2:
        return theta[[solved[-1] if solved else target]].clone()
    last, older = solved[-1], solved[-2]
    step = (where[target] - where[last]) / (where[last] - where[older])
    line = theta[last] + step * (theta[last] - theta[older])
    values = [problem.evaluate(t, problem.scores(t))[0] for t in (theta[last], line)]
    return torch.where((values[1] < values[0])[:, None, None], line, theta[last])[None]


def _beside(
    where: Sequence[float], theta: Tensor, solved: Sequence[int], level: Sequence[int]
) -> Tensor:
    """Starts for some C from the solutions beside them: polynomials in log C, zero without any."""
    start = torch.zeros_like(theta[list(level)])
    for row, target in enumerate(level):
        right = next((n for n, place in enumerate(solved) if place > target), None)
        if right is None:
            continue
        reach = 1 if where[solved[right]] - where[solved[right - 1]] > NEAR else 2
        nodes = solved[max(0, right - reach) : right + reach]
        for node in nodes:
            others = [where[n] for n in nodes if n != node]
            ratios = [(where[target] - w) / (where[node] - w) for w in others]
            start[row] += float(np.prod(ratios)) * theta[node]
    return start
