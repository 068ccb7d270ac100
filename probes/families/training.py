"""The loop of everything that is trained by gradient steps: selected on val, test scored once."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fm.console import progress
from fm.errors import FMError
from probes.families.job import edge_note, selection
from probes.families.tuning import training_mode
from probes.settings.training import Training


class Learner(ABC):
    """What is trained: how it is built, its loss and its predictions."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Return the network as training starts; the random generator is seeded already."""

    @abstractmethod
    def groups(self, network: nn.Module, rate: float) -> list[dict[str, Any]]:
        """Return the parameter groups, each with its peak rate under `peak`."""

    @abstractmethod
    def loss(self, network: nn.Module, index: np.ndarray, draw: np.random.Generator) -> Tensor:
        """Return the loss of some samples; `draw` is the step's own randomness."""

    @abstractmethod
    def predict(self, network: nn.Module, index: np.ndarray) -> np.ndarray:
        """Return predictions as the task wants them; the network is in `eval()`."""


@dataclass(frozen=True)
class Tuned:
    """What training found.

    Attributes:
        test_scores: predictions of the test samples by the chosen weights.
        trials: (learning rate, epoch from 1) in the order tried.
        val_scores: primary metric on val of each trial.
        chosen: place of the best trial; the first of equal ones.
        val_predictions: of the val samples by the chosen weights.
        steps: optimiser steps of one rate.
        trained: number of parameters that were trained.
        parameters: number of all parameters of backbone and head.
    """

    test_scores: np.ndarray
    trials: list[tuple[float, int]]
    val_scores: list[float]
    chosen: int
    val_predictions: np.ndarray
    steps: int
    trained: int
    parameters: int

    @property
    def selection(self) -> dict[str, Any]:
        """The choice, as results keep it."""
        trials = [f"lr={rate:g} epoch={epoch}" for rate, epoch in self.trials]
        about = selection("lr, epoch", trials, self.val_scores, self.chosen)
        sizes = {"trained_parameters": self.trained, "steps": self.steps}
        return {**about, "on_edge": bool(self._edges), **sizes}

    @property
    def _edges(self) -> list[str]:
        """Which ends of the grid the choice lies at, in words."""
        rate, epoch = self.trials[self.chosen]
        words = edge_note("lr", sorted({rate for rate, _ in self.trials}), rate)
        if epoch == self.trials[-1][1]:
            words.append("the last epoch was the best: more may be better")
        return words

    @property
    def note(self) -> str:
        """What was trained, for how long, and at which ends of the grid the choice lies."""
        sizes = (
            f"trained {self.trained:,} of {self.parameters:,} parameters, "
            f"{self.steps} steps for each learning rate"
        )
        return "; ".join([sizes, *self._edges])


def train(
    learner: Learner,
    settings: Training,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
    score: Callable[[np.ndarray, np.ndarray], float],
    *,
    seed: int,
    label: str,
) -> Tuned:
    """Train one network a learning rate.

    Args:
        learner: what is trained.
        settings: the recipe.
        rows: numbers of the train, val and test samples.
        score: (numbers of samples, predictions) to the primary metric; used on val.
        seed: of new weights and the order of samples; each learning rate gets the same.
        label: shown beside the progress bar.

    Raises:
        FMError: the loss became NaN for every learning rate.
    """
    train_rows, val, test = rows
    steps = math.ceil(len(train_rows) / settings.batch_size)
    total = settings.epochs * steps
    trials: list[tuple[float, int]] = []
    found: list[float] = []
    best: tuple[float, dict[str, Tensor], np.ndarray] | None = None
    network: nn.Module | None = None
    with (
        torch.random.fork_rng(devices=[]),
        progress(label, len(settings.learning_rates) * total) as bar,
    ):
        for rate in settings.learning_rates:
            torch.manual_seed(seed)
            network = learner.build()
            optimizer = torch.optim.AdamW(learner.groups(network, rate), lr=rate)
            for epoch in range(settings.epochs):
                order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(train_rows)
                training_mode(network)
                for step in range(steps):
                    index = order[step * settings.batch_size : (step + 1) * settings.batch_size]
                    at = (epoch * steps + step) / total
                    for group in optimizer.param_groups:
                        group["lr"] = group["peak"] * schedule(at, settings.warmup)
                    draw = np.random.Generator(np.random.PCG64([seed, epoch, step]))
                    loss = learner.loss(network, index, draw)
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
                    optimizer.step()
                    bar.advance(loss=f"{loss.item():.3f}")
                predictions = _predict(learner, network, val)
                value = score(val, predictions)
                trials.append((rate, epoch + 1))
                found.append(value)
                if math.isfinite(value) and (best is None or value > best[0]):
                    best = value, copy.deepcopy(network.state_dict()), predictions
    if best is None or network is None:
        raise FMError(f"{label}: no learning rate gave finite scores; give smaller ones")
    network.load_state_dict(best[1])
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return Tuned(
        test_scores=_predict(learner, network, test),
        trials=trials,
        val_scores=found,
        chosen=found.index(best[0]),
        val_predictions=best[2],
        steps=total,
        trained=sum(n for n, trained in sizes if trained),
        parameters=sum(n for n, _ in sizes),
    )


def schedule(at: float, warmup: float) -> float:
    """Share of the peak rate at a share `at` of the run: linear warm-up, then a half cosine."""
    if at < warmup:
        # the first step is not wasted on a rate of zero
        return max(at / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (at - warmup) / (1 - warmup)))


def _predict(learner: Learner, network: nn.Module, index: np.ndarray) -> np.ndarray:
    network.eval()
    with torch.inference_mode():
        return learner.predict(network, index)
