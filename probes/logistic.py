"""Logistic regression for a whole grid of C in one batched solve.

The objective is the one of scikit-learn's `LogisticRegression` (its user guide, section 1.1.11):

    f(W, b) = C * sum_n loss(W x_n + b, y_n) + 0.5 * ||W||^2,   b not penalised,

with the softmax cross-entropy for three or more classes, and one sigmoid per column for two
classes or multi-label targets (one-vs-rest). All problems of the grid share the features, so one
matrix product serves all of them.

Solver: truncated Newton (Nocedal and Wright, Numerical Optimization, 2nd ed., section 7.1) with
preconditioned conjugate gradients and a backtracking line search per problem, after an exact
change of variables: the features are centred (the free intercept absorbs it) and rotated onto the
eigenvectors of their scatter matrix (||W|| is invariant). A problem is done when half the squared
Newton decrement, the decrease its quadratic model promises (Boyd and Vandenberghe, Convex
Optimization, section 9.5.1), is at most `tol` times the objective; the step is still taken.
Finished problems leave the batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fm.errors import FMError

SMALL = 2_000_000_000
"""Multiplications in one product over all problems below which one thread is used."""


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

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the scores [G, N, K] of features [N, D]; larger means more likely."""
        x = torch.from_numpy(np.ascontiguousarray(features)).to(self.weights.dtype)
        return (torch.einsum("nd,gkd->gnk", x, self.weights) + self.intercepts[:, None]).numpy()


def fit(
    features: np.ndarray,
    targets: np.ndarray,
    grid: Sequence[float],
    *,
    classes: int | None = None,
    tol: float = 1e-7,
    max_steps: int = 100,
    dtype: torch.dtype = torch.float64,
) -> Fit:
    """Fit every C of `grid` at once.

    Args:
        features: [N, D] finite numbers, scaled by the caller.
        targets: [N] class numbers from 0 (softmax; one sigmoid when there are two classes), or
            [N, K] of 0 and 1 (multi-label, one sigmoid a column).
        grid: values of C, the weight of the summed loss.
        classes: number of classes K; the largest target + 1 when None. A class or column without
            both outcomes in `targets` gets a constant score.
        tol: relative stopping tolerance on the objective (see the module's text).
        max_steps: Newton steps at most.
        dtype: torch.float64 or torch.float32.

    Raises:
        FMError: no rows, NaN in the features, or fewer than two classes.
    """
    if len(features) == 0 or not np.isfinite(features).all():
        raise FMError("logistic regression: the features are empty or hold NaN; check the model")
    if any(c <= 0 for c in grid):
        raise FMError("logistic regression: every C of the grid must be positive")
    x, rotation, mean = _rotated(torch.as_tensor(np.asarray(features, np.float64)), dtype)
    c = torch.as_tensor(list(grid), dtype=dtype)
    if targets.ndim == 2:
        total = targets.shape[1]
        y = torch.as_tensor(np.asarray(targets)).to(dtype)
        used = ((y > 0).any(0) & (y <= 0).any(0)).nonzero().flatten()
        constant = torch.where(y[0] > 0, torch.tensor(30.0), torch.tensor(-30.0)).to(dtype)
        w, b, loss, done, steps = _columns(x, y[:, used], c, tol, max_steps)
    else:
        total = int(classes if classes is not None else targets.max() + 1)
        present, index = np.unique(targets, return_inverse=True)
        if len(present) < 2:
            raise FMError("logistic regression: the training set holds a single class")
        used = torch.as_tensor(present, dtype=torch.long)
        constant = torch.full((total,), -torch.inf, dtype=dtype)
        labels = torch.as_tensor(index, dtype=torch.long)
        if len(present) == 2:
            w, b, loss, done, steps = _columns(x, labels[:, None].to(dtype), c, tol, max_steps)
            w = torch.cat([torch.zeros_like(w), w], 1)
            b = torch.cat([torch.zeros_like(b), b], 1)
        else:
            y = torch.nn.functional.one_hot(labels, len(present)).to(dtype)
            problem = _Problem(x, y[:, None].expand(-1, len(c), -1), c, softmax=True)
            w, b, loss, done, steps = _solve(problem, tol, max_steps)
    weights = torch.zeros(len(c), total, features.shape[1], dtype=dtype)
    intercepts = constant[None].repeat(len(c), 1)
    weights[:, used] = w @ rotation.T
    intercepts[:, used] = b - weights[:, used] @ mean
    return Fit(weights, intercepts, loss, done, steps)


def _rotated(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
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
    return (x @ vectors).to(dtype), rotation.to(dtype), mean.to(dtype)


def _columns(
    x: Tensor, y: Tensor, c: Tensor, tol: float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Solve one sigmoid for each (C, column) and lay the answers out as [G, K, ...]."""
    grid, columns = len(c), y.shape[1]
    if columns == 0:
        zero = x.new_zeros(grid, 0, x.shape[1])
        return zero, zero[..., 0], x.new_zeros(grid), torch.ones(grid, dtype=torch.bool), 0
    spread = y[:, None].expand(-1, grid, -1).reshape(len(y), grid * columns, 1)
    problem = _Problem(x, spread, c.repeat_interleave(columns), softmax=False)
    w, b, loss, done, steps = _solve(problem, tol, max_steps)
    shape = (grid, columns)
    return (
        w.reshape(*shape, -1),
        b.reshape(shape),
        loss.reshape(shape).sum(1),
        done.reshape(shape).all(1),
        steps,
    )


@contextmanager
def _few_threads(multiplications: int) -> Iterator[None]:
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


class _Problem:
    """`P` problems of `K` scores over the same rotated features x [N, r]; y is [N, P, K].

    Parameters of the problems are [P, K, r + 1], the intercept last.
    """

    def __init__(self, x: Tensor, y: Tensor, c: Tensor, *, softmax: bool) -> None:
        self.x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        self.power = (self.x**2).sum(0)
        self.y, self.c, self.softmax = y, c, softmax
        self.penalty = torch.ones_like(self.power)
        self.penalty[-1] = 0

    def select(self, keep: Tensor) -> "_Problem":
        part = object.__new__(_Problem)
        part.__dict__.update(self.__dict__)
        part.y, part.c = self.y[:, keep], self.c[keep]
        return part

    def scores(self, theta: Tensor) -> Tensor:
        count, k, width = theta.shape
        return (self.x @ theta.reshape(count * k, width).T).reshape(-1, count, k)

    def back(self, values: Tensor) -> Tensor:
        rows, count, k = values.shape
        return (values.reshape(rows, count * k).T @ self.x).reshape(count, k, -1)

    def data_loss(self, z: Tensor) -> Tensor:
        if self.softmax:
            # (y * z).sum is the score of the true class
            return (torch.logsumexp(z, 2) - (self.y * z).sum(2)).sum(0)
        return (torch.nn.functional.softplus(z) - self.y * z).sum((0, 2))

    def value(self, theta: Tensor, z: Tensor) -> Tensor:
        return self.c * self.data_loss(z) + 0.5 * (self.penalty * theta**2).sum((1, 2))

    def probabilities(self, z: Tensor) -> Tensor:
        return torch.softmax(z, 2) if self.softmax else torch.sigmoid(z)

    def gradient(self, theta: Tensor, p: Tensor) -> Tensor:
        return self.c[:, None, None] * self.back(p - self.y) + self.penalty * theta

    def curvature(self, p: Tensor, v: Tensor) -> Tensor:
        """Hessian times v [P, K, r + 1]."""
        u = self.scores(v)
        if self.softmax:
            pu = p * u
            u = pu - p * pu.sum(2, keepdim=True)
        else:
            u = p * (1 - p) * u
        return self.c[:, None, None] * self.back(u) + self.penalty * v

    def preconditioner(self, p: Tensor) -> "_Preconditioner":
        """See `_Preconditioner`; p [N, P, K] are the probabilities at the current point."""
        if self.softmax:
            average = torch.diag_embed(p.mean(0)) - torch.einsum("npk,npl->pkl", p, p) / len(p)
        else:
            average = (p * (1 - p)).mean(0)[..., None]
        values, vectors = torch.linalg.eigh(average.double())
        values, vectors = values.clamp_min(0).to(p.dtype), vectors.to(p.dtype)
        bend = self.c[:, None, None] * values[..., None] * self.power + self.penalty
        inverse = 1 / bend.clamp_min(1e-12)
        if self.softmax:
            # Adding one number to all intercepts changes nothing: the first eigenvector is that
            # direction, without curvature, and a step along it would be rounding noise.
            inverse[:, 0, -1] = 0
        return _Preconditioner(vectors, inverse)


@dataclass(frozen=True)
class _Preconditioner:
    """The Hessian if every sample had the average class covariance, inverted.

    Average covariance [K, K] (Kronecker) diagonal scatter of the rotated features: diagonal in
    the eigenvectors of the first, so it costs two K x K products and one division.
    """

    vectors: Tensor
    inverse: Tensor

    def __call__(self, r: Tensor) -> Tensor:
        return self.vectors @ (self.inverse * (self.vectors.mT @ r))

    def select(self, keep: Tensor) -> "_Preconditioner":
        return _Preconditioner(self.vectors[keep], self.inverse[keep])


def _solve(
    problem: _Problem, tol: float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    with _few_threads(problem.y.numel() * problem.x.shape[1]):
        return _newton(problem, tol, max_steps)


def _newton(
    problem: _Problem, tol: float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    count, k = problem.y.shape[1:]
    theta = problem.x.new_zeros(count, k, problem.x.shape[1])
    loss = problem.x.new_zeros(count)
    done = torch.zeros(count, dtype=torch.bool)
    live = torch.arange(count)
    now, part = theta.clone(), problem
    z = part.scores(now)
    precision = torch.finfo(z.dtype).eps
    steps = 0
    while len(live):
        p = part.probabilities(z)
        g = part.gradient(now, p)
        value = part.value(now, z)
        direction = _direction(part, p, g)
        slope = (g * direction).sum((1, 2))
        dz = part.scores(direction)
        small = -0.5 * slope <= tol * value
        # Scores are linear in the step, so backtracking (per problem) repeats no matrix product.
        # The slack forgives rounding where the decrease is below the precision of `value`.
        step = torch.ones_like(value)
        for _ in range(30):
            trial = part.value(now + step[:, None, None] * direction, z + step[:, None] * dz)
            good = trial <= value + 1e-4 * step * slope + 8 * precision * value.abs()
            if good.all():
                break
            step = torch.where(good, step, 0.5 * step)
        step = torch.where(good, step, torch.zeros_like(step))
        now = now + step[:, None, None] * direction
        z = z + step[:, None] * dz
        steps += 1
        # without a step that decreases, rounding has the last word
        stop = small | ~good if steps < max_steps else torch.ones_like(small)
        if stop.any():
            theta[live[stop]], loss[live[stop]] = now[stop], part.value(now, z)[stop]
            done[live[stop]] = small[stop]
            keep = ~stop
            live, now, z, part = live[keep], now[keep], z[:, keep], part.select(keep)
    return theta[..., :-1], theta[..., -1], loss, done, steps


def _direction(part: _Problem, p: Tensor, g: Tensor, limit: int = 300) -> Tensor:
    """Solve Hessian * d = -g by preconditioned conjugate gradients, loosely.

    Each problem stops when its residual has shrunk tenfold (in the preconditioner's norm), and
    leaves the batch when a third of the problems have stopped.
    """
    precondition = part.preconditioner(p)
    answer = torch.zeros_like(g)
    index = torch.arange(len(g))
    d, r = torch.zeros_like(g), -g
    s = precondition(r)
    q = s.clone()
    rho = (r * s).sum((1, 2))
    target = 0.01 * rho
    live = rho > 0
    for _ in range(limit):
        if not live.any():
            break
        hq = part.curvature(p, q)
        bend = (q * hq).sum((1, 2))
        live = live & (bend > 0)
        alpha = torch.where(live, rho / torch.where(live, bend, 1.0), 0.0)
        d = d + alpha[:, None, None] * q
        r = r - alpha[:, None, None] * hq
        s = precondition(r)
        new = (r * s).sum((1, 2))
        live = live & (new > target)
        q = s + torch.where(live, new / rho, 0.0)[:, None, None] * q
        rho = torch.where(live, new, rho)
        if int(live.sum()) * 3 < len(live) * 2:
            answer[index] = d
            index, d, r, q, rho = index[live], d[live], r[live], q[live], rho[live]
            target, part, p = target[live], part.select(live), p[:, live]
            precondition = precondition.select(live)
            live = live[live]
    answer[index] = d
    return answer
