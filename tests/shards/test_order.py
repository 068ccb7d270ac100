import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fm.errors import UsageError
from shards.ordering import order as order_module
from shards.ordering.order import LISTED, Feistel, Order, drawn, permutation
from shards.reading.plan import Share

sizes = st.integers(1, 700)
seeds = st.integers(0, 2**63 - 1)


@pytest.fixture(params=["listed", "computed"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with chunks kept as a list, and again with chunks computed as in huge datasets."""
    monkeypatch.setattr(order_module, "LISTED", LISTED if request.param == "listed" else 0)
    return request.param


def properties(examples: int):
    fixtures = [HealthCheck.function_scoped_fixture]
    return settings(max_examples=examples, deadline=None, suppress_health_check=fixtures)


def test_runs_can_go_on_after_an_upgrade() -> None:
    # The sequence of the first release. It never changes: runs are resumed by position alone.
    assert Order(1000, 7).indices(0, 8).tolist() == [896, 999, 451, 394, 432, 121, 407, 87]
    found = hashlib.sha256()
    for count in (1, 64, 65, 5000, 123_457, 10_000_000):
        for epoch in (0, 3):
            order = Order(count, 7, epoch=epoch)
            start = 2 * count - 3 if count > 3 else 0
            found.update(order.indices(start, 2 * count + 300).astype("<i8").tobytes())
    assert found.hexdigest() == "e8bbbe9edc4c8ba0b1c55bbd8f3f39ac1f7090d70f438af3434a2caa4fb11444"


@given(count=sizes, seed=seeds, epoch=st.integers(0, 50), chunk=st.integers(1, 90))
@properties(60)
def test_each_epoch_is_a_permutation(
    chunks: str, count: int, seed: int, epoch: int, chunk: int
) -> None:
    order = Order(count, seed, chunk, window=100, epoch=epoch)
    for lap in range(2):
        seen = order.indices(lap * count, (lap + 1) * count)
        assert sorted(seen.tolist()) == list(range(count))
        assert set(order.epochs(lap * count, (lap + 1) * count)) == {epoch + lap}


@given(
    count=st.integers(20, 700),
    seed=seeds,
    start=st.integers(0, 2000),
    length=st.integers(0, 500),
    replacement=st.booleans(),
)
@properties(60)
def test_any_range_is_a_slice_of_the_stream(
    chunks: str, count: int, seed: int, start: int, length: int, replacement: bool
) -> None:
    orders = [Order(count, seed, 16, 100, replacement=replacement) for _ in range(2)]
    whole = orders[0].indices(0, start + length)
    assert np.array_equal(orders[1].indices(start, start + length), whole[start:])


@given(count=st.integers(60, 700), seed=seeds, cuts=st.lists(st.integers(0, 1500), max_size=12))
@properties(40)
def test_how_a_range_is_cut_changes_nothing(
    chunks: str, count: int, seed: int, cuts: list[int]
) -> None:
    order, ends = Order(count, seed, 16, 100), [0, *sorted(cuts), 1600]
    pieces = [order.indices(ends[k], ends[k + 1]) for k in range(len(ends) - 1)]
    assert np.array_equal(np.concatenate(pieces), Order(count, seed, 16, 100).indices(0, 1600))


@given(count=sizes, seed=seeds, epoch=st.integers(0, 9), replacement=st.booleans())
@properties(30)
def test_an_epoch_does_not_depend_on_where_the_stream_began(
    chunks: str, count: int, seed: int, epoch: int, replacement: bool
) -> None:
    late = Order(count, seed, epoch=epoch, replacement=replacement).indices(0, count)
    early = Order(count, seed, replacement=replacement).indices(epoch * count, (epoch + 1) * count)
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
    ranges = [Share(batch, rank, world, position).range(step) for rank in range(world)]
    joined = [place for start, stop in ranges for place in range(start, stop)]
    begin = position + step * batch
    assert joined == list(range(begin, begin + batch))
    lengths = [stop - start for start, stop in ranges]
    assert max(lengths) - min(lengths) <= 1


@given(
    count=st.integers(1, 1000),
    seed=seeds,
    chunk=st.integers(1, 70),
    window=st.integers(8, 300),
)
@example(count=129, seed=4, chunk=64, window=128)  # the short chunk in the middle of a window
@properties(40)
def test_reading_is_local(chunks: str, count: int, seed: int, chunk: int, window: int) -> None:
    seen = Order(count, seed, chunk, window).indices(0, count) // chunk
    for start in range(0, count, window):
        touched = len(set(seen[start : start + window].tolist()))
        assert touched <= -(-window // chunk) + 2
    if chunk <= window:
        windows = np.arange(count) // window
        for number in set(seen.tolist()):
            assert np.ptp(windows[seen == number]) <= 1


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


@given(count=st.integers(1, 3000), seed=seeds)
@settings(max_examples=40, deadline=None)
def test_the_network_is_a_permutation_and_its_inverse(count: int, seed: int) -> None:
    network, numbers = Feistel(count, seed, 3), np.arange(count)
    places = network.forward(numbers)
    assert np.array_equal(np.sort(places), numbers)
    assert np.array_equal(network.backward(places), numbers)


def test_permutations_by_the_network_are_even() -> None:
    # Places of neighbours are independent: over 25 pairs of fifths of the range, each N/25 +- 5
    # sigma; and over keys, the place of one number falls into each fifth equally often.
    count, keys = LISTED + 7, 1000
    fifths = Feistel(count, 1).forward(np.arange(count)) * 5 // count
    pairs = np.bincount(fifths[1:] * 5 + fifths[:-1], minlength=25)
    assert np.abs(pairs - count / 25).max() < 5 * np.sqrt(count / 25 * 24 / 25)
    first = [int(Feistel(count, key).forward(np.array([9]))[0]) * 5 // count for key in range(keys)]
    found = np.bincount(first, minlength=5)
    assert np.abs(found - keys / 5).max() < 5 * np.sqrt(keys / 5 * 4 / 5)


@pytest.mark.parametrize("count", [10_000_000, 16_777_216, 16_777_217, 10**9])
def test_a_large_dataset_is_entered_anywhere(count: int) -> None:
    for position in (0, count // 2, 3 * count - 1000):
        tracemalloc.start()
        order = Order(count, 1)
        seen = order.indices(position, position + 2000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * min(4 * count / 64, 4 * LISTED) + 2**20  # two epochs: lists and ranks
        assert len(set(seen.tolist())) >= 1990
        assert seen.min() >= 0
        assert seen.max() < count
        # 1000 of the 4096 positions of a window hold nearly all of its 65 chunks
        assert len(set((seen[1000:] // 64).tolist())) > 40


@given(count=st.integers(1, 2**62), seed=seeds, start=st.integers(0, 2**60))
@settings(max_examples=40, deadline=None)
def test_draws_stay_inside(count: int, seed: int, start: int) -> None:
    seen = Order(count, seed, replacement=True).indices(start, start + 64)
    assert seen.min() >= 0
    assert seen.max() < count


def test_every_sample_is_drawn_equally_often() -> None:
    # 7 samples, 70 000 positions: 10 000 +- 5 sigma (sigma = 92.6). Independent neighbours: 49
    # pairs, 1428.6 +- 5 * 37.4.
    seen = Order(7, 3, replacement=True).indices(0, 70_000)
    assert np.abs(np.bincount(seen, minlength=7) - 10_000).max() < 463
    pairs = np.bincount(seen[1:] * 7 + seen[:-1], minlength=49)
    assert np.abs(pairs - 70_000 / 49).max() < 187


def test_small_numbers_are_not_favoured() -> None:
    # 2**64 = 2 * (3 * 2**61) + 2**62: taken modulo 3 * 2**61, numbers below 2**62 would have three
    # hashes each and come with probability 3/4 instead of 2/3.
    seen = drawn(3 * 2**61, np.arange(30_000), 5)
    share = float((seen < 2**62).mean())
    assert abs(share - 2 / 3) < 5 * np.sqrt(2 / 9 / 30_000)


@pytest.mark.parametrize("arguments", [(0,), (5, 0, 0), (5, 0, 1, 0)])
def test_impossible_orders_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Order(*arguments)
    with pytest.raises(UsageError, match="no range"):
        Order(5).indices(-1, 3)
    with pytest.raises(UsageError, match="replacement"):
        Order(5, shuffle=False, replacement=True)
