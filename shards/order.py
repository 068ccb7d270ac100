"""The order of samples: a pure function of (number of samples, seed, epoch), nothing else.

Chunks of consecutive samples are permuted for each epoch, laid end to end, and shuffled inside
windows of bounded length. Neighbours on disk stay near each other in time, so reading stays local;
a batch still mixes many chunks. All random numbers are a hash of counters (splitmix64; Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), so any position is found
without a replay, on any number of ranks and threads and on any machine.
"""

import functools

import numpy as np

from fm.errors import UsageError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_CHUNKS, _WINDOW = 1, 2


def splitmix64(values: np.ndarray) -> np.ndarray:
    """Return the splitmix64 output function of each uint64."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def permutation(count: int, *counters: int) -> np.ndarray:
    """Return a permutation of `range(count)` that is a hash of the counters, int64."""
    state = np.zeros(1, np.uint64)
    for counter in counters:
        state = splitmix64(state ^ np.uint64(counter % 2**64))
    rank = splitmix64(state ^ splitmix64(np.arange(count, dtype=np.uint64)))
    return np.argsort(rank, kind="stable")


class Order:
    """A stream of sample numbers that goes on from epoch to epoch.

    Args:
        count: samples in the dataset.
        seed: any integer.
        chunk: consecutive samples that are moved together.
        window: positions that are shuffled among each other.
        epoch: the epoch in which position 0 stands.
        shuffle: false gives 0, 1, 2, ... in each epoch.
    """

    def __init__(
        self,
        count: int,
        seed: int = 0,
        chunk: int = 64,
        window: int = 4096,
        *,
        epoch: int = 0,
        shuffle: bool = True,
    ) -> None:
        if min(count, chunk, window) < 1 or epoch < 0:
            raise UsageError(
                f"order of {count} samples, chunk {chunk}, window {window}, epoch {epoch}: the "
                "first three must be at least 1, the epoch at least 0"
            )
        self.count, self.seed, self.chunk, self.window = count, int(seed), chunk, window
        self.epoch, self.shuffle = epoch, shuffle
        # The last two epochs and windows: a batch may straddle a border.
        self._starts = functools.lru_cache(2)(self._chunk_starts)
        self._shuffled = functools.lru_cache(4)(self._shuffled_window)

    def epochs(self, start: int, stop: int) -> np.ndarray:
        """Return the epoch of each position in `[start, stop)`, int64."""
        return self.epoch + np.arange(start, stop, dtype=np.int64) // self.count

    def indices(self, start: int, stop: int) -> np.ndarray:
        """Return the sample number at each position in `[start, stop)`, int64."""
        if not 0 <= start <= stop:
            raise UsageError(f"positions [{start}, {stop}) are no range; a position is at least 0")
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

    def _chunk_starts(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Chunk numbers in the order of an epoch and the position at which each begins."""
        chunks = permutation(-(-self.count // self.chunk), self.seed, epoch, _CHUNKS)
        sizes = np.minimum(self.chunk, self.count - chunks * self.chunk)
        return chunks, np.cumsum(sizes) - sizes

    def _shuffled_window(self, epoch: int, number: int) -> np.ndarray:
        first = number * self.window
        positions = np.arange(first, min(first + self.window, self.count))
        chunks, starts = self._starts(epoch)
        places = np.searchsorted(starts, positions, side="right") - 1
        samples = chunks[places] * self.chunk + positions - starts[places]
        return samples[permutation(len(samples), self.seed, epoch, _WINDOW, number)]
