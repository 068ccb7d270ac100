"""Splits of one scene into spatial blocks, three ways."""

from collections.abc import Sequence

import numpy as np

SPLITS = ("train", "val", "test")


def block_split(
    counts: np.ndarray,
    shares: Sequence[float] = (0.5, 0.2, 0.3),
    *,
    candidates: int = 4000,
    seed: int = 0,
) -> np.ndarray:
    """Assign blocks to train, val and test so that every class is spread as the shares ask.

    Labels in space are clumped: a plain random draw of blocks often leaves a class without a test
    or a training pixel. So `candidates` seeded draws are compared, and the one is taken whose
    worst departure from the shares, averaged over classes, is smallest, after the number of
    (class, split) pairs with no pixel at all. The criterion reads labels only, never pixels or
    scores.

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
    best: tuple[float, np.ndarray] | None = None
    for candidate in range(candidates):
        generator = np.random.default_rng([seed, candidate])
        draw = generator.choice(len(SPLITS), size=len(counts), p=shares)
        spread = np.stack([counts[draw == split].sum(axis=0) for split in range(3)]) / total
        cost = np.abs(spread - np.asarray(shares)[:, None]).max(axis=0).mean()
        cost += float((spread == 0).sum())
        if best is None or cost < best[0]:
            best = (float(cost), draw)
    assert best is not None
    return best[1]
