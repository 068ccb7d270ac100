"""So2Sat in miniature: HDF5 files with channels last and one of 17 set."""

from pathlib import Path

import h5py
import numpy as np

from tests.probes.layouts.scene import optical

OPTICAL = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
COUNTS = {"training": 20, "validation": 5, "testing": 6}


def write(root: Path, parts: tuple[str, ...] = tuple(COUNTS), order=OPTICAL) -> Path:
    """One file a split."""
    root.mkdir(parents=True, exist_ok=True)
    for n, part in enumerate(parts):
        count, rng = COUNTS[part], np.random.default_rng(n)
        sen1 = rng.normal(0, 0.3, (count, 32, 32, 8))
        sen1[..., 4:6] **= 2
        sen2 = np.stack([optical(order, 32, 32, 50 * n + i) for i in range(count)]) / 10_000
        label = np.eye(17, dtype=np.uint8)[rng.integers(0, 17, count)]
        with h5py.File(root / f"{part}.h5", "w") as file:
            file["sen1"], file["label"] = sen1, label.astype(np.float64)
            file["sen2"] = np.moveaxis(sen2, 1, -1)
    return root


def write_cities(root: Path) -> Path:
    """The file of version 4: five cities, patches of a city not side by side."""
    names = np.array(["berlin", "lima", "osaka", "paris", "quito"])
    cities = names[np.arange(COUNTS["training"]) % 5][:, None]
    with h5py.File(root / "training_geo.h5", "w") as file:
        file["city"] = cities.astype("S")
    return root
