"""What can be said of samples before anybody trains on them: missing pixels and copies.

An exact copy has the same decoded pixels in every modality (xxh3-128). A near copy looks the same
from afar: its 63-bit perceptual hash (the signs of the low frequencies of a 32 x 32 thumbnail
about their median, as in Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
Functions") differs in at most `NEAR_BITS` bits. Exact copies can be dropped; near ones are a
report, since two dates of one field may look alike and be what the user wants.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash

NEAR_BITS = 4
"""Bits in which the perceptual hashes of near copies may differ."""
WINDOW = 256
"""Neighbours a hash is compared with in each of the sorted orders; more are not looked at."""
EXAMPLES = 10
"""Pairs of near copies that are named."""
_SIDE, _KEPT = 32, 8
_HASH_BITS = _KEPT * _KEPT - 1
_DCT = np.cos(np.pi * np.outer(np.arange(_KEPT), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE))


def valid_elements(array: np.ndarray, nodata: Sequence[int | None] | None) -> np.ndarray | None:
    """Say which elements of a modality hold data.

    Args:
        array: `[C, H, W]` or `[T, C, H, W]` as stored.
        nodata: for integers, the number of each band that means "no data".

    Returns:
        bool of the array's shape, or None when every element is valid.
    """
    if array.dtype.kind == "f":
        valid = np.isfinite(array)
    elif nodata is None:
        return None
    else:
        valid = np.ones(array.shape, bool)
        for band, number in enumerate(nodata):
            if number is not None:
                np.not_equal(array[..., band, :, :], number, out=valid[..., band, :, :])
    return None if valid.all() else valid


def valid_fraction(valid: Mapping[str, np.ndarray | None]) -> float:
    """Return the share of pixels with data in every band, of the modality where it is smallest.

    Args:
        valid: what `valid_elements` gave, by modality.
    """
    shares = [1.0 if one is None else float(one.all(axis=-3).mean()) for one in valid.values()]
    return min(shares, default=1.0)


def content_hash(arrays: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Return the two halves of the xxh3-128 of all pixels with their names, types and shapes."""
    digest = xxhash.xxh3_128()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], arrays[name].dtype.newbyteorder("<"))
        digest.update(f"{name} {array.dtype.name} {array.shape};".encode())
        digest.update(array.data)
    number = digest.intdigest()
    return number >> 64, number & (2**64 - 1)


def perceptual_hash(array: np.ndarray, valid: np.ndarray | None) -> int:
    """Hash what a modality looks like from afar; scale and offset of the values do not matter.

    Args:
        array: `[C, H, W]` or `[T, C, H, W]`.
        valid: what `valid_elements` gave.

    Returns:
        63 bits, 31 of them set; 0 for a picture without structure, which resembles every other.
    """
    height, width = array.shape[-2:]
    exact = np.float64 if array.dtype.kind == "f" else np.int64
    flat = array.reshape(-1, height, width)
    if valid is None:
        total = flat.sum(axis=0, dtype=exact)
        count = np.full((height, width), len(flat), np.int64)
    else:
        mask = valid.reshape(flat.shape)
        total = np.where(mask, flat, flat.dtype.type(0)).sum(axis=0, dtype=exact)
        count = mask.sum(axis=0, dtype=np.int64)
    total, count = _blocks(total), _blocks(count)
    if not count.any():
        return 0
    known = count > 0
    small = np.divide(total, count, out=np.zeros(total.shape), where=known)
    small = np.where(known, small - small[known].mean(), 0.0)
    if np.abs(small).max() <= 1e-9 * np.abs(total[known] / count[known]).max():
        return 0
    # einsum and not BLAS: the same bits whatever the number of threads
    waves = np.einsum("kn,nl->kl", np.einsum("kn,nm->km", _DCT, small), _DCT.T).ravel()[1:]
    bits = np.packbits(waves > np.median(waves)).tobytes()
    return int.from_bytes(bits, "big") >> 1


def _blocks(values: np.ndarray) -> np.ndarray:
    rows, columns = ((np.arange(_SIDE) * size) // _SIDE for size in values.shape)
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)


def first_equal(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Find for each of many 128-bit hashes the first place where it stands.

    Args:
        high: uint64 `[N]`.
        low: uint64 `[N]`.

    Returns:
        int64 `[N]`; its own place for a hash that has not come before. About 40 bytes a hash.
    """
    order = np.lexsort((low, high))  # stable: equal hashes stay in their order
    starts = np.ones(len(order), bool)
    starts[1:] = (high[order[1:]] != high[order[:-1]]) | (low[order[1:]] != low[order[:-1]])
    first = np.empty(len(order), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    return first


@dataclass(frozen=True)
class Near:
    """Near copies.

    Attributes:
        count: samples that have a near copy.
        pairs: some of them, `(earlier, later)` places.
    """

    count: int
    pairs: tuple[tuple[int, int], ...]


def near_equal(hashes: np.ndarray, places: np.ndarray) -> Near:
    """Find perceptual hashes that differ in at most `NEAR_BITS` bits.

    Two such hashes agree in at least one of `NEAR_BITS + 1` runs of bits. For each run the hashes
    are sorted with that run in front, and each is compared with the `WINDOW` next ones while the
    run agrees; where more agree, the count is a lower bound.

    Args:
        hashes: uint64 `[n]`, 0 for none, of samples whose pixels differ.
        places: int64 `[n]`, their places, rising.
    """
    structured = hashes != 0
    hashes, places = hashes[structured], places[structured]
    unique, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    near = counts > 1
    pairs: set[tuple[int, int]] = set()
    for k in np.flatnonzero(near)[:EXAMPLES]:
        one, other = places[np.flatnonzero(hashes == unique[k])[:2]].tolist()
        pairs.add((one, other))
    for run in range(NEAR_BITS + 1):
        start = run * _HASH_BITS // (NEAR_BITS + 1)
        stop = (run + 1) * _HASH_BITS // (NEAR_BITS + 1)
        turned = (unique << np.uint64(64 - stop)) | (unique >> np.uint64(stop))
        order = np.argsort(turned)
        turned = turned[order]
        front = turned >> np.uint64(64 - (stop - start))
        for step in range(1, min(WINDOW, len(turned) - 1) + 1):
            same = np.flatnonzero(front[step:] == front[:-step])
            if not same.size:
                break
            apart = np.bitwise_count(turned[same] ^ turned[same + step])
            close = same[apart <= NEAR_BITS]
            near[order[close]] = near[order[close + step]] = True
            for at in close[: max(0, EXAMPLES - len(pairs))]:
                one, other = places[first[order[[at, at + step]]]].tolist()
                pairs.add((min(one, other), max(one, other)))
    return Near(int(counts[near].sum()), tuple(sorted(pairs)[:EXAMPLES]))
