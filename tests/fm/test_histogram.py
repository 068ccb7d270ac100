"""Fixed bins: exact counts, whatever came first and however far an outlier lies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm.histogram import SHOWN, Histogram


def counted(values):
    made = Histogram()
    made.add(np.asarray(values, np.float64))
    return made


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).uniform(0, 0.6, 5000),  # reflectance
        np.random.default_rng(1).normal(-14, 4, 5000),  # dB
        np.random.default_rng(2).normal(295, 8, 5000),  # kelvin
        np.random.default_rng(3).integers(900, 9000, 5000).astype(float),  # numbers
        np.random.default_rng(4).normal(0, 1e-3, 5000),
        np.random.default_rng(5).integers(-60, 20, 5000).astype(float),  # on the edges
    ],
    ids=["reflectance", "dB", "kelvin", "dn", "around zero", "whole dB"],
)
def test_reported_counts_are_numpys(values):
    low, high = np.percentile(values, [1, 99])
    start, step, counts = counted(values).report(low, high)
    shown = len(counts) - 2
    edges = start + step * np.arange(shown + 1)
    want, _ = np.histogram(values[values < edges[-1]], edges)
    assert counts[1:-1] == want.tolist()
    assert counts[0] == (values < start).sum()
    assert counts[-1] == (values >= edges[-1]).sum()
    assert edges[0] <= low < edges[1]
    assert edges[-2] <= high < edges[-1]
    assert np.log2(step) == round(np.log2(step))
    assert 8 <= shown <= SHOWN + 2


def test_outliers_move_no_bin():
    values = np.random.default_rng(5).uniform(0.1, 0.4, 4000)
    wild = np.concatenate([values, [1e30, -1e30, 5e-324, -0.0]])
    plain, more = counted(values).report(0.1, 0.4), counted(wild).report(0.1, 0.4)
    assert more[:2] == plain[:2]
    assert more[2][1:-1] == plain[2][1:-1]
    assert more[2][0] == plain[2][0] + 3
    assert more[2][-1] == plain[2][-1] + 1


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50), st.integers(0, 50))
def test_merging_and_keeping_lose_nothing(values, cut):
    whole = counted(values)
    left, right = counted(values[:cut]), counted(values[cut:])
    left.merge(Histogram.from_sparse(*right.sparse()))
    for mine, want in zip(left.sparse(), whole.sparse(), strict=True):
        assert mine.tolist() == want.tolist()
    assert int(whole.sparse()[1].sum()) == len(values)


@pytest.mark.parametrize("value", [0.0, 7.0, -7.0, 1e-9, 1e12])
def test_a_constant_band_is_one_bin(value):
    start, step, counts = counted([value] * 3).report(value, value)
    assert sum(counts) == 3
    if abs(value) < 2**32:
        assert counts == [0, 3, 0]
        assert start <= value < start + step
