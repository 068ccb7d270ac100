"""SpectralEarth's downstream sets in miniature: folders, lists and codes as published."""

import os
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

from fm.sensors import sensor
from fm.sensors.enmap import bands_202
from tests.probes.layouts.scene import write_lines, write_tif

PARTS = ("train", "train", "train", "train", "val", "val", "test", "test")
COUNTS = {"train": 4, "val": 2, "test": 2}
SCENES = ("04134", "04138", "04711", "04134", "04586", "04138", "04134", "08643")
"""Of the patches in `PARTS`: two of the test patches' scenes, one is in train."""
BANDS = {
    "enmap": tuple(band.name for band in bands_202()),
    "desis": tuple(band.name for band in sensor("desis-l2a").bands),
    "eo1": tuple(band.name for band in sensor("eo1-hyperion").bands),
}
TABLE = {"enmap": "enmap-l2a", "desis": "desis-l2a", "eo1": "eo1-hyperion"}
NAMES = [f"{1000 + 7 * n:07d}/{scene}.tif" for n, scene in enumerate(SCENES)]


NODES = {
    "enmap": ([400, 660, 760, 1300, 1750, 1960, 2450], [800, 900, 2600, 3100, 2600, 1700, 1200]),
    "desis": ([400, 660, 760, 1000], [700, 1090, 3000, 3500]),
    "eo1": (
        [427, 660, 760, 850, 925, 1000, 1300, 1400, 1650, 1800, 2200, 2400],
        [2400, 1660, 2700, 3200, 1700, 4900, 2300, 10, 1080, 10, 240, 80],
    ),
}
"""Nanometres and stored numbers: reflectance of vegetation, and radiance over it."""


def levels(kind: str, names: tuple[str, ...]) -> np.ndarray:
    """The level of each band."""
    table = {band.name: band.wavelength_nm for band in sensor(TABLE[kind]).bands}
    return np.interp(np.array([table[name] for name in names], float), *NODES[kind])


def write_images(
    home: Path, kind: str, names: tuple[str, ...] | None = None, count: int = len(NAMES)
) -> None:
    """One image a patch; every band and sample has its own level, every pixel its own number."""
    spectrum = levels(kind, BANDS[kind] if names is None else names)
    rows, columns = np.mgrid[:128, :128]
    dtype = {"enmap": np.int16, "desis": np.int16, "eo1": np.uint16}[kind]
    for n, name in enumerate(NAMES[:count]):
        plane = rows * 3 % 41 + columns % 37
        data = (spectrum * (1 + 0.01 * n))[:, None, None] + plane
        path = home / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=128,
            width=128,
            count=len(data),
            dtype=dtype,
            crs="EPSG:32633",
            transform=Affine(30, 0, 390_000, 0, -30, 5_348_400),
            interleave="band",  # several times as quick to read as GDAL's own choice
        ) as file:
            file.write(data.astype(dtype))


def write_lists(root: Path, task: str) -> None:
    """Three lists in no order."""
    for part in COUNTS:
        lines = [name for name, of in zip(NAMES, PARTS, strict=True) if of == part]
        write_lines(root / "splits" / task / f"{part}.txt", lines[::-1])


def write_masks(home: Path, folder: str, codes: tuple[int, ...], dtype: str) -> None:
    """Maps of codes in stripes that differ between patches."""
    values = np.array(codes, dtype)
    rows, columns = np.mgrid[:128, :128]
    for n, name in enumerate(NAMES):
        write_tif(home / folder / name, values[(rows // 8 + columns // 16 + n) % len(values)])


def link_images(source: Path, target: Path) -> None:
    """The same images under another task, without another copy."""
    for path in source.rglob("*.tif"):
        other = target / path.relative_to(source)
        other.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, other)


HYPERVIEW_COUNTS = {"train": 12, "val": 4}
HEADING = (
    "sample_index,company,field,cover,sampling,lab_method,date,year,P,K,Mg,pH,P_class,K_class,"
    "Mg_class,pH_class,P2O5,K2O,MgO"
)


def write_hyperview(root: Path) -> Path:
    """Patches of different sizes; numbers of the lists have no order."""
    rng = np.random.default_rng(3)
    spectrum = np.linspace(340, 1780, 150)
    number = 0
    for part, count in HYPERVIEW_COUNTS.items():
        lines = [HEADING]
        for _ in range(count):
            number += 1
            index = number * 7 % 23
            values = ",".join(f"{v:.6f}" for v in rng.normal(size=4))
            lines.append(
                f"{index},{'AB'[number % 2]},{number % 5},0.0,4.0,Mehlich3,2020-08-01T00:00:00,"
                f"2020,{values},1,2,3,3,,,"
            )
            height, width = 11 + number % 4, 13 + number % 3
            pixels = rng.random((1, height, width)) * 40 + spectrum[:, None, None]
            path = root / "hyperview/images" / f"{index}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, data=pixels.astype(np.uint16), mask=rng.random(pixels.shape) < 0.3)
        write_lines(root / "splits/hyperview" / f"{part}.csv", lines)
    return root
