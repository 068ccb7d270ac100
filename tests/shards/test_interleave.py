"""Dealing by weight: exact quotas, no gaps, no dependence on how the stream is cut."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm.errors import UsageError
from shards.ordering.interleave import LONGEST, Interleave

whole = st.lists(st.integers(1, 12), min_size=1, max_size=5)
blocks = st.integers(1, 9)
seeds = st.integers(-5, 2**63)


def by_hand(mix: Interleave, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Places counted one by one from the parts alone."""
    parts, _ = mix.locate(0, stop)
    places = np.zeros(stop, np.int64)
    for part in range(len(mix.quotas)):
        places[parts == part] = np.arange((parts == part).sum())
    return parts, places


@given(weights=whole, seed=seeds, block=blocks, cuts=st.lists(st.integers(0, 900), max_size=8))
@settings(max_examples=60, deadline=None)
def test_places_have_no_gap_however_the_stream_is_cut(weights, seed, block, cuts) -> None:
    parts, places = by_hand(Interleave(weights, seed, block), 900)
    mix, ends = Interleave(weights, seed, block), [0, *sorted(cuts), 900]
    for start, stop in itertools.pairwise(ends):
        found = mix.locate(start, stop)
        assert np.array_equal(found[0], parts[start:stop])
        assert np.array_equal(found[1], places[start:stop])
        assert mix.counts(start).tolist() == [
            (parts[:start] == k).sum() for k in range(len(weights))
        ]


@given(weights=whole, seed=seeds, block=blocks)
@settings(max_examples=60, deadline=None)
def test_quotas_are_exact_in_every_cycle_and_the_bound_holds(weights, seed, block) -> None:
    mix = Interleave(weights, seed, block)
    shares = [Fraction(w, sum(weights)) for w in weights]
    assert mix.exact
    assert [Fraction(int(q), mix.cycle) for q in mix.quotas] == shares
    assert mix.cycle == np.lcm.reduce([share.denominator for share in shares])
    length = mix.cycle * block
    parts, _ = mix.locate(0, 3 * length)
    for cycle in range(3):
        counts = np.bincount(parts[cycle * length :][:length], minlength=len(weights))
        assert counts.tolist() == (mix.quotas * block).tolist()
    n = np.arange(1, 3 * length + 1)
    for part, share in enumerate(shares):
        deviation = np.abs(np.cumsum(parts == part) - n * float(share)).max()
        assert deviation <= mix.bound[part] + 1e-9
        assert mix.bound[part] == pytest.approx(float(block * mix.cycle * share * (1 - share)))
    runs = parts.reshape(-1, block)
    assert (runs == runs[:, :1]).all()  # a block has one part


@given(
    weights=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6),
    seed=seeds,
    position=st.integers(0, 10**15),
)
@settings(max_examples=40, deadline=None)
def test_any_weights_at_any_position(weights, seed, position) -> None:
    mix = Interleave(weights, seed, 4)
    assert mix.cycle <= LONGEST
    assert mix.quotas.min() >= 1
    asked = np.array(weights) / sum(weights)
    if asked.min() >= 1 / LONGEST:
        assert np.abs(mix.weights - asked).max() <= 1 / LONGEST + 1e-9
    before = mix.counts(position)
    assert before.sum() == position
    assert (np.abs(before - position * mix.weights) <= mix.bound + 1e-6 * (1 + position)).all()
    parts, places = mix.locate(position, position + 50)
    for part in range(len(weights)):
        mine = places[parts == part]
        assert mine.tolist() == list(range(before[part], before[part] + len(mine)))


@pytest.mark.parametrize(
    ("weights", "quotas"),
    [
        ([0.7, 0.3], [7, 3]),
        ([2, 2], [1, 1]),
        ([1 / 3, 2 / 3], [1, 2]),
        ([0.1, 0.2, 0.7], [1, 2, 7]),
        ([5], [1]),
        ([1, 4095], [1, 4095]),
    ],
)
def test_common_denominators_are_found(weights, quotas) -> None:
    mix = Interleave(weights)
    assert mix.quotas.tolist() == quotas
    assert mix.exact


def test_other_weights_are_rounded_and_it_is_told() -> None:
    mix = Interleave([np.pi, 1, 1e-9])
    assert not mix.exact
    assert mix.cycle == LONGEST
    assert mix.quotas[2] == 1
    assert mix.weights == pytest.approx([np.pi / (np.pi + 1), 1 / (np.pi + 1), 0], abs=1 / LONGEST)


def test_deals_are_even_and_differ_between_cycles_and_seeds() -> None:
    # One of four slots holds part 0 in each of 8000 cycles: 2000 +- 5 sigma (sigma = 38.7).
    parts, _ = Interleave([1, 3], 11).locate(0, 4 * 8000)
    slots = np.flatnonzero(parts == 0) % 4
    assert np.abs(np.bincount(slots, minlength=4) - 2000).max() < 194
    # ... and the slot of a cycle tells nothing of the next one: 16 pairs, 500 +- 5 * 21.7
    pairs = np.bincount(slots[1:] * 4 + slots[:-1], minlength=16)
    assert np.abs(pairs - 500).max() < 109
    assert not np.array_equal(parts[:400], Interleave([1, 3], 12).locate(0, 400)[0])


@pytest.mark.parametrize("weights", [[], [0.0, 1.0], [1.0, float("nan")], [-1.0], [1.0] * 4097])
def test_impossible_weights_are_refused(weights) -> None:
    with pytest.raises(UsageError, match="weight"):
        Interleave(weights)


def test_impossible_ranges_are_refused() -> None:
    with pytest.raises(UsageError, match="block"):
        Interleave([1], block=0)
    for call in (lambda mix: mix.locate(3, 2), lambda mix: mix.counts(-1)):
        with pytest.raises(UsageError, match="at least 0"):
            call(Interleave([1, 2]))
