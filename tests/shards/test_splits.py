"""Three-way splits by blocks."""

import numpy as np
import pytest

from shards.splits import block_split


def clumped(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.poisson(3, (60, 8)) * (generator.random((60, 8)) < 0.25)


def test_every_class_gets_its_shares_and_the_draw_is_fixed() -> None:
    counts = clumped()
    split = block_split(counts, candidates=100)
    spread = np.stack([counts[split == s].sum(axis=0) for s in range(3)]) / counts.sum(axis=0)
    assert (spread > 0).all()
    assert np.abs(spread.mean(axis=1) - [0.5, 0.2, 0.3]).max() < 0.1
    assert np.array_equal(split, block_split(counts, candidates=100))
    assert not np.array_equal(split, block_split(counts, candidates=100, seed=1))


def test_the_search_beats_a_plain_draw() -> None:
    counts = clumped(1)

    def cost(split: np.ndarray) -> float:
        spread = np.stack([counts[split == s].sum(axis=0) for s in range(3)]) / counts.sum(axis=0)
        worst = np.abs(spread - np.array([[0.5], [0.2], [0.3]])).max(axis=0).mean()
        return worst + (spread == 0).sum()

    plain = np.random.default_rng(5).choice(3, size=len(counts), p=[0.5, 0.2, 0.3])
    assert cost(block_split(counts, candidates=20)) < 0.5 * cost(plain)


def test_a_class_without_pixels_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="pixel somewhere"):
        block_split(np.zeros((4, 2)))
