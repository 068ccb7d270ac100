"""EuroSAT in miniature: every class in every list, names as published."""

from pathlib import Path

import numpy as np

from tests.probes.layouts.scene import optical, radar, write_lines, write_tif

CLASSES = (
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial"),
    *("Pasture", "PermanentCrop", "Residential", "River", "SeaLake"),
)
ORDER = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08"),
    *("B09", "B10", "B11", "B12", "B8A"),
)
COUNTS = {"train": 10, "val": 10, "test": 10}


def write(
    root: Path,
    lists: str = "eurosat-{}.txt",
    order: tuple[str, ...] = ORDER,
    each: tuple[int, int, int] = (1, 1, 1),
) -> Path:
    """The multispectral release beside its lists, `each` images a class; lists are in no order."""
    images = root / "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
    _write(root, lists, lambda label, n: (images / label, optical(order, 64, 64, n)), each)
    return root


def write_sar(root: Path) -> Path:
    """The folder `eurosat_s1` of Copernicus-Bench."""
    home = root / "eurosat_s1"
    _write(
        home, "eurosat-{}.txt", lambda label, n: (home / "all_imgs" / label, radar(2, 64, 64, n))
    )
    return home


def write_copernicus(root: Path) -> Path:
    """The folder `eurosat_s2` of Copernicus-Bench."""
    home = root / "eurosat_s2"
    _write(
        home,
        "eurosat-{}.txt",
        lambda label, n: (home / "all_imgs" / label, optical(ORDER, 64, 64, n)),
    )
    return home


def _write(root: Path, lists: str, make, each: tuple[int, int, int] = (1, 1, 1)) -> None:
    names: dict[str, list[str]] = {part: [] for part in COUNTS}
    parts = [part for part, count in zip(COUNTS, each, strict=True) for _ in range(count)]
    for k, label in enumerate(CLASSES):
        for n, part in enumerate(parts, start=1):
            number = 3000 * (len(parts) > 3) + 10 * k + n
            where, data = make(label, number)
            write_tif(where / f"{label}_{number}.tif", data, west=390_000.0 + 640 * n)
            names[part].append(f"{label}_{number}.jpg")
    for part, lines in names.items():
        write_lines(root / lists.format(part), np.random.default_rng(5).permutation(lines).tolist())
