"""Every C of logistic regression on frozen features.

Features: `bench.probes_data`, standardised. The linear protocol is DINOv2's grid, 45 values of C
from 1e-6 to 1e5, at EuroSAT's size (16,200 training samples, 10 classes) and at that of a tenth of
BigEarthNet (27,000, 19 labels, one-vs-rest). Every solver stops where no component of the gradient
of (loss / N + penalty) exceeds `GTOL`, which is what scikit-learn's `tol` bounds; `check` measures
it in float64 at the solutions. The peers are timed once at five values of C, and the other 40 times
are interpolated between them; of the 18 one-vs-rest columns scikit-learn solves three, spread over
them, times six. L-BFGS starts each C from our solution of the one before it, in float32 and then,
where that does not get there, in float64. A peer that needs more than `LIMIT` iterations for one C
is stopped there, and its time is a lower bound: the facts tell the gradients that were left.
"""

import time
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from bench.mae_steps import threads
from bench.probes_data import Patches, patches
from bench.runner import Bench, Fact, Ready, Step, Target
from fm.console import note
from fm.errors import FMError
from probes.solvers import logistic

GTOL = 1e-5
GRID = 10 ** np.linspace(-6, 5, 45)
TIMED = (0, 11, 22, 33, 44)
"""Places of the grid at which scikit-learn is timed."""
TRAIN = {"classes": 16_200, "labels": 27_000}
LIMIT = 300
"""Iterations at most of a peer, for one C in one type."""
COLUMNS = 3
"""One-vs-rest columns that scikit-learn solves."""
reached: dict[str, dict[int, float]] = {}
"""Solver and task to place in the grid to the largest component of the gradient."""


@cache
def _problem(task: str, quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features [N, D] float64 and class numbers [N] or labels [N, K]."""
    found: Patches = patches(quick)
    if not quick:
        found = found.first(TRAIN[task])
    x = found.x.astype(np.float64)[:, :: 16 if quick else 1]
    x = (x - x.mean(0)) / x.std(0)
    if task == "classes":
        return x, np.unique(found.classes, return_inverse=True)[1]
    labels = found.labels
    return x, labels[:, labels.any(0) & ~labels.all(0)].astype(np.int64)


def _grid(quick: bool) -> list[float]:
    return GRID[::11].tolist() if quick else GRID.tolist()


def _timed(grid: list[float]) -> list[int]:
    return [round(i * (len(grid) - 1) / (len(TIMED) - 1)) for i in range(len(TIMED))]


def _gradient(x: np.ndarray, y: np.ndarray, w: np.ndarray, b: np.ndarray, c: float) -> float:
    """Largest component of the gradient of (loss / N + ||W||^2 / (2 C N)), in float64."""
    z = x @ w.T + b
    if y.ndim == 1:
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
    else:
        p = 1 / (1 + np.exp(-z)) - y
    g = p.T @ x / len(x) + w / (c * len(x))
    return float(max(np.abs(g).max(), np.abs(p.mean(0)).max()))


def _ours(task: str) -> Callable[[bool], Ready]:
    def prepare(quick: bool) -> Ready:
        threads(quick)
        x, y = _problem(task, quick)
        grid = _grid(quick)

        def step() -> None:
            found = logistic.fit(x, y, grid, gtol=GTOL)
            _note("ours", task, x, y, grid, found)

        return Ready(step, {"C": len(grid), "rows": len(x), "gradient": GTOL, "dtype": "float64"})

    return prepare


def _note(
    who: str, task: str, x: np.ndarray, y: np.ndarray, grid: list[float], found: logistic.Fit
) -> None:
    """Measure the gradients once; the first repetition is not counted."""
    held = reached.setdefault(f"{who}, {task}", {})
    if not held:
        weights, intercepts = found.weights.numpy(), found.intercepts.numpy()
        for i, c in enumerate(grid):
            held[i] = _gradient(x, y, weights[i], intercepts[i], c)


def _once(measure: Callable[[], float]) -> Step:
    """Measure the first time, and give that number again."""
    held: list[float] = []

    def step() -> float:
        if not held:
            held.append(measure())
        return held[0]

    return step


def _sklearn(task: str) -> Callable[[bool], Ready]:
    def prepare(quick: bool) -> Ready:
        from sklearn.linear_model import LogisticRegression

        x, y = _problem(task, quick)
        grid = _grid(quick)
        places = _timed(grid)

        def measure() -> float:
            taken = []
            held = reached.setdefault(f"scikit-learn, {task}", {})
            for i in places:
                model = LogisticRegression(C=grid[i], tol=GTOL, max_iter=LIMIT)
                columns = [y] if y.ndim == 1 else list(y.T[:: -(-y.shape[1] // COLUMNS)])
                start = time.perf_counter()
                fitted = []
                for column in columns:
                    model.fit(x, column)
                    fitted.append((model.coef_.copy(), model.intercept_.copy()))
                more = 1 if y.ndim == 1 else y.shape[1] / len(columns)
                taken.append(more * (time.perf_counter() - start))
                w, b = (np.concatenate(parts) for parts in zip(*fitted, strict=True))
                some = y if y.ndim == 1 else np.stack(columns, 1)
                held[i] = _gradient(x, some, w, b, grid[i])
            note(f"scikit-learn, {task}: {', '.join(f'{t:.1f}' for t in taken)} s")
            return float(np.interp(range(len(grid)), places, taken).sum())

        told = {
            "C timed": len(places),
            "C interpolated": len(grid) - len(places),
            "columns solved": 1 if y.ndim == 1 else COLUMNS,
            "iterations at most": LIMIT,
            "measured": "once",
        }
        return Ready(
            _once(measure), {**told, "gradient": GTOL, "solver": "lbfgs", "dtype": "float64"}
        )

    return prepare


def _lbfgs(task: str) -> Callable[[bool], Ready]:
    def prepare(quick: bool) -> Ready:
        threads(quick)
        x, y = _problem(task, quick)
        grid = _grid(quick)
        features = {dtype: torch.as_tensor(x).to(dtype) for dtype in (torch.float32, torch.float64)}
        target = torch.as_tensor(y)

        places = _timed(grid)
        before = logistic.fit(x, y, [grid[max(0, i - 1)] for i in places], gtol=GTOL)
        starts = torch.cat([before.weights, before.intercepts[..., None]], 2)
        starts[0] = 0

        def measure() -> float:
            held = reached.setdefault(f"L-BFGS, {task}", {})
            taken = []
            for i, theta in zip(places, starts, strict=True):
                start = time.perf_counter()
                for z in features.values():
                    theta, largest = descend(z, target, theta, 1 / (grid[i] * len(x)))
                    if largest <= GTOL:
                        break
                taken.append(time.perf_counter() - start)
                w = theta.numpy()
                held[i] = _gradient(x, y, w[:, :-1], w[:, -1], grid[i])
            note(f"L-BFGS, {task}: {', '.join(f'{t:.1f}' for t in taken)} s")
            return float(np.interp(range(len(grid)), places, taken).sum())

        told = {
            "C timed": len(places),
            "C interpolated": len(grid) - len(places),
            "gradient": GTOL,
            "history": 10,
            "line search": "strong Wolfe",
            "starts": "our solution of the last C",
            "iterations at most": LIMIT,
            "measured": "once",
        }
        return Ready(_once(measure), told)

    return prepare


def descend(x: Tensor, y: Tensor, start: Tensor, decay: float) -> tuple[Tensor, float]:
    """Minimise one C by torch's L-BFGS in the type of the features.

    Args:
        x: [N, D].
        y: [N] class numbers, or [N, K] of 0 and 1.
        start: [K, D + 1] float64, the intercepts last.
        decay: 1 / (C * N).

    Returns:
        the parameters in float64, and the largest component of the gradient as L-BFGS sees it.
    """
    theta = start.to(x.dtype).clone().requires_grad_(True)
    search = torch.optim.LBFGS(
        [theta],
        max_iter=LIMIT,
        max_eval=2 * LIMIT,
        tolerance_grad=GTOL,
        tolerance_change=0,
        history_size=10,
        line_search_fn="strong_wolfe",
    )
    labels = y.to(x.dtype) if y.ndim == 2 else y

    def closure() -> Tensor:
        search.zero_grad()
        z = torch.addmm(theta[:, -1], x, theta[:, :-1].T)
        if y.ndim == 1:
            loss = torch.nn.functional.cross_entropy(z, labels)
        else:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                z, labels, reduction="sum"
            ) / len(x)
        loss = loss + 0.5 * decay * (theta[:, :-1] ** 2).sum()
        loss.backward()
        return loss

    search.step(closure)
    closure()
    assert theta.grad is not None
    return theta.detach().double(), float(theta.grad.abs().max())


def check() -> None:
    """See that our solver reached what the others were asked for."""
    for name, found in reached.items():
        if name.startswith("ours") and max(found.values()) > 1.05 * GTOL:
            raise FMError(
                f"bench probes_linear: {name} ended at a gradient of {max(found.values()):.3g}"
            )


def facts(quick: bool) -> list[Fact]:
    """The largest gradients that each solver left."""
    return [
        Fact(f"largest gradient, {name}", max(found.values()), f"over {len(found)} C")
        for name, found in reached.items()
    ]


WORDS = {"classes": "EuroSAT size", "labels": "BigEarthNet-10 % size"}
BENCH = Bench(
    name="probes_linear",
    question="What do all 45 values of C of a linear probe cost?",
    competitors={
        **{f"ours, {words}": _ours(task) for task, words in WORDS.items()},
        **{f"scikit-learn, {words}": _sklearn(task) for task, words in WORDS.items()},
        **{f"L-BFGS a C, {words}": _lbfgs(task) for task, words in WORDS.items()},
    },
    targets=(
        *(
            Target(f"scikit-learn over ours, {w}", f"scikit-learn, {w}", f"ours, {w}", at_least=20)
            for w in WORDS.values()
        ),
        *(
            Target(f"L-BFGS over ours, {w}", f"L-BFGS a C, {w}", f"ours, {w}", at_least=5)
            for w in WORDS.values()
        ),
    ),
    unit="ms",
    rounds=3,
    quick_rounds=1,
    warmup=1,
    versions=("torch", "scikit-learn", "numpy"),
    check=check,
    facts=facts,
)
