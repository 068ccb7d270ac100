"""The order of samples: a pure function of (number of samples, seed, epoch), nothing else.

Chunks of consecutive samples are permuted for each epoch, laid end to end, and shuffled inside
windows of bounded length. Neighbours on disk stay near each other in time, so reading stays local;
a batch still mixes many chunks. All random numbers are a hash of counters (`fm.splitmix`), so any
position is found without a replay, on any number of ranks and threads and on any machine.

Up to `LISTED` chunks their order is a sorted list of hashes; above, a Feistel network computes the
chunk at each place, so a position is found in constant time and memory at any size.
"""

import functools
from collections.abc import Callable

import numpy as np

from fm.errors import UsageError
from fm.splitmix import splitmix64

_CHUNKS, _WINDOW, _FEISTEL, _DRAW = 1, 2, 3, 4
LISTED = 2**18
"""Most chunks whose order is kept as a list: 16.8 million samples with chunks of 64."""
WINDOW = 4096
"""Positions that are shuffled among each other, unless another number is given."""
_ROUNDS = 8


def hashed(*counters: int) -> np.uint64:
    """Return one 64-bit hash of integers in their order (each is taken modulo 2**64)."""
    state = np.zeros(1, np.uint64)
    for counter in counters:
        state = splitmix64(state ^ np.uint64(counter % 2**64))
    return state[0]


def permutation(count: int, *counters: int) -> np.ndarray:
    """Return a permutation of `range(count)` that is a hash of the counters, int64."""
    rank = splitmix64(hashed(*counters) ^ splitmix64(np.arange(count, dtype=np.uint64)))
    return np.argsort(rank)  # splitmix64 is one to one: no ties, so any sort gives the same


def drawn(count: int, places: np.ndarray, *counters: int) -> np.ndarray:
    """Draw from `range(count)` at each place, every number equally likely, int64.

    A draw is the hash of (counters, place) modulo `count`; hashes in the last, incomplete run of
    `count` numbers below 2**64 are drawn again, or small numbers would come too often.
    """
    state, span = hashed(*counters), np.uint64(count)
    last = np.uint64(2**64 // count * count - 1)
    bits = splitmix64(state ^ splitmix64(places.astype(np.uint64)))
    while (again := bits > last).any():
        bits[again] = splitmix64(bits[again])
    return (bits % span).astype(np.int64)


class Feistel:
    """A permutation of `range(count)` computed number by number, without a list.

    A Feistel network of alternating halves on the fewest bits that hold `count` (Luby and Rackoff,
    "How to construct pseudorandom permutations", SIAM J. Comput. 17, 1988); a result outside of
    the range goes through again until it is inside (cycle walking; Black and Rogaway, "Ciphers
    with arbitrary finite domains", CT-RSA 2002).

    Args:
        count: numbers that are permuted, at least 1.
        counters: the permutation is a hash of them.
    """

    def __init__(self, count: int, *counters: int) -> None:
        bits = max(2, (count - 1).bit_length())
        self._count = count
        self._low = np.uint64(bits // 2)
        self._masks = np.uint64(2 ** (bits // 2) - 1), np.uint64(2 ** (bits - bits // 2) - 1)
        self._keys = [hashed(*counters, number) for number in range(_ROUNDS)]

    def forward(self, numbers: np.ndarray) -> np.ndarray:
        """Return where each number goes, int64."""
        return self._walk(numbers, range(_ROUNDS))

    def backward(self, numbers: np.ndarray) -> np.ndarray:
        """Return the number that went to each place, int64."""
        return self._walk(numbers, range(_ROUNDS - 1, -1, -1))

    def _walk(self, numbers: np.ndarray, rounds: range) -> np.ndarray:
        result = self._once(np.asarray(numbers).astype(np.uint64), rounds)
        while (outside := result >= np.uint64(self._count)).any():
            result[outside] = self._once(result[outside], rounds)
        return result.astype(np.int64)

    def _once(self, numbers: np.ndarray, rounds: range) -> np.ndarray:
        halves = [numbers & self._masks[0], numbers >> self._low]
        for number in rounds:
            mixed = splitmix64(self._keys[number] ^ splitmix64(halves[1 - number % 2]))
            halves[number % 2] = halves[number % 2] ^ (mixed & self._masks[number % 2])
        return halves[0] | (halves[1] << self._low)


class _Chunks:
    """The chunks of one epoch laid end to end."""

    def __init__(self, count: int, chunk: int, seed: int, epoch: int) -> None:
        self._chunk, chunks = chunk, -(-count // chunk)
        self._at: Callable[[np.ndarray], np.ndarray]
        if chunks <= LISTED:
            listed = permutation(chunks, seed, epoch, _CHUNKS)
            self._at, short = listed.__getitem__, np.flatnonzero(listed == chunks - 1)
        else:
            network = Feistel(chunks, seed, epoch, _FEISTEL)
            self._at, short = network.forward, network.backward(np.array([chunks - 1]))
        # The last chunk of the dataset may be short: all that follow it begin that much earlier.
        self._missing = chunks * chunk - count
        self._end = (int(short[0]) + 1) * chunk - self._missing

    def samples(self, positions: np.ndarray) -> np.ndarray:
        """Return the sample at each position of the epoch, before windows are shuffled."""
        moved = positions + (positions >= self._end) * self._missing
        places, within = np.divmod(moved, self._chunk)
        return self._at(places) * self._chunk + within


class Order:
    """A stream of sample numbers that goes on from epoch to epoch.

    Locality: the samples of one window lie in at most `ceil(window / chunk) + 2` chunks, and the
    samples of one chunk (of at most a window) come within two windows that follow each other.

    Args:
        count: samples in the dataset.
        seed: any integer.
        chunk: consecutive samples that are moved together.
        window: positions that are shuffled among each other.
        epoch: the epoch in which position 0 stands.
        shuffle: false gives 0, 1, 2, ... in each epoch.
        replacement: draw every position from all samples, each equally likely; an epoch is then
            `count` positions in which some samples come several times and others not at all.
    """

    def __init__(
        self,
        count: int,
        seed: int = 0,
        chunk: int = 64,
        window: int = WINDOW,
        *,
        epoch: int = 0,
        shuffle: bool = True,
        replacement: bool = False,
    ) -> None:
        if replacement and not shuffle:
            raise UsageError("replacement=True draws at random; it cannot go with shuffle=False")
        if min(count, chunk, window) < 1 or epoch < 0:
            raise UsageError(
                f"order of {count} samples, chunk {chunk}, window {window}, epoch {epoch}: the "
                "first three must be at least 1, the epoch at least 0"
            )
        self.count, self.seed, self.chunk, self.window = count, int(seed), chunk, window
        self.epoch, self.shuffle, self.replacement = epoch, shuffle, replacement
        # The last two epochs and windows: a batch may straddle a border.
        self._laid = functools.lru_cache(2)(self._laid_chunks)
        self._shuffled = functools.lru_cache(4)(self._shuffled_window)

    def epochs(self, start: int, stop: int) -> np.ndarray:
        """Return the epoch of each position in `[start, stop)`, int64."""
        return self.epoch + np.arange(start, stop, dtype=np.int64) // self.count

    def indices(self, start: int, stop: int) -> np.ndarray:
        """Return the sample number at each position in `[start, stop)`, int64."""
        if not 0 <= start <= stop:
            raise UsageError(f"positions [{start}, {stop}) are no range; a position is at least 0")
        if self.replacement:
            places = np.arange(start, stop, dtype=np.int64) + self.epoch * self.count
            return drawn(self.count, places, self.seed, _DRAW)
        pieces = []
        while start < stop:
            lap, within = divmod(start, self.count)
            if not self.shuffle:
                end = min(self.count, within + stop - start)
                pieces.append(np.arange(within, end, dtype=np.int64))
            else:
                number, first = divmod(within, self.window)
                pieces.append(self._shuffled(self.epoch + lap, number)[first:][: stop - start])
            start += len(pieces[-1])
        return np.concatenate(pieces) if pieces else np.empty(0, np.int64)

    def _laid_chunks(self, epoch: int) -> _Chunks:
        return _Chunks(self.count, self.chunk, self.seed, epoch)

    def _shuffled_window(self, epoch: int, number: int) -> np.ndarray:
        first = number * self.window
        positions = np.arange(first, min(first + self.window, self.count))
        samples = self._laid(epoch).samples(positions)
        return samples[permutation(len(samples), self.seed, epoch, _WINDOW, number)]
