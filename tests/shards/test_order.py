import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm.errors import UsageError
from shards.order import Order, permutation, splitmix64
from shards.reader import Plan

sizes = st.integers(1, 700)
seeds = st.integers(0, 2**63 - 1)


def test_splitmix64_is_the_published_generator() -> None:
    # The first outputs for seed 1234567 of the reference implementation (Vigna, splitmix64.c);
    # its state moves on by the golden constant before each output.
    golden, expected = 0x9E3779B97F4A7C15, [6457827717110365317, 3203168211198807973]
    states = np.array([1234567, (1234567 + golden) % 2**64], np.uint64)
    assert splitmix64(states).tolist() == expected


@given(count=sizes, seed=seeds, epoch=st.integers(0, 50), chunk=st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_each_epoch_is_a_permutation(count: int, seed: int, epoch: int, chunk: int) -> None:
    order = Order(count, seed, chunk, window=100, epoch=epoch)
    for lap in range(2):
        seen = order.indices(lap * count, (lap + 1) * count)
        assert sorted(seen.tolist()) == list(range(count))
        assert set(order.epochs(lap * count, (lap + 1) * count)) == {epoch + lap}


@given(count=sizes, seed=seeds, start=st.integers(0, 3000), length=st.integers(0, 900))
@settings(max_examples=60, deadline=None)
def test_any_range_is_a_slice_of_the_stream(count: int, seed: int, start: int, length: int) -> None:
    whole = Order(count, seed, 16, 100).indices(0, start + length)
    assert np.array_equal(Order(count, seed, 16, 100).indices(start, start + length), whole[start:])


@given(count=sizes, seed=seeds, epoch=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_an_epoch_does_not_depend_on_where_the_stream_began(
    count: int, seed: int, epoch: int
) -> None:
    late = Order(count, seed, epoch=epoch).indices(0, count)
    early = Order(count, seed).indices(epoch * count, (epoch + 1) * count)
    assert np.array_equal(late, early)


@given(
    count=sizes,
    seed=seeds,
    batch=st.integers(8, 40),
    position=st.integers(0, 2000),
    world=st.sampled_from((1, 2, 3, 8)),
    step=st.integers(0, 30),
)
@settings(max_examples=80, deadline=None)
def test_ranks_partition_the_global_batch(
    count: int, seed: int, batch: int, position: int, world: int, step: int
) -> None:
    ranges = [
        Plan(count, batch, seed, 0, rank, world, position).range(step) for rank in range(world)
    ]
    joined = [place for start, stop in ranges for place in range(start, stop)]
    begin = position + step * batch
    assert joined == list(range(begin, begin + batch))
    lengths = [stop - start for start, stop in ranges]
    assert max(lengths) - min(lengths) <= 1


def test_neighbours_on_disk_stay_in_one_window() -> None:
    count, chunk, window = 64 * 40, 64, 64 * 4
    seen = Order(count, 3, chunk, window).indices(0, count)
    for start in range(0, count, window):
        assert len(set(seen[start : start + window] // chunk)) == window // chunk
    # ... and yet a window is mixed: consecutive positions seldom come from the same chunk
    assert np.mean(seen[1:] // chunk == seen[:-1] // chunk) < 0.4


def test_seeds_and_epochs_give_different_orders() -> None:
    orders = [Order(500, seed).indices(0, 1000) for seed in range(5)]
    halves = {tuple(order[:500]) for order in orders} | {tuple(order[500:]) for order in orders}
    assert len(halves) == 10


def test_permutations_are_even() -> None:
    # 6 permutations of 3 over 6000 counters: each 1000 +- 5 sigma (sigma = 28.9).
    found = [tuple(permutation(3, 7, counter)) for counter in range(6000)]
    counts = [found.count(one) for one in set(found)]
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts) < 145


def test_without_shuffle_the_order_is_the_index() -> None:
    assert Order(4, shuffle=False).indices(2, 9).tolist() == [2, 3, 0, 1, 2, 3, 0]


def test_a_large_dataset_is_entered_anywhere() -> None:
    order = Order(10_000_000, 1)
    assert len(set(order.indices(9_999_000, 10_001_000).tolist())) >= 1990


@pytest.mark.parametrize("arguments", [(0,), (5, 0, 0), (5, 0, 1, 0)])
def test_impossible_orders_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Order(*arguments)
    with pytest.raises(UsageError, match="no range"):
        Order(5).indices(-1, 3)
