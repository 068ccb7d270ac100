"""Who trains and who is asked: three ways to divide places, each by a seed.

`random` leaves neighbours on both sides, so it measures interpolation between samples a few
kilometres apart. `blocks` keeps whole equal-area blocks of 500 km together; they touch, so places
near an edge have neighbours on the other side (docs/location-probes.md says how many).
`continents` asks on one continent after training on others, and chooses on a third, so that the
choice too is made for places far from those seen.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError, UsageError, suggest
from fm.geo import block_id

NAMES = ("random", "blocks", "continents")
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
BLOCK_KM = 500.0
HELD_OUT = ("Africa", "South America", "Asia", "North America", "Europe", "Oceania")
"""The continent that seed s is tested on is number s of these, the next one is val."""


@dataclass(frozen=True)
class Split:
    """Numbers of the places in each part.

    Attributes:
        train: `[n]`, sorted; likewise `val` and `test`.
        val: the places that choices are made by.
        test: the places that are asked once.
        words: the split in words.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    words: str


def divide(name: str, lonlat: np.ndarray, seed: int) -> Split:
    """Divide places `[N, 2]`.

    Args:
        name: one of `NAMES`.
        lonlat: degrees.
        seed: of the draw, or which continent is held out.

    Raises:
        UsageError: an unknown name.
        FMError: a part without places, or the extra `geo` is not installed.
    """
    if name == "random":
        made = _random(len(lonlat), seed)
    elif name == "blocks":
        made = _blocks(lonlat, seed)
    elif name == "continents":
        made = _continents(lonlat, seed)
    else:
        raise UsageError(f"there is no split {name!r} of places; {suggest(name, NAMES)}")
    for part in SHARES:
        if not len(getattr(made, part)):
            raise FMError(f"no place is in {part} of the split {name}, seed {seed}; {made.words}")
    return made


def units(lonlat: np.ndarray) -> NDArray[np.int64]:
    """The block that each place lies in: what the bootstrap draws, in every split."""
    return block_id(lonlat, BLOCK_KM)


def _random(count: int, seed: int) -> Split:
    order = np.random.Generator(np.random.PCG64([seed, 21])).permutation(count)
    ends = np.rint(np.cumsum(list(SHARES.values())) * count).astype(np.int64)
    train, val, test = (np.sort(part) for part in np.split(order, ends[:-1]))
    return Split(train, val, test, "places dealt out at random, 70 / 10 / 20 %")


def _blocks(lonlat: np.ndarray, seed: int) -> Split:
    numbers, inverse, counts = np.unique(units(lonlat), return_inverse=True, return_counts=True)
    order = np.random.Generator(np.random.PCG64([seed, 22])).permutation(len(numbers))
    # a block belongs where its middle sample falls
    middle = (np.cumsum(counts[order]) - counts[order] / 2) / counts.sum()
    part = np.empty(len(numbers), np.int64)
    part[order] = np.searchsorted(np.cumsum(list(SHARES.values()))[:-1], middle, side="right")
    of = part[inverse]
    train, val, test = (np.flatnonzero(of == i) for i in range(3))
    words = f"whole equal-area blocks of {BLOCK_KM:g} km dealt out, about 70 / 10 / 20 %"
    return Split(train, val, test, words)


def _continents(lonlat: np.ndarray, seed: int) -> Split:
    from shards.splits.continents import CONTINENTS, continents

    test, val = HELD_OUT[seed % len(HELD_OUT)], HELD_OUT[(seed + 1) % len(HELD_OUT)]
    of = continents(lonlat)
    asked, chosen = of == CONTINENTS.index(test), of == CONTINENTS.index(val)
    words = f"test is {test}, val is {val}, train is the rest of the world"
    train = np.flatnonzero(~(asked | chosen))
    return Split(train, np.flatnonzero(chosen), np.flatnonzero(asked), words)
