import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm.errors import FMError
from fm.sensors import modality_bands
from fm.statistics import SAMPLE, Statistics


def expected_statistics(values):
    return {
        "mean": values.mean(),
        "std": values.std(),
        "min": values.min(),
        "max": values.max(),
        **{f"p{p}": np.percentile(values, p) for p in (1, 2, 50, 98, 99)},
        "count": values.size,
    }


def check(found, band, values, rtol=1e-12):
    for name, number in expected_statistics(values).items():
        assert found[name][band] == pytest.approx(number, rel=rtol, abs=1e-12), name


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    split=st.integers(0, 6),
    seed=st.integers(0, 1000),
)
def test_small_data_is_exact_however_it_is_cut(sizes, split, seed):
    rng = np.random.default_rng(seed)
    # A mean far above the spread would show cancellation in a naive sum of squares.
    parts = [rng.normal(1000, 0.5, (2, n)) for n in sizes]
    left, right = Statistics(["a", "b"]), Statistics(["a", "b"])
    for index, part in enumerate(parts):
        (left if index < split else right).update(part)
    left.merge(right)
    found = left.to_dict()
    together = np.concatenate(parts, axis=1)
    for band in range(2):
        check(found, band, together[band], rtol=1e-9)


def test_only_valid_pixels_count():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 20, 30))
    shared, own = rng.random((20, 30)) < 0.5, rng.random((3, 20, 30)) < 0.5
    x[:, ~shared] = np.nan
    statistics = Statistics(["a", "b", "c"])
    statistics.update(x, valid=shared)
    for band in range(3):
        check(statistics.to_dict(), band, x[band][shared])
    y = rng.normal(size=(3, 20, 30))
    statistics.update(y, valid=own)
    for band in range(3):
        check(statistics.to_dict(), band, np.concatenate([x[band][shared], y[band][own[band]]]))


def test_percentiles_of_large_data_are_close_and_do_not_depend_on_the_cuts():
    rng = np.random.default_rng(2)
    values = rng.exponential(size=(1, 12 * SAMPLE))
    whole, cut = Statistics(["a"]), Statistics(["a"])
    whole.update(values)
    for piece in np.array_split(values, 37, axis=1):
        cut.update(piece)
    found, again = whole.to_dict(), cut.to_dict()
    for name, p in (("p1", 1), ("p2", 2), ("p50", 50), ("p98", 98), ("p99", 99)):
        assert found[name] == again[name]
        rank = 100 * (values < found[name][0]).mean()
        # Five standard deviations of the rank of a sample quantile.
        assert abs(rank - p) < 5 * np.sqrt(p * (100 - p) / SAMPLE), name
    assert found["count"] == [values.size]
    assert found["mean"][0] == pytest.approx(again["mean"][0], rel=1e-12)


def test_merged_halves_of_large_data_weigh_alike():
    # Low values in one half, high in the other: the median must fall between, p2 and p98 inside.
    rng = np.random.default_rng(3)
    low, high = rng.uniform(0, 1, (1, 3 * SAMPLE)), rng.uniform(2, 3, (1, 9 * SAMPLE))
    halves = []
    for part in (low, high):
        halves.append(Statistics(["a"]))
        halves[-1].update(part)
    halves[0].merge(halves[1])
    found = halves[0].to_dict()
    both = np.concatenate([low, high], axis=1)
    for name, p in (("p2", 2), ("p50", 50), ("p98", 98)):
        assert found[name][0] == pytest.approx(np.percentile(both, p), abs=0.05)


def test_parts_made_apart_are_merged_as_if_they_were_one():
    rng = np.random.default_rng(5)
    parts = [rng.gamma(2.0, 0.1, (2, n)) for n in (SAMPLE, 3 * SAMPLE, 17, 2 * SAMPLE)]
    whole, merged = Statistics(["a", "b"]), Statistics(["a", "b"])
    for number, part in enumerate(parts):
        whole.update(part)
        alone = Statistics(["a", "b"], stream=number)
        alone.update(part)
        # through arrays, as from another process
        merged.merge(Statistics.from_arrays(["a", "b"], alone.to_arrays()))
    found, want = merged.to_dict(), whole.to_dict()
    together = np.concatenate(parts, axis=1)
    for name in ("min", "max", "count"):
        assert found[name] == want[name]
    # float64 sums in another order; 100 000 values
    np.testing.assert_allclose(found["mean"], together.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found["std"], together.std(axis=1), rtol=1e-12)
    for name, p in (("p1", 1), ("p50", 50), ("p99", 99)):
        for band in range(2):
            rank = 100 * (together[band] < found[name][band]).mean()
            assert abs(rank - p) < 5 * np.sqrt(p * (100 - p) / SAMPLE), name
    fine = [s._histograms[0]._counts for s in (merged, whole)]
    np.testing.assert_array_equal(*fine)
    with pytest.raises(FMError, match="of 2 bands, not of 3"):
        Statistics.from_arrays(["a", "b", "c"], alone.to_arrays())


def test_a_state_survives_a_file_to_the_bit(tmp_path):
    rng = np.random.default_rng(6)
    state = Statistics(["a"])
    state.update(rng.normal(size=(1, 3 * SAMPLE)))
    np.savez(tmp_path / "state.npz", **state.to_arrays())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as arrays:
        again = Statistics.from_arrays(["a"], arrays)
    assert again.to_dict() == state.to_dict()


def test_streams_have_priorities_of_their_own():
    # two parts with equal places but unequal values: neither may crowd the other out of the sample
    parts = [Statistics(["a"], stream=k) for k in range(2)]
    for value, part in enumerate(parts):
        part.update(np.full((1, 2 * SAMPLE), float(value)))
    parts[0].merge(parts[1])
    priority, values = parts[0]._samples[0].kept()
    assert np.unique(priority).size == SAMPLE
    assert abs(values.mean() - 0.5) < 5 * 0.5 / np.sqrt(SAMPLE)


def test_statistics_refuse_what_they_cannot_count():
    statistics = Statistics(modality_bands("s1grd_10"))
    with pytest.raises(FMError, match="bands come first"):
        statistics.update(np.zeros((3, 4)))
    with pytest.raises(FMError, match="'VH' holds values that are not finite"):
        statistics.update(np.array([[0.0, 1.0], [0.0, np.nan]]))
    with pytest.raises(FMError, match="stored numbers"):
        statistics.update(np.zeros((2, 4), np.uint16))
    with pytest.raises(FMError, match="cannot merge"):
        statistics.merge(Statistics(["VH", "VV"]))
    with pytest.raises(FMError, match="valid must be bool"):
        statistics.update(np.zeros((2, 4)), valid=np.ones(4))
    fresh = Statistics(["VV", "VH"])
    fresh.update(np.zeros((2, 4)), valid=np.array([[True] * 4, [False] * 4]))
    with pytest.raises(FMError, match="'VH' has no valid pixel"):
        fresh.to_dict()
