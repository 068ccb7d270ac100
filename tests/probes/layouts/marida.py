"""MARIDA in miniature: sea that darkens towards the infrared, few drawn pixels."""

from pathlib import Path

import numpy as np

from tests.probes.layouts.scene import codes, write_lines, write_tif

COUNTS = {"train": 3, "val": 2, "test": 2}
MEANS = (
    *(0.05197577, 0.04783991, 0.04056812, 0.03163572, 0.02972606, 0.03457443),
    *(0.03875053, 0.03436435, 0.0392113, 0.02358126, 0.01588816),
)
"""Of the authors' code, a band each in the order of the files."""


def sea(seed: int, means: tuple[float, ...] = MEANS) -> np.ndarray:
    """Reflectance [11, 256, 256] float32, without a number in one corner."""
    field = np.random.default_rng(seed).random((11, 37, 41))
    rows, columns = np.arange(256) % 37, np.arange(256) % 41
    made = np.array(means)[:, None, None] * (0.8 + 0.4 * field[:, rows[:, None], columns])
    made[:, :4, :6] = np.nan
    return made.astype(np.float32)


def write(root: Path, means: tuple[float, ...] = MEANS) -> Path:
    """The folder `data` of the authors' code."""
    n = 0
    for part, count in COUNTS.items():
        names = []
        for _ in range(count):
            scene = f"{1 + n // 2}-12-19_48MYU"
            home = root / "patches" / f"S2_{scene}"
            write_tif(home / f"S2_{scene}_{n}.tif", sea(n, means), west=300_000.0 + 2560 * n)
            truth = codes(15, 256, 256, n).astype(np.float32)
            write_tif(home / f"S2_{scene}_{n}_cl.tif", truth)
            write_tif(home / f"S2_{scene}_{n}_conf.tif", np.ones_like(truth))
            names.append(f"{scene}_{n}")
            n += 1
        write_lines(root / "splits" / f"{part}_X.txt", names)
    return root
