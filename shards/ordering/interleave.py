"""Which of several streams stands at a position, dealt by weight without a replay.

The stream of a mixture is cut into blocks, each from one part. A cycle of blocks holds every part
exactly as often as its weight asks; within a cycle the blocks are permuted by a hash of (seed,
cycle). So which part stands at a position, and at which place of its own stream, is computed.
"""

from collections.abc import Sequence

import numpy as np

from fm.errors import UsageError
from fm.splitmix import splitmix64
from shards.ordering.order import hashed

LONGEST = 4096
"""Most blocks of a cycle; weights that need more are rounded to this many parts of the whole."""
_EXACT = 1e-9
_PURPOSE = 5
_AT_ONCE = 2**18


class Interleave:
    """Which part stands at each position of a mixture, and at which place of its own stream.

    Over the first n positions a part of weight w comes n * w times, give or take `bound` of them
    at most.

    Args:
        weights: one a part, above 0; only their ratios matter. If they are multiples of a common
            fraction down to 1/4096 (within 1e-9), they are kept exactly; else each is rounded to a
            multiple of 1/4096 that is at least 1/4096.
        seed: any integer.
        block: consecutive positions that come from one part.

    Attributes:
        weights: those that are realised, float64 `[parts]`, summing to 1.
        quotas: blocks of each part in a cycle, int64 `[parts]`.
        exact: whether the realised weights are those asked for.
        cycle: blocks in a cycle.
        bound: largest deviation of each part's count, in positions, float64 `[parts]`:
            block * cycle * w * (1 - w), reached when a cycle deals all blocks of the part first.

    Raises:
        UsageError: no weight, one that is not above 0, more parts than blocks in the longest
            cycle, or a block below 1.
    """

    def __init__(self, weights: Sequence[float], seed: int = 0, block: int = 1) -> None:
        asked = np.asarray(weights, np.float64)
        if asked.ndim != 1 or not 1 <= len(asked) <= LONGEST:
            raise UsageError(f"a mixture has 1 to {LONGEST} parts, each with a weight")
        if not (np.isfinite(asked) & (asked > 0)).all():
            raise UsageError(f"weights {asked.tolist()}: every weight is a number above 0")
        if block < 1:
            raise UsageError(f"block={block}: a block holds at least 1 position")
        self.seed, self.block = int(seed), int(block)
        self.quotas, self.exact = _quotas(asked / asked.sum())
        self.cycle = int(self.quotas.sum())
        self.weights = self.quotas / self.cycle
        self.bound = self.block * self.cycle * self.weights * (1 - self.weights)
        self._dealt = np.repeat(np.arange(len(asked)), self.quotas)
        self._rank = np.concatenate([np.arange(quota) for quota in self.quotas])
        self._hashes = splitmix64(np.arange(self.cycle, dtype=np.uint64))

    def locate(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the part and the place in it of each position in `[start, stop)`.

        Returns:
            part numbers and places in the parts' own streams, int64 `[stop - start]` each. The
            places of a part count 0, 1, 2, ... without a gap along the mixture.

        Raises:
            UsageError: not a range of positions.
        """
        if not 0 <= start <= stop:
            raise UsageError(f"positions [{start}, {stop}) are no range; a position is at least 0")
        parts, places = np.empty(stop - start, np.int64), np.empty(stop - start, np.int64)
        most = max(1, _AT_ONCE // self.cycle) * self.cycle * self.block
        for first in range(start, stop, most):
            last = min(first + most, stop)
            blocks, within = np.divmod(np.arange(first, last, dtype=np.int64), self.block)
            span = slice(first - start, last - start)
            parts[span], at = self._blocks(blocks)
            places[span] = at * self.block + within
        return parts, places

    def counts(self, position: int) -> np.ndarray:
        """Return how many of the first `position` positions each part has, int64 `[parts]`."""
        if position < 0:
            raise UsageError(f"position {position} must be at least 0")
        blocks, within = divmod(position, self.block)
        cycle, done = divmod(blocks, self.cycle)
        parts = self._dealt[self._permutations(np.array([cycle]))[0]]
        counts = cycle * self.quotas + np.bincount(parts[:done], minlength=len(self.quotas))
        counts *= self.block
        counts[parts[done]] += within
        return counts

    def _blocks(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Part of each block (numbers that rise) and its number among the blocks of that part."""
        cycles, slots = np.divmod(blocks, self.cycle)
        first = cycles[0]
        deals = self._permutations(np.arange(first, cycles[-1] + 1))
        parts = self._dealt[deals]
        # Number of the block among those of its part in its cycle: by position, not by deal.
        order = np.argsort(parts, axis=1, kind="stable")
        among = np.empty_like(order)
        np.put_along_axis(among, order, np.broadcast_to(self._rank, order.shape), axis=1)
        part = parts[cycles - first, slots]
        return part, cycles * self.quotas[part] + among[cycles - first, slots]

    def _permutations(self, cycles: np.ndarray) -> np.ndarray:
        """A permutation of the blocks for each cycle, `[cycles, blocks]`."""
        state = splitmix64(hashed(self.seed, _PURPOSE) ^ splitmix64(cycles.astype(np.uint64)))
        return np.argsort(splitmix64(state[:, None] ^ self._hashes), axis=1)


def _quotas(shares: np.ndarray) -> tuple[np.ndarray, bool]:
    """Whole numbers in the ratio of the shares, and whether the ratio is exact."""
    lengths = np.arange(len(shares), LONGEST + 1)[:, None]
    whole = np.rint(shares * lengths)
    good = (np.abs(shares * lengths - whole) <= _EXACT * lengths) & (whole >= 1)
    if len(found := np.flatnonzero(good.all(axis=1))):
        return whole[found[0]].astype(np.int64), True
    # Largest remainders, after every part has got one.
    quotas = np.maximum(1, np.floor(shares * LONGEST)).astype(np.int64)
    while (left := LONGEST - int(quotas.sum())) != 0:
        error = shares * LONGEST - quotas
        error[quotas + np.sign(left) < 1] = np.inf
        quotas[np.argmax(error) if left > 0 else np.argmin(error)] += np.sign(left)
    return quotas, False
