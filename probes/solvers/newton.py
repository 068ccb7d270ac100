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

SMALL = 2_000_000_000
"""Multiplications in one product over all problems below which one thread is used."""
LOOSE, LOOSEST, TIGHTEST = 0.01, 0.1, 1e-6
"""Squared residuals, of the first one, at which conjugate gradients stop."""
LONGEST = 300
"""Iterations at most."""
STRIPS = 4


@dataclass(frozen=True)
class Problem:
    """`P` problems of `K` scores over the same features; parameters are [P, K, W].

    Attributes:
        x: [N, W] features, the last column ones: its parameters are the intercepts.
        low: the same in the type of the conjugate gradients.
        power: [W] mean squares of the columns.
        y: [N] class numbers of the softmax (K classes), or [N, P] of 0 and 1 for sigmoids (K = 1).
        decay: [P] weight of the penalty, 1 / (C * N), in float64.
        softmax: which of the two.
    """

    x: Tensor
    low: Tensor
    power: Tensor
    y: Tensor
    decay: Tensor
    softmax: bool

    @property
    def patience(self) -> int:
        """Iterations after which a better preconditioner is worth what it costs.

        It takes as long as a third of W iterations, and serves other steps and problems too.
        """
        return max(25, self.x.shape[1] // 8)

    def select(self, keep: Tensor) -> "Problem":
        """Some of the problems."""
        y = self.y if self.softmax else self.y[:, keep]
        return replace(self, y=y, decay=self.decay[keep])

    def scores(self, theta: Tensor) -> Tensor:
        """Scores [N, P, K] in float64."""
        return _scores(self.x, theta).double()

    def evaluate(self, theta: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Objectives [P] and probabilities [N, P, K] at scores z."""
        if self.softmax:
            p = z - z.amax(2, keepdim=True)
            own = p.gather(2, self.y[:, None, None].expand(-1, z.shape[1], 1))[..., 0]
            p.exp_()
            total = p.sum(2, keepdim=True)
            loss = (total[..., 0].log() - own).mean(0)
            p /= total
        else:
            loss = (torch.nn.functional.softplus(z[..., 0]) - self.y * z[..., 0]).mean(0)
            p = torch.sigmoid(z)
        return loss + 0.5 * self.decay * (theta[..., :-1] ** 2).sum((1, 2)), p

    def gradient(self, theta: Tensor, p: Tensor) -> Tensor:
        """Gradients [P, K, W] in float64."""
        residual = p.to(self.x.dtype, copy=True)
        if self.softmax:
            where = self.y[:, None, None].expand(-1, p.shape[1], 1)
            residual.scatter_add_(2, where, residual.new_full((1, 1, 1), -1.0).expand(where.shape))
        else:
            residual -= self.y[..., None]
        g = _back(self.x, residual).double() / len(p)
        g[..., :-1] += self.decay[:, None, None] * theta[..., :-1]
        return g


def _scores(x: Tensor, theta: Tensor) -> Tensor:
    count, k, width = theta.shape
    return (x @ theta.reshape(count * k, width).to(x.dtype).T).reshape(-1, count, k)


def _back(x: Tensor, values: Tensor) -> Tensor:
    rows, count, k = values.shape
    return (values.reshape(rows, count * k).to(x.dtype).T @ x).reshape(count, k, -1)


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
    """Parameters [P, K, W], objectives [P], which are done [P], steps, and blocks of each."""

    theta: Tensor
    value: Tensor
    done: Tensor
    steps: int
    blocks: list["Tensor | None"]


def solve(
    problem: Problem,
    start: Tensor,
    stop: Stop,
    max_steps: int,
    blocks: Sequence["Tensor | None"] | None = None,
) -> Solved:
    """Solve all problems from [P, K, W] float64, with what is known of their Hessians."""
    with few_threads(problem.low.numel() * start.shape[0] * start.shape[1]):
        run = _Run(problem, start, stop, blocks or [None] * len(start))
        while len(run.live) and run.steps < max_steps:
            run.step()
        run.leave(torch.ones_like(run.value, dtype=torch.bool), done=False)
    return Solved(run.theta, run.values, run.done, run.steps, run.blocks)


class _Run:
    """The problems that are not done yet, and the answers of those that are."""

    def __init__(
        self, problem: Problem, start: Tensor, stop: Stop, blocks: Sequence["Tensor | None"]
    ) -> None:
        self.stop, self.part, self.steps, self.blocks = stop, problem, 0, list(blocks)
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
        self.z, self.p, self.before = self.z[:, keep], self.p[:, keep], self.before[keep]
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
        low_g, live = g.to(low), self.live.tolist()
        precondition = Preconditioner.of(self.part, p, [self.blocks[i] for i in live])
        rho = _dot(low_g, precondition(low_g))
        if goal is None:
            goal = 0.2 * self.stop.tol * self.value / rho.clamp_min(1e-300)
        # no tighter than the last step has earned, nor than is needed to be done
        earned = torch.where(torch.isinf(self.before), LOOSE, 0.8 * (rho / self.before) ** 2)
        ratio = torch.maximum(earned.clamp(max=LOOSE), goal).clamp(TIGHTEST, LOOSEST)
        self.before = rho
        found, short = _direction(self.part, precondition, p, low_g, ratio, self.part.patience)
        if bool(short.any()):
            for i in short.nonzero().flatten().tolist():
                one = torch.zeros_like(short)
                one[i] = True
                self.blocks[live[i]] = block(self.part.select(one), p[:, i])
            self.before[short] = torch.inf  # measured by another preconditioner
            again = precondition.renewed([self.blocks[i] for i in live]).select(short)
            part = self.part.select(short)
            found[short], _ = _direction(
                part, again, p[:, short], low_g[short], ratio[short], LONGEST
            )
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
            z = self.z + length[:, None] * dz
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

    def __init__(self, vectors: Tensor, inverse: Tensor, blocks: Sequence["Tensor | None"]) -> None:
        self.vectors, self.inverse, self.blocks = vectors, inverse, list(blocks)
        places: dict[int, list[int]] = {}
        for place, block in enumerate(blocks):
            if block is not None:
                places.setdefault(id(block), []).append(place)
        self.shared = [(blocks[which[0]], which) for which in places.values()]

    @classmethod
    def of(cls, problem: Problem, p: Tensor, blocks: Sequence["Tensor | None"]) -> "Preconditioner":
        """At probabilities p [N, P, K], with the blocks of each problem."""
        if problem.softmax:
            q = p.permute(1, 2, 0)
            average = torch.diag_embed(p.mean(0)) - q @ q.mT / len(p)
        else:
            average = (p * (1 - p)).mean(0)[..., None]
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
        for block, which in self.shared:
            assert block is not None
            better = (block @ r[which].permute(1, 2, 0)).permute(2, 0, 1)
            # scores of a softmax may be shifted together: gradients have no part in that
            out[which] = better - better.mean(1, keepdim=True) if r.shape[1] > 1 else better
        return out

    def renewed(self, blocks: Sequence["Tensor | None"]) -> "Preconditioner":
        """The same with other blocks."""
        return Preconditioner(self.vectors, self.inverse, blocks)

    def select(self, keep: Tensor) -> "Preconditioner":
        """Some of the problems."""
        blocks = [self.blocks[i] for i in keep.nonzero().flatten().tolist()]
        return Preconditioner(self.vectors[keep], self.inverse[keep], blocks)


def block(problem: Problem, p: Tensor) -> Tensor:
    """Invert the Hessian of each score of one problem at its probabilities p [N, K]: [K, W, W]."""
    low, inverses = problem.low, []
    for share in p.T:
        hessian = _scatter(low * (share * (1 - share)).sqrt()[:, None]).double() / len(low)
        hessian.diagonal()[:-1].add_(float(problem.decay[0]))
        scale = hessian.diagonal().clamp_min(1e-30).rsqrt()
        hessian *= scale[:, None] * scale
        ridge = 8 * torch.finfo(low.dtype).eps
        failed = torch.ones((), dtype=torch.int)
        while bool(failed):
            hessian.diagonal().add_(ridge)
            factor, failed = torch.linalg.cholesky_ex(hessian)
            ridge *= 100
        inverses.append((torch.cholesky_inverse(factor) * scale[:, None] * scale).to(low))
    return torch.stack(inverses)


def _scatter(x: Tensor) -> Tensor:
    """X'X in a few strips, of which only the upper triangle is multiplied."""
    width = x.shape[1]
    strip = -(-width // STRIPS)
    made = x.new_zeros(width, width)
    for at in range(0, width, strip):
        made[at : at + strip, at:] = x[:, at : at + strip].T @ x[:, at:]
    return made.triu() + made.triu(1).T


def curvature(problem: Problem, p: Tensor, v: Tensor) -> Tensor:
    """Hessians at probabilities p times v [P, K, W]."""
    u = _scores(problem.low, v)
    if problem.softmax:
        u *= p
        u -= p * u.sum(2, keepdim=True)
    else:
        u *= p * (1 - p)
    h = _back(problem.low, u) / len(p)
    h[..., :-1] += problem.decay[:, None, None].to(h) * v[..., :-1]
    return h


def _direction(
    part: Problem,
    precondition: Preconditioner,
    p: Tensor,
    g: Tensor,
    ratio: Tensor,
    limit: int,
) -> tuple[Tensor, Tensor]:
    """Solve Hessian * d = -g by preconditioned conjugate gradients.

    Each problem stops when its squared residual (in the preconditioner's norm) has shrunk by
    `ratio` [P], and leaves the batch when a third of the problems have stopped.

    Returns:
        d [P, K, W], and which problems `limit` stopped [P].
    """
    answer = torch.zeros_like(g)
    short = torch.zeros(len(g), dtype=torch.bool, device=g.device)
    index = torch.arange(len(g), device=g.device)
    d, r = torch.zeros_like(g), -g
    s = precondition(r)
    q = s.clone()
    rho = _dot(r, s)
    target = ratio * rho
    live = rho > 0
    for _ in range(limit):
        if not bool(live.any()):
            break
        hq = curvature(part, p, q)
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
            target, part, p = target[live], part.select(live), p[:, live]
            precondition = precondition.select(live)
            live = live[live]
    answer[index] = d
    short[index] = live
    return answer, short


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
