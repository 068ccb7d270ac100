"""GEO-Bench v1's cashew plantations: 72 windows of one scene in Benin at 25 dates each.

The scene has 1,186 x 1,122 pixels; windows of 256 begin every 128 and, last, at the edge: nine rows
of eight. `sample_N` is date N mod 25 of window N / 25, and a window's dates share its map. Windows
were dealt to train, valid and test at random, and each overlaps eight others, so most pixels of val
and test lie in train as well. Here they can be dealt by rows instead.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fm.errors import FMError
from probes.benchmarks.declare import Listing
from probes.benchmarks.geobench import Layer, scan

CLASSES = (
    *("no data", "well-managed plantation", "poorly-managed plantation", "non-plantation"),
    *("residential", "background", "uncertain"),
)
DATES, ROWS, COLUMNS, SIDE, STEP = 25, 9, 8, 256, 128
TOTAL = ROWS * COLUMNS * DATES
SPLIT_OF_ROW = ("train", "train", "train", "", "val", "", "test", "test", "test")
"""From north to south; rows of no split touch two of them."""
LOOKED_AT = (0, 9, 27, 36)
"""Windows of which the neighbours' maps are compared; none in the last row or column, which lie
nearer than 128 to the one before."""


def window_of(name: str) -> int:
    """Number of a sample's window.

    Raises:
        FMError: no name of these samples.
    """
    found = re.fullmatch(r"sample_(\d+)", name)
    number = int(found[1]) // DATES if found else -1
    if not 0 <= number < ROWS * COLUMNS:
        raise FMError(f"{name}: expected sample_0 to sample_{TOTAL - 1}; take the published files")
    return number


def scan_windows(folder: Path, layers: Sequence[Layer], blocked: bool) -> Listing:
    """List the samples; `blocked` deals the windows out anew by rows.

    Raises:
        FMError: other names, or, when blocked, maps that do not agree where windows overlap.
    """
    listing = scan(folder, layers, CLASSES, "segmentation")
    try:
        window = [window_of(name) for name in listing.ids]
    except FMError as error:
        raise FMError(f"{folder}: {error}") from None
    listing = replace(listing, groups=[f"window {n:02d}" for n in window])
    if not blocked:
        return listing
    _check_overlaps(folder, listing, window)
    return replace(listing, split=[SPLIT_OF_ROW[n // COLUMNS] for n in window])


def _check_overlaps(folder: Path, listing: Listing, window: list[int]) -> None:
    first = {number: i for i, number in reversed(list(enumerate(window)))}
    assert listing.mask is not None, "a listing without targets has maps"
    for number in LOOKED_AT:
        wanted = (number, number + 1, number + COLUMNS)
        if not set(wanted) <= set(first):
            raise FMError(f"{folder}: lacks samples of a window; take the published files")
        here, east, south = (listing.mask(first[n], None) for n in wanted)
        if (here[:, STEP:] != east[:, :-STEP]).any() or (here[STEP:] != south[:-STEP]).any():
            raise FMError(
                f"{folder}: {listing.ids[first[number]]}: its map is not that of its neighbours; "
                f"the samples are numbered otherwise than published"
            )
