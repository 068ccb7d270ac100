"""Missing pixels and copies, against plain definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.building.copies import (
    NEAR_BITS,
    content_hash,
    first_equal,
    near_equal,
    perceptual_hash,
    valid_elements,
    valid_fraction,
)


def scene(seed: int, size: int = 64, bands: int = 3) -> np.ndarray:
    """Return a picture with structure on several scales."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size))
    for cells in (2, 4, 8, 16):
        field = rng.normal(size=(cells, cells))
        total += np.kron(field, np.ones((size // cells, size // cells)))
    return (1500 + 200 * total + 50 * np.arange(bands)[:, None, None]).astype(np.uint16)


def test_an_integer_is_valid_unless_it_is_its_band_s_number() -> None:
    array = np.array([[[0, 1]], [[0, 2]], [[9, 3]]], np.uint16)
    valid = valid_elements(array, (0, None, 9))
    assert valid.tolist() == [[[False, True]], [[True, True]], [[False, True]]]
    series = np.stack([array, array + 1])
    assert valid_elements(series, (0, None, 9))[0].tolist() == valid.tolist()
    assert valid_elements(series, (0, None, 9))[1].all()
    assert valid_elements(array, None) is None
    assert valid_elements(array, (7, None, None)) is None


def test_a_float_is_valid_when_it_is_finite() -> None:
    array = np.array([[[np.nan, 0.0, np.inf]]], np.float32)
    assert valid_elements(array, None).tolist() == [[[False, True, False]]]
    assert valid_elements(np.zeros((1, 2, 2), np.float32), None) is None


def test_the_fraction_counts_pixels_with_every_band_in_the_worst_modality() -> None:
    a = np.ones((2, 2, 4, 4), bool)  # two dates, two bands
    a[0, 0, 0] = False  # four pixels of 32
    b = np.ones((2, 2, 2), bool)
    b[0, 0, 0] = b[1, 0, 1] = False  # other bands of two of four pixels
    assert valid_fraction({"a": a}) == 28 / 32
    assert valid_fraction({"a": a, "b": b}) == 0.5
    assert valid_fraction({"a": None}) == 1.0


def test_the_content_is_pixels_type_shape_and_name() -> None:
    array = scene(0)
    same = content_hash({"b": array, "a": array[:1]})
    assert content_hash({"a": array[:1].copy(), "b": np.asfortranarray(array)}) == same
    other = array.copy()
    other[0, 0, 0] ^= 1
    for changed in (
        {"b": other, "a": array[:1]},
        {"b": array.astype(np.int16), "a": array[:1]},
        {"b": array.reshape(3, 32, 128), "a": array[:1]},
        {"c": array, "a": array[:1]},
    ):
        assert content_hash(changed) != same


def distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_a_picture_s_hash_bears_noise_scale_and_gaps_but_not_another_picture() -> None:
    rng = np.random.default_rng(1)
    hashes = [perceptual_hash(scene(k), None) for k in range(40)]
    assert all(h.bit_count() == 31 and h < 2**63 for h in hashes)
    for k, plain in enumerate(hashes):
        noisy = scene(k) + rng.integers(0, 20, (3, 64, 64)).astype(np.uint16)
        assert distance(perceptual_hash(noisy, None), plain) <= NEAR_BITS
        physical = scene(k).astype(np.float64) * 1e-4 - 0.1
        assert distance(perceptual_hash(physical, None), plain) <= 2  # rounding about the median
        gap = np.ones((3, 64, 64), bool)
        gap[:, 10:12, 30:32] = False
        holed = np.where(gap, scene(k), 0).astype(np.uint16)
        assert distance(perceptual_hash(holed, gap), plain) <= NEAR_BITS
    apart = [distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > NEAR_BITS


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 7), (2, 3, 40, 33), (1, 100, 16)])
def test_any_size_has_a_hash_and_flat_pictures_have_none(shape: tuple[int, ...]) -> None:
    for value in (0, 1000):
        assert perceptual_hash(np.full(shape, value, np.uint16), None) == 0
        assert perceptual_hash(np.full(shape, value / 7, np.float32), None) == 0
    assert perceptual_hash(np.ones(shape, np.uint16), np.zeros(shape, bool)) == 0
    drawn = np.random.default_rng(0).integers(1, 99, shape).astype(np.int16)
    assert (perceptual_hash(drawn, None) != 0) == (drawn.size > 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_first_equal_is_the_plain_search(pairs: list[tuple[int, int]]) -> None:
    numbers = np.array(pairs, np.uint64).reshape(-1, 2)
    found = first_equal(numbers[:, 0], numbers[:, 1])
    assert found.tolist() == [pairs.index(pair) for pair in pairs]


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_near_equal_is_the_plain_search(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(1, 2**63, count, dtype=np.uint64)
    hashes[rng.random(count) < 0.1] = 0
    for at in range(1, count):  # every other one is an earlier one with some bits changed
        if rng.random() < 0.5 and hashes[at // 2]:
            flips = rng.choice(63, rng.integers(0, 8), replace=False)
            hashes[at] = int(hashes[at // 2]) ^ sum(1 << int(bit) for bit in flips)
    places = np.sort(rng.choice(1000, count, replace=False))
    numbers = [int(h) for h in hashes]
    want = [
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if numbers[i] and numbers[j] and distance(numbers[i], numbers[j]) <= NEAR_BITS
    ]
    found = near_equal(hashes, places)
    assert found.count == len({k for pair in want for k in pair})
    named = {(int(places[i]), int(places[j])) for i, j in want}
    assert set(found.pairs) <= named
    assert bool(found.pairs) == bool(want)
