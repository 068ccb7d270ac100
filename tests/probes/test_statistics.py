import numpy as np
import pytest

from probes.statistics.answers import ClassAnswers, LabelAnswers
from probes.statistics.bootstrap import (
    draws,
    intervals,
    over_seeds,
    paired,
    paired_over_seeds,
    percentile,
)
from probes.statistics.metrics import class_metrics, confusion


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


def test_intervals_over_seeds_hold_both_units_and_seeds():
    runs = [_answers(seed=s, right=r)[3] for s, r in ((0, 0.55), (1, 0.7), (2, 0.85))]
    found = over_seeds(runs, 0)["oa"]
    each = [intervals(run, 0)["oa"] for run in runs]
    values = [one["value"] for one in each]
    assert found["value"] == pytest.approx(np.mean(values))
    assert found["between"] == pytest.approx(np.std(values, ddof=1))
    assert found["runs"] == 3
    # seeds differ by far more than blocks do: an interval over blocks alone would be too narrow
    widest = max(one["high"] - one["low"] for one in each)
    assert found["high"] - found["low"] > 1.5 * widest
    alike = over_seeds([runs[0], runs[0], runs[0]], 0)["oa"]
    assert alike["between"] == 0
    assert (alike["low"], alike["high"]) == pytest.approx((each[0]["low"], each[0]["high"]))


def test_paired_differences_over_seeds():
    first = [_answers(seed=s, right=0.8)[3] for s in range(3)]
    second = [_answers(seed=s + 10, right=0.5)[3] for s in range(3)]
    found = paired_over_seeds(first, second, "oa", 0)
    gap = np.mean([a.metrics(np.ones(12))["oa"] for a in first]) - np.mean(
        [a.metrics(np.ones(12))["oa"] for a in second]
    )
    assert found["difference"] == pytest.approx(gap)
    assert 0 < found["low"] < gap < found["high"]
    with pytest.raises(ValueError, match="as many runs"):
        paired_over_seeds(first, second[:2], "oa", 0)
    with pytest.raises(ValueError, match="share their test units"):
        over_seeds([first[0], _answers(blocks=11)[3]], 0)


def test_resamples_taken_in_parts_are_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    y = rng.random((12, 3)) < 0.5
    answers = LabelAnswers(y, rng.random((12, 3)), np.arange(12) // 2)
    counts = draws(6, 0)[:60].reshape(5, 12, 6)
    whole = answers.metrics(counts)
    monkeypatch.setattr("probes.statistics.answers.LARGEST", 7 * y.size)
    for name, values in answers.metrics(counts).items():
        np.testing.assert_array_equal(values, whole[name])
