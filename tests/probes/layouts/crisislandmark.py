"""CrisisLandMark in miniature: linked HDF5 files and the table, as its card describes them."""

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.probes.layouts.scene import optical, radar

BANDS = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B11", "B12"),
)
S2_FILES = {"benv2s2_part1": "benv2s2", "cabuar": "cabuar", "sen12flood": "sen2flood"}
S1_FILES = {"benv2s1_part1": "benv2s1", "mmflood": "mmflood", "quakeset": "quakeset"}
LABELS = (
    ["Pastures", "Mixed forest"],
    ["Burned Area", "trees"],
    ["Flooded Area", "Water"],
    ["Moors and heathland", "Rice fields", "Glaciers and perpetual snow"],
    ["Earthquake Damage"],
    ["Crops", "Non-irrigated arable land", "Built"],
)
"""Of the samples in turn: CORINE's names and the corpus' own, in any case."""
EACH = 5


def samples(kind: str) -> list[tuple[str, str, str, list[str], int]]:
    """File, key, list, labels and seed of every sample."""
    found = []
    files = S2_FILES if kind == "s2" else S1_FILES
    for f, (file, source) in enumerate(files.items()):
        for n in range(EACH):
            seed = 100 * f + n
            part = "train" if n < 2 else "test"
            labels = LABELS[(f * EACH + n) % len(LABELS)]
            found.append((file, f"{source}_{seed:04d}", part, labels, seed))
    return found


def write(root: Path, bands: tuple[str, ...] = BANDS) -> Path:
    """Both sensors; numbers of Sentinel-2 are stored as float32 of 0 to 10,000."""
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    with h5py.File(root / "crisislandmark.h5", "w") as links:
        for kind in ("s2", "s1"):
            for file, key, part, labels, seed in samples(kind):
                data = optical(bands, 120, 120, seed) if kind == "s2" else radar(2, 120, 120, seed)
                with h5py.File(root / f"{file}.h5", "a") as shard:
                    group = shard.create_group(key)
                    group["image"] = data.astype(np.float32)
                    group["coords"] = np.zeros((2, 120, 120), np.float32)
                    group.attrs["crs"], group.attrs["timestamp"] = 32633.0, 0.0
                links[key] = h5py.ExternalLink(f"{file}.h5", key)
                rows.append({"key": key, "labels": labels, "split": part})
    pq.write_table(pa.Table.from_pylist(rows[::-1]), root / "metadata.parquet")
    return root
