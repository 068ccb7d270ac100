"""Series in miniature: PASTIS and BioMassters in their folders."""

import csv
import json
from pathlib import Path

import numpy as np

from tests.probes.layouts.scene import codes, optical, radar, write_tif

PASTIS_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
PASTIS_COUNTS = {"train": 3, "val": 1, "test": 2}
DAYS = ("20180917", "20181102", "20190106", "20190426", "20190703")
FOLDS = (1, 2, 3, 4, 5, 5)


def write_pastis(root: Path, order: tuple[str, ...] = PASTIS_BANDS) -> Path:
    """Six patches of 3 to 5 dates; one lists its dates backwards, one has no data in a corner."""
    home = root / "PASTIS-R"
    for name in ("DATA_S2", "ANNOTATIONS"):
        (home / name).mkdir(parents=True)
    features = []
    for n, fold in enumerate(FOLDS):
        number, days = 10000 + n, DAYS[: 3 + n % 3]
        if n == 2:
            days = days[::-1]
        series = np.stack([optical(order, 128, 128, 10 * n + t) for t in range(len(days))])
        series = series.astype(np.int16)
        if n == 1:
            series[0, :, :30, :40] = -10_000
        np.save(home / f"DATA_S2/S2_{number}.npy", series)
        truth = np.stack([codes(19, 128, 128, 7 * n + k) for k in range(3)]).astype(np.uint8)
        np.save(home / f"ANNOTATIONS/TARGET_{number}.npy", truth)
        west, south = 600_000 + 1280 * n, 6_800_000
        ring = [[west, south], [west + 1280, south], [west + 1280, south + 1280], [west, south]]
        features.append(
            {
                "type": "Feature",
                "id": str(number),
                "properties": {
                    "ID_PATCH": number,
                    "Fold": fold,
                    "TILE": "t31tfm",
                    "dates-S2": {str(t): int(day) for t, day in enumerate(days)},
                },
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }
        )
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::2154"}}
    whole = {"type": "FeatureCollection", "crs": crs, "features": features}
    (home / "metadata.geojson").write_text(json.dumps(whole))
    return root


BIOMASS_BANDS = (*PASTIS_BANDS, "CLP")
CHIPS = 6
EMPTY = ("0000002c", 3)
"""A chip and the month whose image is all zeros."""
MONTHS = ("September", "October", "November", "December")


def months_of(chip: int) -> list[int]:
    """Months that have an image of Sentinel-2; the last chip has none."""
    return [] if chip == CHIPS - 1 else [m for m in range(len(MONTHS)) if (m + chip) % 3]


def write_biomassters(root: Path) -> Path:
    """Five chips with some of four months, one without, and a test chip without truth."""
    rows = []
    for n in range(CHIPS + 1):
        chip, part = f"{n:07x}c", "train" if n < CHIPS else "test"
        for satellite in ("S1", "S2"):
            for month in range(len(MONTHS)) if satellite == "S1" else months_of(n):
                name = f"{chip}_{satellite}_{month:02d}.tif"
                if satellite == "S1":
                    data = np.concatenate([radar(2, 256, 256, n), radar(2, 256, 256, n + 50)])
                else:
                    data = _image(chip, n, month)
                if part == "train" and (satellite == "S2" or n < 1):
                    write_tif(root / f"{part}_features" / name, data, crs=None)
                rows.append(
                    {
                        "filename": name,
                        "chip_id": chip,
                        "satellite": satellite,
                        "split": part,
                        "month": MONTHS[month],
                        "corresponding_agbm": f"{chip}_agbm.tif",
                    }
                )
        if part == "train":
            truth = (20 * n + codes(60, 256, 256, n)).astype(np.float32)
            write_tif(root / f"train_agbm/{chip}_agbm.tif", truth, crs=None)
    with open(root / "biomassters_features_metadata.csv", "w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows[::-1])  # the order of the rows tells nothing
    return root


def _image(chip: str, n: int, month: int) -> np.ndarray:
    data = optical(PASTIS_BANDS, 256, 256, 20 * n + month)
    clouds = codes(100, 256, 256, 20 * n + month).astype(np.uint16)[None]
    data = np.concatenate([data, clouds])
    return np.zeros_like(data) if (chip, month) == EMPTY else data
