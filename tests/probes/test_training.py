import math

import numpy as np
import pytest
import torch
from torch import nn

from fm.errors import FMError
from probes.families.training import Learner, schedule, train
from probes.settings.training import Training


class Fit(Learner):
    """A line through one point a sample."""

    def __init__(self, scale=1.0):
        self.scale = scale
        self.rates, self.orders = [], []

    def build(self):
        self.network = nn.Linear(1, 1)
        return self.network

    def groups(self, network, rate):
        self.group = {"params": list(network.parameters()), "peak": rate}
        return [self.group]

    def loss(self, network, index, draw):
        self.orders.append(index.tolist())
        x = torch.from_numpy(index).float()[:, None]
        return self.scale * (network(x) - 2 * x).square().mean()

    def predict(self, network, index):
        return network(torch.from_numpy(index).float()[:, None]).numpy()


ROWS = np.arange(6), np.arange(6, 9), np.arange(9, 12)


def run(learner, score, **other):
    base = {"epochs": 3, "learning_rates": (1e-3, 1e-1), "batch_size": 4, "weight_decay": 0.0}
    return train(
        learner, Training.model_validate({**base, **other}), ROWS, score, seed=0, label="x"
    )


def test_val_chooses_and_the_chosen_weights_answer():
    asked = []

    def score(rows, predictions):
        asked.append(rows.tolist())
        return [0.1, 0.9, 0.9, 0.2, math.nan, 0.3][len(asked) - 1]

    learner = Fit()
    found = run(learner, score)
    assert asked == [[6, 7, 8]] * 6
    assert found.trials == [(1e-3, 1), (1e-3, 2), (1e-3, 3), (1e-1, 1), (1e-1, 2), (1e-1, 3)]
    assert found.chosen == 1  # the first of equal ones
    assert (found.steps, found.trained, found.parameters) == (6, 2, 2)
    assert found.selection["on_edge"]
    assert found.note.endswith("lr=0.001 is the lower end of its grid: a better one may lie beyond")
    # the network holds the chosen weights: a line, so val and test lie on it
    line = np.polyfit([6, 7, 8], found.val_predictions[:, 0], 1)
    np.testing.assert_allclose(found.test_scores[:, 0], np.polyval(line, [9, 10, 11]), rtol=1e-4)
    assert found.selection["scores"][4] is None


def test_every_rate_sees_the_same_batches_and_each_sample_once_an_epoch():
    learner = Fit()
    run(learner, lambda rows, predictions: 0.0)
    half = len(learner.orders) // 2
    assert learner.orders[:half] == learner.orders[half:]
    assert [len(batch) for batch in learner.orders[:2]] == [4, 2]
    assert sorted(learner.orders[0] + learner.orders[1]) == list(range(6))
    assert learner.orders[:2] != learner.orders[2:4]


def test_schedule():
    assert schedule(0.0, 0.1) == 0.01
    assert schedule(0.05, 0.1) == pytest.approx(0.5)
    assert schedule(0.1, 0.1) == 1
    assert schedule(0.55, 0.1) == pytest.approx(0.5)
    assert schedule(1.0, 0.1) == pytest.approx(0, abs=1e-12)


def test_divergence_of_every_rate_is_one_line():
    with pytest.raises(FMError, match="give smaller ones"):
        run(Fit(math.inf), lambda rows, predictions: float(predictions.mean()))
