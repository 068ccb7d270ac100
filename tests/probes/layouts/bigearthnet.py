"""BigEarthNet v1 and v2 in miniature, on the native grids of the release."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tests.probes.layouts.scene import optical, radar, write_lines, write_tif

SIDE = {
    **dict.fromkeys(("B02", "B03", "B04", "B08"), 120),
    **dict.fromkeys(("B05", "B06", "B07", "B8A", "B11", "B12"), 60),
    **dict.fromkeys(("B01", "B09"), 20),
}
COUNTS = {"train": 2, "val": 1, "test": 2}
V1_LABELS = (
    ["Non-irrigated arable land", "Pastures", "Transitional woodland/shrub"],
    ["Mixed forest", "Bare rock"],
    ["Sea and ocean", "Estuaries"],
    ["Vineyards", "Moors and heathland", "Peatbogs"],
    ["Continuous urban fabric", "Airports", "Water courses"],
)
V2_LABELS = (
    ["Arable land", "Pastures"],
    ["Mixed forest"],
    ["Marine waters"],
    ["Transitional woodland, shrub", "Inland wetlands"],
    ["Urban fabric", "Inland waters"],
)


def _bands(home: Path, patch: str, seed: int) -> None:
    for k, (band, side) in enumerate(SIDE.items()):
        data = optical((band,), side, side, 100 * seed + k)
        write_tif(home / f"{patch}_{band}.tif", data, pixel=1200 / side, west=390_000 + 1200 * seed)


def _radar(home: Path, patch: str, seed: int) -> None:
    for plane, name in zip(radar(2, 120, 120, 7000 + seed), ("VV", "VH"), strict=True):
        write_tif(home / f"{patch}_{name}.tif", plane[None], west=390_000 + 1200 * seed)


def write_v1(root: Path) -> Path:
    """Folders of patches with a JSON each, lists of pairs."""
    lists: dict[str, list[str]] = {part: [] for part in COUNTS}
    parts = [part for part, count in COUNTS.items() for _ in range(count)]
    for n, part in enumerate(parts):
        s2 = f"S2A_MSIL2A_20170613T101031_{30 + n}_57"
        s1 = f"S1A_IW_GRDH_1SDV_20170613T165043_33UUP_{30 + n}_57"
        homes = root / "BigEarthNet-v1.0" / s2, root / "BigEarthNet-S1-v1.0" / s1
        _bands(homes[0], s2, n)
        _radar(homes[1], s1, n)
        for home in homes:
            about = home / f"{home.name}_labels_metadata.json"
            about.write_text(json.dumps({"labels": V1_LABELS[n]}))
        lists[part].append(f"{s2},{s1}")
    for part, lines in lists.items():
        write_lines(root / f"bigearthnet-{part}.csv", lines[::-1])
    return root


def write_v2(root: Path) -> Path:
    """Folders of tiles of patches, reference maps, one Parquet table."""
    parts = [part for part, count in COUNTS.items() for _ in range(count)]
    rows = []
    for n, part in enumerate(parts):
        tile = f"S2A_MSIL2A_2017061{n}T101031_N9999_R022_T33UU{'PQRST'[n]}"
        s2 = f"{tile}_26_5{n}"
        flight = f"S1A_IW_GRDH_1SDV_2017061{n}T165043"
        s1 = f"{flight}_33UU{'PQRST'[n]}_26_5{n}"
        _bands(root / "BigEarthNet-S2" / tile / s2, s2, n)
        _radar(root / "BigEarthNet-S1" / flight / s1, s1, n)
        codes = np.full((1, 120, 120), 312, np.uint16)
        write_tif(root / "Reference_Maps" / tile / s2 / f"{s2}_reference_map.tif", codes)
        split = {"val": "validation"}.get(part, part)
        rows.append({"patch_id": s2, "s1_name": s1, "labels": V2_LABELS[n], "split": split})
    parquet.write_table(pa.Table.from_pylist(rows), root / "metadata.parquet")
    return root
