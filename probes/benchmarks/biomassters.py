"""BioMassters: above-ground biomass of Finnish forests from twelve months of Sentinel-2.

Nascetti et al., "BioMassters: A Benchmark Dataset for Forest Biomass Estimation using Multi-modal
Satellite Time-series" (NeurIPS 2023). A chip of 256 px has up to twelve monthly images, September
first (`_S2_00`), ten bands of Sentinel-2 L2A and s2cloudless' probability; months without an image
have no file, empty ones are 0. The truth is a map of tonnes a hectare; zero is a value.

**What is asked here is one number a chip, the mean of its map**, not the map: scores are not those
of the challenge, whose RMSE is of pixels. The challenge's test chips have no published truth;
train, val and test are dealt out of its training chips.
"""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.console import progress
from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing
from probes.benchmarks.files import Files, all_there, names_in, read_image

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
TABLE = "biomassters_features_metadata.csv"
COLUMNS = ("filename", "chip_id", "satellite", "split", "corresponding_agbm")
MIDDLES = tuple(
    np.datetime64(f"{2018 + (month < 9)}-{month:02d}-15", "s").astype(np.int64)
    for month in (*range(9, 13), *range(1, 9))
)
"""The middle of each month of a nominal year: the files tell months, not days or years."""


def scan(folder: Path) -> Listing:
    """List the training chips; those without an image of Sentinel-2 are in no split."""
    chips: dict[str, dict[int, str]] = {}
    truth: dict[str, str] = {}
    for row in _rows(folder / TABLE):
        if row["split"] != "train":
            continue
        chip = row["chip_id"]
        truth[chip] = row["corresponding_agbm"]
        files = chips.setdefault(chip, {})
        if row["satellite"] == "S2":
            files[_month(row["filename"], folder)] = row["filename"]
    without = [chip for chip, files in chips.items() if not files]
    ids = sorted(chips)
    home = folder / "train_features"
    listed = [name for chip in ids for name in chips[chip].values()]
    all_there(home, listed, set(names_in(home, ".tif")))
    maps = folder / "train_agbm"
    all_there(maps, [truth[chip] for chip in ids], set(names_in(maps, ".tif")))
    months = [sorted(chips[chip]) for chip in ids]
    return Listing(
        ids=ids,
        split=["train" if own else "no image" for own in months],
        source=Files(lambda i, array, date: home / chips[ids[i]][months[i][date]]),
        targets=_means([maps / truth[chip] for chip in ids]),
        times=[np.array([MIDDLES[m] for m in own], np.float64) for own in months],
        notes=(f"{len(without)} chips have no image of Sentinel-2",) if without else (),
    )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FMError(f"{path}: cannot be read ({error}); take the published table") from None
    missing = [name for name in COLUMNS if not rows or name not in rows[0]]
    if missing:
        raise FMError(f"{path}: no column {missing[0]}; take the published table")
    return rows


def _month(name: str, folder: Path) -> int:
    word = name.removesuffix(".tif").rpartition("_")[2]
    if not word.isdigit() or int(word) >= len(MIDDLES):
        raise FMError(f"{folder / TABLE}: {name} does not end in a month, 00 to 11")
    return int(word)


def _means(paths: list[Path]) -> NDArray[np.float64]:
    """Mean [N, 1] of each map of biomass."""
    found = np.empty((len(paths), 1))
    with progress("reading biomass", len(paths)) as bar:
        for n, path in enumerate(paths):
            values = read_image(path)
            if values.shape != (1, 256, 256) or values.dtype != np.float32:
                what = f"{values.dtype} {' x '.join(map(str, values.shape))}"
                raise FMError(f"{path}: {what}, expected float32 1 x 256 x 256")
            if not np.isfinite(values).all() or values.min() < 0:
                raise FMError(f"{path}: biomass below 0 or not a number; take the published file")
            found[n] = values.mean(dtype=np.float64)
            bar.advance()
    return found


DECLARATIONS = (
    Declaration(
        name="biomassters-mean",
        version=1,
        help="mean biomass of a chip in t/ha, series of up to 12 months of Sentinel-2, 256 px",
        task="regression",
        primary="rmse",
        classes=("mean above-ground biomass, t/ha",),
        arrays=(
            Array(
                "s2l2a_10",
                "sentinel2-l2a",
                (*BANDS, "CLP"),
                "uint16",
                (256, 256),
                10.0,
                take=BANDS,
                nodata=0,
            ),
        ),
        scan=scan,
        published={"all": 8689},
        split="dealt out of the challenge's 8,689 training chips, whose truth is published",
        layout=f"train_features/CHIP_S2_MM.tif, train_agbm/CHIP_agbm.tif and {TABLE}",
        paper="Nascetti et al., NeurIPS 2023 Datasets and Benchmarks",
        witness="BioMassters",
        leaks=(
            "chips tell no places, so neighbours may be in train and test; the target is the mean "
            "of a chip's map, so scores are not those of the challenge; clouds are not masked (the "
            "cloud probability is not given); months are dated to their middle, years not told"
        ),
        holdout=Holdout("train", {"test": 0.2, "val": 0.1, "train": 0.7}, by="sample"),
        checks=(signatures.reflectance, signatures.b8a_beside_b08),
        series=True,
        years=False,
    ),
)
