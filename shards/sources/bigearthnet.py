"""BigEarthNet v2 pairs (Sentinel-1 GRD, Sentinel-2 L2A) of the pip package `configilm`.

Clasen et al., "reBEN: Refined BigEarthNet dataset" (arXiv 2407.03653). The package carries a
real subset of the LMDB release: 18 pairs of one Austrian tile (6 train, 6 validation, 6 test)
and 6 more with snow, cloud or shadow. Values are safetensors, a tensor a band; bands are taken
by name into the order of the sensor tables.

Sentinel-2 numbers are read without an offset. Evidence: over the 18 clear pairs the smallest
stored value is 56 (B12) and below 250 in 11 of 12 bands (`fm shards info` shows the minima),
while in a product with the offset of baseline 04.00 a reflectance of 0 is stored as 1000.
"""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from fm import sensors
from fm.errors import FMError
from fm.geo import lonlat_of, mgrs_tile_origin
from shards.building.packages import Package, fetch
from shards.building.writer import Declared
from shards.format import LabelInfo
from shards.sample import Sample
from shards.sources.base import Content

HELP = "Sentinel-1 and Sentinel-2 pairs with 19 labels, of the pip package configilm (55 MB)"
EXAMPLE = "fm shards build bigearthnet --out data/bigearthnet --cache .cache"
PACKAGE = Package(
    name="configilm",
    version="0.7.1",
    sha256="54e8c2424c55bb4e68dfda07593e155e9ecfa6c60b50585c4b378076934cf5e3",
    members=("configilm/extra/mock_data/BENv2/*",),
    licence="package MIT; data CDLA-Permissive-1.0",
)
CLASSES = (
    "Urban fabric",
    "Industrial or commercial units",
    "Arable land",
    "Permanent crops",
    "Pastures",
    "Complex cultivation patterns",
    "Land principally occupied by agriculture, with significant areas of natural vegetation",
    "Agro-forestry areas",
    "Broad-leaved forest",
    "Coniferous forest",
    "Mixed forest",
    "Natural grassland and sparsely vegetated areas",
    "Moors, heathland and sclerophyllous vegetation",
    "Transitional woodland, shrub",
    "Beaches, dunes, sands",
    "Inland wetlands",
    "Coastal wetlands",
    "Inland waters",
    "Marine waters",
)
"""The 19-class nomenclature (Sumbul et al., arXiv 2105.07921, table 2), in its published order."""
PATCH_M = 1200
NO_DATA = 0
"""Sentinel-2's code for "no data" (in the 24 pairs no pixel has it)."""
SIZES = {"s2l2a_10": 120, "s2l2a_20": 60, "s2l2a_60": 20, "s1grd_10": 120}
TABLES = ("metadata.parquet", "metadata_for_patches_with_snow_cloud_or_shadow.parquet")
SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--include-flagged",
        action="store_true",
        help="also the 6 pairs with snow, cloud or shadow (left out of the official splits)",
    )


def read(arguments: Namespace) -> Content:
    """Get the pairs and check their table."""
    folder = fetch(PACKAGE, Path(arguments.cache)) / "configilm/extra/mock_data/BENv2"
    rows = read_tables(folder, TABLES if arguments.include_flagged else TABLES[:1])
    s2 = sensors.sensor("sentinel2-l2a")
    s1 = sensors.sensor("sentinel1-grd")
    return Content(
        name="bigearthnet-configilm",
        tasks=rows,
        make=partial(make, folder / "BigEarthNet-V2-LMDB"),
        modalities={
            modality: Declared(
                sensor.name,
                tuple(band.name for band in bands),
                nodata=NO_DATA if sensor is s2 else None,
            )
            for sensor in (s2, s1)
            for modality, bands in sensor.modalities.items()
        },
        labels={"land_cover": LabelInfo("land_cover", "multilabel", CLASSES)},
        provenance={
            "source": "bigearthnet",
            "package": f"{PACKAGE.name}=={PACKAGE.version}",
            "sha256": PACKAGE.sha256,
            "flagged": bool(arguments.include_flagged),
            "radar": "dB as packaged (sigma or gamma nought is not stated)",
        },
        licence=PACKAGE.licence,
    )


def read_tables(folder: Path, tables: Sequence[str]) -> list[dict[str, Any]]:
    """Read the metadata rows, sorted by patch.

    Raises:
        FMError: an unknown label or split.
    """
    from pyarrow import parquet

    rows = [row for name in tables for row in parquet.read_table(folder / name).to_pylist()]
    for row in rows:
        if unknown := [label for label in row["labels"] if label not in CLASSES]:
            raise FMError(f"{folder}: {row['patch_id']}: unknown labels {unknown}")
        if row["split"] not in SPLIT_NAMES:
            raise FMError(f"{folder}: {row['patch_id']}: unknown split {row['split']!r}")
    return sorted(rows, key=lambda row: str(row["patch_id"]))


@lru_cache(maxsize=1)
def _base(folder: Path) -> Any:
    import lmdb

    return lmdb.open(str(folder), readonly=True, lock=False)


def _tensors(folder: Path, key: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    with _base(folder).begin() as reading:
        value = reading.get(key.encode())
        if value is None:
            raise FMError(f"{folder}: no entry {key}, which the table names")
        return load(bytes(value))


def make(folder: Path, row: dict[str, Any]) -> Sample:
    """Read one pair.

    Args:
        folder: of the LMDB.
        row: of the metadata table.

    Raises:
        FMError: an entry or a band is missing, or of another size or type.
    """
    optical, radar = _tensors(folder, row["patch_id"]), _tensors(folder, row["s1_name"])
    time, lonlat = place_and_time(row["patch_id"])
    epsg, west, north = corner(row["patch_id"])
    return Sample(
        key=row["patch_id"],
        arrays={
            **_stack(row["patch_id"], optical, "sentinel2-l2a", np.dtype(np.uint16)),
            **_stack(row["s1_name"], radar, "sentinel1-grd", np.dtype(np.float32)),
        },
        lonlat=lonlat,
        time=time,
        split=SPLIT_NAMES[row["split"]],
        labels={"land_cover": [CLASSES.index(label) for label in row["labels"]]},
        crs=f"EPSG:{epsg}",
        transform=(10.0, 0.0, west, 0.0, -10.0, north),
    )


def _stack(
    key: str, tensors: dict[str, np.ndarray], sensor: str, dtype: np.dtype
) -> dict[str, np.ndarray]:
    """Put bands into the order of the sensor's table, by name."""
    result = {}
    for modality, bands in sensors.sensor(sensor).modalities.items():
        side = SIZES[modality]
        for band in bands:
            array = tensors.get(band.name)
            if array is None or array.shape != (side, side) or array.dtype != dtype:
                found = "missing" if array is None else f"{array.dtype} {array.shape}"
                raise FMError(f"{key}: band {band.name} is {found}, expected {dtype} {side}x{side}")
        result[modality] = np.stack([tensors[band.name] for band in bands])
    return result


def place_and_time(patch_id: str) -> tuple[str, tuple[float, float]]:
    """Read a patch's time and centre out of its name.

    `S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_37_88` was taken on 2017-06-13 10:10:31 UTC and is
    column 37, row 88 of tile 33UUP in steps of 1200 m from its north-west corner.

    Raises:
        FMError: the name is not of that form.
    """
    stamp = _parts(patch_id)[0]
    epsg, west, north = corner(patch_id)
    lon, lat = lonlat_of(west + PATCH_M / 2, north - PATCH_M / 2, epsg)
    time = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[9:11]}:{stamp[11:13]}:{stamp[13:15]}Z"
    return time, (float(lon), float(lat))


def corner(patch_id: str) -> tuple[int, float, float]:
    """Read a patch's place out of its name: EPSG code, and its left and upper edge in metres."""
    _, tile, column, row = _parts(patch_id)
    epsg, west, north = mgrs_tile_origin(tile)
    return epsg, float(west + int(column) * PATCH_M), float(north - int(row) * PATCH_M)


def _parts(patch_id: str) -> tuple[str, str, str, str]:
    found = re.fullmatch(
        r"S2[ABC]_MSIL2A_(\d{8}T\d{6})_N\d{4}_R\d{3}_T(\d{2}[A-Z]{3})_(\d+)_(\d+)", patch_id
    )
    if not found:
        raise FMError(f"{patch_id}: not the name of a BigEarthNet v2 patch")
    stamp, tile, column, row = found.groups()
    return stamp, tile, column, row
