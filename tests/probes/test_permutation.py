import itertools

import numpy as np
import pytest
from scipy import stats

from probes.statistics.answers import ClassAnswers, LabelAnswers, QueryAnswers, ValueAnswers
from probes.statistics.metrics import class_metrics, confusion
from probes.statistics.permutation import EXACT_UNITS, join, mcnemar, sign_flip
from probes.statistics.tries import TryAnswers


def _classes(seed, units=6, each=12, right=0.7):
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(5).integers(0, 3, units * each)
    guess = np.where(rng.random(len(truth)) < right, truth, rng.integers(0, 3, len(truth)))
    return truth, guess, np.repeat(np.arange(units), each)


@pytest.mark.parametrize(("one", "other"), [(0, 0), (3, 9), (9, 3), (0, 7), (40, 60), (400, 300)])
def test_mcnemar_is_the_exact_binomial(one, other):
    first = np.r_[np.ones(one, bool), np.zeros(other, bool), np.ones(5, bool), np.zeros(5, bool)]
    second = np.r_[np.zeros(one, bool), np.ones(other, bool), np.ones(5, bool), np.zeros(5, bool)]
    found = mcnemar(first, second)
    want = stats.binomtest(one, one + other, 0.5).pvalue if one + other else 1.0
    assert (found["first_only"], found["second_only"]) == (one, other)
    assert found["p"] == pytest.approx(want)


def test_few_units_are_exchanged_in_all_ways():
    truth, first, unit = _classes(0)
    _, second, _ = _classes(1, right=0.45)
    answers = [ClassAnswers.of(truth, guess, unit, 3) for guess in (first, second)]

    def gap(swap):
        swapped = np.array(swap)[unit].astype(bool)
        pair = np.where(swapped, second, first), np.where(swapped, first, second)
        kappa = [float(class_metrics(confusion(truth, guess, 3))["kappa"]) for guess in pair]
        return kappa[0] - kappa[1]

    observed = gap([0] * 6)
    every = [
        abs(gap(swap)) >= abs(observed) - 1e-12 for swap in itertools.product((0, 1), repeat=6)
    ]
    found = sign_flip(*answers, "kappa", seed=0)
    assert found == {"p": pytest.approx(np.mean(every)), "flips": 63}
    assert found["p"] < 1
    assert sign_flip(answers[0], answers[0], "kappa", seed=0)["p"] == 1.0


def test_many_units_are_drawn_and_the_level_holds():
    """Of two equally good models, some 5 in a hundred comparisons fall to 0.05."""
    units = EXACT_UNITS + 21
    small = 0
    for trial in range(40):
        truth, first, unit = _classes(2 * trial, units, 8)
        _, second, _ = _classes(2 * trial + 1, units, 8)
        answers = [ClassAnswers.of(truth, guess, unit, 3) for guess in (first, second)]
        found = sign_flip(*answers, "oa", seed=0)
        assert found["flips"] == 999
        small += found["p"] <= 0.05
    assert small <= 6  # binomial(40, 0.05): beyond this with a chance of 0.003


def test_a_difference_within_units_is_seen_and_one_between_units_is_not():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    unit = np.repeat(np.arange(20), 20)
    better = np.where(rng.random(400) < 0.9, truth, 1 - truth)
    worse = np.where(rng.random(400) < 0.7, truth, 1 - truth)
    answers = [ClassAnswers.of(truth, guess, unit, 2) for guess in (better, worse)]
    assert sign_flip(*answers, "oa", seed=0)["p"] < 0.01
    # one block decides everything: 20 samples of it are one piece of evidence
    lucky = np.where(unit == 0, truth, worse)
    unlucky = np.where(unit == 0, 1 - truth, worse)
    one_block = [ClassAnswers.of(truth, guess, unit, 2) for guess in (lucky, unlucky)]
    assert sign_flip(*one_block, "oa", seed=0)["p"] == 1.0
    assert mcnemar(lucky == truth, unlucky == truth)["p"] < 1e-5


def test_joined_answers_hold_both():
    rng = np.random.default_rng(0)
    unit = np.repeat(np.arange(4), 5)
    keep = [np.r_[np.ones(4), np.zeros(4)], np.r_[np.zeros(4), np.ones(4)]]
    truth = rng.random((20, 3)) < 0.5
    labels = [LabelAnswers(truth, s, unit) for s in (rng.random((20, 3)), rng.normal(size=(20, 3)))]
    values = [ValueAnswers.of(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), unit)] * 2
    queries = [QueryAnswers({"ndcg": rng.random(20)}, unit) for _ in range(2)]
    for pair, names in (
        (labels, ("map", "map_micro")),
        (values, ("r2", "rmse")),
        (queries, ("ndcg",)),
    ):
        for name in names:
            whole = join(*pair, name)
            for one, counts in zip(pair, keep, strict=True):
                assert whole.metrics(counts)[name] == pytest.approx(one.metrics(np.ones(4))[name])


def test_scores_of_other_scales_are_not_mixed():
    """The same ranking a thousand times larger is the same model, and as far from another."""
    rng = np.random.default_rng(0)
    truth = rng.random((60, 4)) < 0.4
    unit = np.arange(60) // 2
    good, bad = (rng.normal(size=(60, 4)) + gain * truth for gain in (1.5, 0.5))
    one, other, scaled = (LabelAnswers(truth, s, unit) for s in (good, bad, 1000 * bad + 7))
    for metric in ("map", "map_micro"):
        found = sign_flip(one, scaled, metric, seed=0)
        assert found == sign_flip(one, other, metric, seed=0)
        assert found["p"] < 0.05
        assert sign_flip(other, scaled, metric, seed=0)["p"] == 1.0


def test_tries_are_exchanged_together():
    answers = []
    for start, right in ((0, 0.8), (10, 0.4)):
        tries = []
        for n in range(3):
            truth, guess, unit = _classes(start + n, right=right)
            tries.append(ClassAnswers.of(truth, guess, unit, 3))
        answers.append(TryAnswers(tries))
    found = sign_flip(*answers, "oa", seed=0)
    assert found["p"] == 2 / 64  # every unit agrees: only none and all are as large
    fewer = TryAnswers(answers[1].tries[:2])
    assert sign_flip(answers[0], fewer, "oa", seed=0) is None
    assert sign_flip(answers[0].tries[0], fewer, "oa", seed=0) is None
