"""Splits of one scene into spatial blocks, three ways."""

from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "val", "test")


def block_split(
    counts: np.ndarray,
    shares: Sequence[float] = (0.5, 0.2, 0.3),
    *,
    candidates: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Assign blocks to train, val and test so that every class is spread as the shares ask.

    Labels in space are clumped: a plain random draw of blocks often leaves a class without a test
    or a training pixel. So the best of `candidates` seeded draws is taken, and single blocks are
    moved while that helps. Best is: fewest (class, split) pairs without a pixel, then the smallest
    worst departure from the shares, averaged over classes. The criterion reads labels only, never
    pixels or scores.

    Args:
        counts: `[blocks, classes]` labelled pixels of each class that must be spread.
        shares: of train, val and test; they sum to 1.
        candidates: draws to compare.
        seed: of the draws.

    Returns:
        `[blocks]` int64: 0 train, 1 val, 2 test.
    """
    counts = np.asarray(counts, dtype=np.int64)
    total = counts.sum(axis=0)
    if not (total > 0).all():
        raise ValueError("every class must have a pixel somewhere")

    def cost(draw: np.ndarray) -> float:
        spread = np.stack([counts[draw == split].sum(axis=0) for split in range(3)]) / total
        departure = np.abs(spread - np.asarray(shares)[:, None]).max(axis=0).mean()
        return float(departure + (spread == 0).sum())

    generator = np.random.default_rng(seed)
    draws = generator.choice(len(SPLITS), size=(candidates, len(counts)), p=shares)
    best = min(draws, key=cost)
    lowest, improved = cost(best), True
    while improved:
        improved = False
        for block in range(len(counts)):
            for split in range(len(SPLITS)):
                moved = best.copy()
                moved[block] = split
                if cost(moved) < lowest:
                    best, lowest, improved = moved, cost(moved), True
    return best
