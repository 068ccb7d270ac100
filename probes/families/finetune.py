"""Full fine-tuning: backbone and head trained together, chosen on val, scored on test once."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fm.console import progress
from fm.errors import FMError
from probes import logistic
from probes.benchmarks.base import Data
from probes.families.job import Job, Outcome, selection
from probes.features import encode
from probes.labels import subset
from probes.settings import Finetune

TASKS = ("class", "multilabel")


def run(job: Job) -> Outcome:
    """Train on train, choose rate and epoch on val, score test."""
    settings: Finetune = job.settings
    found = finetune(
        job.model, job.data, settings, job.score, seed=job.seed, label=f"fine-tuning {job.label}"
    )
    trials = [f"lr={rate:g} epoch={epoch}" for rate, epoch in found.trials]
    best = found.trials[found.chosen]
    edges = (found.trials[0][0], found.trials[-1][0])
    last = best[1] == settings.epochs
    edge = last or (len(set(edges)) > 1 and best[0] in edges)
    chosen = selection("lr, epoch", trials, found.val_scores, found.chosen)
    return Outcome(found.test_scores, {**chosen, "on_edge": edge})


@dataclass(frozen=True)
class Tuned:
    """What fine-tuning found.

    Attributes:
        test_scores: [N test, K] of the chosen weights.
        trials: (learning rate, epoch from 1) in the order tried.
        val_scores: primary metric on val of each trial.
        chosen: place of the best trial; the first of equal ones.
    """

    test_scores: np.ndarray
    trials: list[tuple[float, int]]
    val_scores: list[float]
    chosen: int


def finetune(
    model: Any,
    data: Data,
    settings: Finetune,
    score: Callable[[np.ndarray, np.ndarray], float],
    *,
    seed: int,
    label: str = "fine-tuning",
) -> Tuned:
    """Fine-tune copies of a model, one a learning rate.

    Args:
        model: the starting point; it is not changed.
        data: the benchmark, opened.
        settings: the recipe.
        score: (numbers of samples, scores [n, K]) to the primary metric; used on val.
        seed: of the order of samples; each learning rate gets the same.
        label: shown beside the progress bar.

    Raises:
        FMError: the loss became NaN for every learning rate.
    """
    train = subset(data, data.of("train"), settings.per_class, seed)
    val = subset(data, data.of("val"), settings.val_per_class, seed)
    test = data.of("test")
    steps = math.ceil(len(train) / settings.batch_size)
    trials: list[tuple[float, int]] = []
    found: list[float] = []
    best: tuple[float, dict[str, Tensor]] | None = None
    network: nn.Module | None = None
    total = len(settings.learning_rates) * settings.epochs * steps
    head = _head(model, data, train, settings.head_c)
    with torch.random.fork_rng(devices=[]), progress(label, total) as bar:
        for rate in settings.learning_rates:
            torch.manual_seed(seed)
            network = _Network(copy.deepcopy(model), len(data.classes))
            network.start(head)
            optimizer = _optimizer(network, rate, settings)
            for epoch in range(settings.epochs):
                order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(train)
                network.train()
                for step in range(steps):
                    index = order[step * settings.batch_size : (step + 1) * settings.batch_size]
                    at = (epoch * steps + step) / (settings.epochs * steps)
                    for group in optimizer.param_groups:
                        group["lr"] = rate * _schedule(at, settings.warmup)
                    loss = _loss(network(data, index), data.targets[index])
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
                    optimizer.step()
                    bar.advance(loss=f"{loss.item():.3f}")
                value = score(val, _predict(network, data, val))
                trials.append((rate, epoch + 1))
                found.append(value)
                if math.isfinite(value) and (best is None or value > best[0]):
                    best = value, copy.deepcopy(network.state_dict())
    if best is None or network is None:
        raise FMError(f"{label}: no learning rate gave finite scores; give smaller ones")
    network.load_state_dict(best[1])
    return Tuned(_predict(network, data, test), trials, found, found.index(best[0]))


class _Network(nn.Module):
    def __init__(self, model: Any, classes: int) -> None:
        super().__init__()
        self.backbone = model
        self.head = nn.Linear(model.width, classes)

    @torch.no_grad()
    def start(self, head: tuple[Tensor, Tensor]) -> None:
        """Set the head's weights [K, D] and biases [K]."""
        self.head.weight.copy_(head[0])
        self.head.bias.copy_(head[1])

    def forward(self, data: Data, index: np.ndarray) -> Tensor:
        return self.head(encode(self.backbone, data.read(index), data.bands, data.scaling))


def _head(model: Any, data: Data, rows: np.ndarray, c: float) -> tuple[Tensor, Tensor]:
    """The logistic regression on the frozen features of some samples, as a linear layer."""
    model.eval()
    with torch.inference_mode():
        parts = [
            encode(model, data.read(rows[i : i + 256]), data.bands, data.scaling).double().numpy()
            for i in range(0, len(rows), 256)
        ]
    features = np.concatenate(parts)
    mean, spread = features.mean(0), np.maximum(features.std(0), 1e-6)
    found = logistic.fit(
        (features - mean) / spread, data.targets[rows], [c], classes=len(data.classes)
    )
    weight = found.weights[0] / torch.from_numpy(spread)
    # a class without training samples has an intercept of -inf, which no optimiser can move
    bias = found.intercepts[0].clamp_min(-30.0) - weight @ torch.from_numpy(mean)
    return weight.float(), bias.float()


def _loss(scores: Tensor, targets: np.ndarray) -> Tensor:
    y = torch.from_numpy(targets)
    if y.ndim == 1:
        return nn.functional.cross_entropy(scores, y.long())
    return nn.functional.binary_cross_entropy_with_logits(scores, y.to(scores.dtype))


def _optimizer(network: nn.Module, rate: float, settings: Finetune) -> torch.optim.Optimizer:
    """AdamW without decay on biases, norms and tokens (everything that is no matrix)."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim == 2]
    others = [p for p in parameters if p.ndim != 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate)


def _schedule(at: float, warmup: float) -> float:
    """Share of the peak rate at a share `at` of the run: linear warm-up, then a half cosine."""
    if at < warmup:
        # the first step is not wasted on a rate of zero
        return max(at / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (at - warmup) / (1 - warmup)))


def _predict(network: nn.Module, data: Data, index: np.ndarray, batch: int = 256) -> np.ndarray:
    network.eval()
    with torch.inference_mode():
        parts = [network(data, index[i : i + batch]) for i in range(0, len(index), batch)]
    return torch.cat(parts).float().numpy()
