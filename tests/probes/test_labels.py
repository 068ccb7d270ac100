from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from fm.errors import UsageError
from probes.benchmarks import get_benchmark
from probes.families.labels import digest, draw, subset
from probes.judging.evaluation import evaluate_many
from probes.settings.few import FewLabels
from tests.probes import vectors


def test_few_labels_are_the_same_for_every_model_and_differ_by_seed(blocks):
    data = get_benchmark("indian-pines").load(blocks)
    train = data.of("train")
    few = subset(data, train, 5, seed=1)
    assert np.array_equal(few, subset(data, train, 5, seed=1))
    assert not np.array_equal(few, subset(data, train, 5, seed=2))
    assert set(few) <= set(train)
    assert np.bincount(data.targets[few]).max() == 5
    assert subset(data, train, None, seed=1) is train


def test_floors_of_a_few_label_protocol_have_as_few_labels(blocks):
    names = ["image-statistics-20", "raw-pixel-20", "raw-pixel"]
    few, pixel, whole = evaluate_many(None, "indian-pines", names, data=blocks)
    for result in (few, pixel):
        assert result.protocol["settings"]["per_class"] == 20
    assert whole.protocol["settings"]["per_class"] is None
    # fewer samples, the same grid: another choice of C has other scores on val
    assert pixel.selection["scores"] != whole.selection["scores"]


def classes(sizes):
    targets = np.repeat(np.arange(len(sizes)), sizes)
    return vectors.data(targets, ["train"] * len(targets), classes=len(sizes))


def amount(data, rows=None, seed=0, attempt=0, **given):
    rows = data.of("train") if rows is None else rows
    given = {"per_class": None, "fraction": None, **given}
    return draw(data, rows, seed=seed, attempt=attempt, **given)


def test_a_tenth_is_a_tenth_of_different_samples():
    """Drawn with replacement, a tenth would hold about 9.5 % different samples."""
    data = classes([600, 300, 100])
    few = amount(data, fraction=0.1)
    assert len(few) == len(set(few.tolist())) == 100
    assert np.bincount(data.targets[few]).tolist() == [60, 30, 10]
    labels = vectors.data(np.random.default_rng(0).random((500, 6)) < 0.3, ["train"] * 500)
    assert len(np.unique(amount(labels, fraction=0.1))) == 50
    numbers = vectors.data(np.random.default_rng(0).random((500, 1)), ["train"] * 500)
    assert len(np.unique(amount(numbers, fraction=0.1))) == 50


def test_lists_are_fixed_by_data_amount_seed_and_try():
    data = classes([30, 30])
    first = amount(data, per_class=5)
    assert np.array_equal(first, amount(data, data.of("train")[::-1], per_class=5))
    others = [
        amount(data, per_class=5, seed=1),
        amount(data, per_class=5, attempt=1),
        amount(replace(data, manifest_hash="1"), per_class=5),
    ]
    names = {digest(data, rows) for rows in (first, *others)}
    assert len(names) == 4
    # a published list is the same list forever: this one must not change
    assert first.tolist() == [0, 3, 5, 13, 26, 32, 44, 46, 50, 51]
    assert np.array_equal(amount(data), data.of("train"))


def test_shares_of_classes_are_largest_remainders_with_at_least_one():
    data = classes([500, 9, 1])
    assert np.bincount(data.targets[amount(data, fraction=0.01)], minlength=3).tolist() == [3, 1, 1]
    assert np.bincount(data.targets[amount(data, fraction=1.0)]).tolist() == [500, 9, 1]
    with pytest.raises(UsageError, match="is none"):
        amount(data, fraction=1e-4)


def test_every_label_has_its_samples():
    rng = np.random.default_rng(0)
    truth = rng.random((300, 6)) < np.array([0.9, 0.5, 0.2, 0.1, 0.05, 0.007])
    data = vectors.data(truth, ["train"] * 300)
    few = amount(data, per_class=4)
    have = truth[few].sum(0)
    assert (have >= np.minimum(truth.sum(0), 4)).all()
    assert len(few) <= 24
    assert have.min() < 4  # the rarest label has fewer in all


def test_tenths_of_labels_are_stratified():
    """Iterative stratification keeps the shares of rare labels, a uniform draw does not."""
    rng = np.random.default_rng(0)
    truth = rng.random((1000, 8)) < np.geomspace(0.5, 0.02, 8)
    data = vectors.data(truth, ["train"] * 1000)
    want = 0.1 * truth.sum(0)
    errors = [np.abs(truth[amount(data, fraction=0.1, seed=s)].sum(0) - want) for s in range(5)]
    assert np.max(errors) <= 2.5
    uniform = [np.abs(truth[rng.permutation(1000)[:100]].sum(0) - want) for _ in range(5)]
    assert np.mean(uniform) > 2 * np.mean(errors)
    assert all(len(amount(data, fraction=0.1, seed=s)) == 100 for s in range(5))


def test_numbers_have_no_classes_to_draw_from():
    data = vectors.data(np.ones((10, 1)), ["train"] * 10)
    with pytest.raises(UsageError, match="no classes"):
        amount(data, per_class=2)


def test_one_amount_alone():
    with pytest.raises(ValidationError, match="not both"):
        FewLabels(per_class=1, fraction=0.1)
