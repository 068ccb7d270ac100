import numpy as np
import pytest

from probes.answers import ClassAnswers, LabelAnswers
from probes.metrics import class_metrics, confusion
from probes.statistics import draws, intervals, paired, percentile


def _answers(seed=0, blocks=12, each=20, right=0.7):
    rng = np.random.default_rng(seed)
    y = np.random.default_rng(9).integers(0, 4, blocks * each)
    p = np.where(rng.random(len(y)) < right, y, rng.integers(0, 4, len(y)))
    unit = np.repeat(np.arange(blocks) * 3, each)  # numbers with gaps
    return y, p, unit, ClassAnswers.of(y, p, unit, 4)


def test_resampled_metrics_are_those_of_the_concatenated_blocks():
    y, p, unit, answers = _answers()
    counts = draws(12, seed=0)[:5]
    found = answers.metrics(counts)
    for i, count in enumerate(counts):
        rows = np.concatenate(
            [np.flatnonzero(unit == 3 * u).repeat(c) for u, c in enumerate(count)]
        )
        want = class_metrics(confusion(y[rows], p[rows], 4))
        for name in ("oa", "aa", "kappa"):
            assert found[name][i] == pytest.approx(want[name])


def test_interval_holds_the_value_and_is_seeded():
    *_, answers = _answers()
    first, again, other = (intervals(answers, seed) for seed in (0, 0, 1))
    assert first == again
    assert first["oa"] != other["oa"]
    assert first["oa"]["low"] < first["oa"]["value"] < first["oa"]["high"]


def test_blocks_of_repeated_pixels_do_not_narrow_the_interval():
    """Ten copies of each pixel hold no more evidence; resampling pixels would claim they do."""
    y, p, unit, answers = _answers()
    copies = ClassAnswers.of(y.repeat(10), p.repeat(10), unit.repeat(10), 4)
    one, ten = intervals(answers, 0)["oa"], intervals(copies, 0)["oa"]
    assert ten["high"] - ten["low"] == pytest.approx(one["high"] - one["low"])


def test_paired_difference_uses_the_same_draws():
    *_, first = _answers(seed=0)
    *_, second = _answers(seed=1, right=0.6)
    found = paired(first, second, "oa", 0)
    spread = [a.metrics(draws(12, 0))["oa"] for a in (first, second)]
    low, high = percentile(spread[0] - spread[1])
    assert (found["low"], found["high"]) == (low, high)
    own = paired(first, first, "oa", 0)
    assert own == {"difference": 0.0, "low": 0.0, "high": 0.0}


def test_percentile_bounds_are_the_quantiles():
    values = np.arange(1001.0)
    assert percentile(values) == pytest.approx((25.0, 975.0))
    assert percentile(np.array([np.nan])) == (None, None)


def test_multilabel_interval_by_image():
    rng = np.random.default_rng(0)
    y = rng.random((6, 3)) < 0.5
    y[0] = True
    answers = LabelAnswers(y, rng.random((6, 3)), np.arange(6))
    found = intervals(answers, 0)
    assert set(found) == {"map", "map_micro"}
    assert found["map"]["low"] <= found["map"]["value"] <= found["map"]["high"]
