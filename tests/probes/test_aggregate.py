import numpy as np
import pytest
from scipy import stats

from fm.errors import UsageError
from probes.statistics.aggregate import aggregate, by_group, complete, ranks, trimmed_mean


def _runs(scores, names=None):
    names = names or [f"b{j}" for j in range(len(scores[0]))]
    return {
        f"m{i}": {b: list(np.atleast_1d(v)) for b, v in zip(names, row, strict=True)}
        for i, row in enumerate(scores)
    }


def test_ranks_are_scipys():
    scores = np.random.default_rng(0).integers(0, 4, (7, 5)).astype(float)
    want = stats.rankdata(-scores, axis=0)
    np.testing.assert_array_equal(ranks(scores), want)
    np.testing.assert_array_equal(ranks(np.stack([scores, scores[::-1]]))[1], want[::-1])


def test_iqm_is_scipys_where_four_divides_and_weighs_the_border_elsewhere():
    values = np.random.default_rng(0).normal(size=(3, 12))
    np.testing.assert_allclose(
        trimmed_mean(values, np.ones(12)), stats.trim_mean(values, 0.25, axis=1)
    )
    # of 5 values 1.25 leave at each end: 0.75 of the second and fourth stay
    five = np.array([9.0, 1.0, 4.0, 3.0, 2.0])
    assert trimmed_mean(five, np.ones(5)) == pytest.approx((0.75 * 2 + 3 + 0.75 * 4) / 2.5)
    # a value of weight 2 is two values
    double = trimmed_mean(np.array([1.0, 2.0, 5.0]), np.array([1.0, 2.0, 1.0]))
    assert double == pytest.approx(trimmed_mean(np.array([1.0, 2.0, 2.0, 5.0]), np.ones(4)))


def test_a_row_with_a_gap_is_left_out_and_named():
    runs = _runs([[0.5, 0.5], [0.9, 0.7], [0.8, 0.9]])
    whole = aggregate(runs, reference=["m0"])
    # alone on the easier benchmark a plain mean would put it first
    runs["partial"] = {"b0": [0.99]}
    runs["broken"] = {"b0": [0.99], "b1": [float("nan")]}
    found = aggregate(runs, reference=["m0"])
    assert set(found.left_out) == {"partial", "broken"}
    assert "b1" in found.left_out["partial"]
    assert found.rows == whole.rows
    fewer = aggregate(runs, reference=["m0"], drop="benchmarks")
    assert fewer.benchmarks == ("b0",)
    assert set(fewer.left_out) == {"b1"}
    assert fewer.rows["partial"]["mean"].value == 1.0
    rows, columns, _ = complete(runs, ("b0", "b1"), "benchmarks")
    assert (len(rows), columns) == (5, ("b0",))


def test_normalised_between_random_weights_and_the_best_row():
    runs = _runs([[0.5, 30.0], [0.7, 20.0], [0.6, 10.0], [0.3, 40.0]])
    found = aggregate(runs, reference=["m0"], lower_is_better=["b1"])
    means = {row: values["mean"].value for row, values in found.rows.items()}
    assert means == pytest.approx({"m0": 0, "m1": (1 + 0.5) / 2, "m2": (0.5 + 1) / 2, "m3": -0.75})
    assert found.rows["m1"]["mean_rank"].value == 1.5
    assert found.rows["m3"]["mean_rank"].value == 4


def test_copies_of_one_dataset_count_once():
    scores = [[0.0, 0.0], [1.0, 0.2], [0.4, 1.0]]
    once = aggregate(_runs(scores, ["so2sat", "eurosat"]), reference=["m0"])
    twice = [[a, a, b] for a, b in scores]
    runs = _runs(twice, ["so2sat", "m-so2sat", "eurosat"])
    plain = aggregate(runs, reference=["m0"])
    grouped = aggregate(runs, reference=["m0"], groups={"m-so2sat": "so2sat"})
    assert grouped.rows == once.rows
    assert plain.rows != once.rows
    assert grouped.groups == ("so2sat", "eurosat")
    np.testing.assert_allclose(by_group(np.array([[1.0, 3.0, 5.0]]), "aab"), [[2.0, 5.0]])


def test_runs_give_intervals_and_a_single_run_gives_none():
    rng = np.random.default_rng(0)
    center = rng.uniform(0.4, 0.9, (3, 4))
    many = [[value + rng.normal(0, 0.02, 5) for value in row] for row in center]
    found = aggregate(_runs(many), reference=["m0"])
    for values in found.rows.values():
        for spread in values.values():
            assert spread.low <= spread.value <= spread.high
    assert found.rows["m1"]["iqm"].low < found.rows["m1"]["iqm"].high
    assert found == aggregate(_runs(many), reference=["m0"])
    assert found != aggregate(_runs(many), reference=["m0"], seed=1)
    single = aggregate(_runs(center), reference=["m0"])
    assert single.rows["m1"]["iqm"].low is None
    # a width of the means: five runs of deviation s have a mean of deviation s / sqrt(5)
    spread = found.rows["m1"]["mean"]
    runs = [np.asarray(cell) for cell in _runs(many)["m1"].values()]
    low = np.array([np.mean(cell) for cell in _runs(many)["m0"].values()])
    high = np.array([[np.mean(c) for c in row.values()] for row in _runs(many).values()]).max(0)
    error = np.sqrt(
        sum(cell.var() / 5 / (h - lo) ** 2 for cell, h, lo in zip(runs, high, low, strict=True))
    )
    assert (spread.high - spread.low) == pytest.approx(2 * 1.96 * error / 4, rel=0.15)


def test_a_benchmark_that_no_row_wins_has_no_scale():
    runs = _runs([[0.5, 0.5], [0.9, 0.4]])
    found = aggregate(runs, reference=["m0"])
    assert found.benchmarks == ("b0",)
    assert "random-initialised" in found.left_out["b1"]
    with pytest.raises(UsageError, match="zero to normalise"):
        aggregate(runs, reference=["absent"])
    with pytest.raises(UsageError, match="no benchmark is left"):
        aggregate(_runs([[0.5], [0.4]]), reference=["m0"])
