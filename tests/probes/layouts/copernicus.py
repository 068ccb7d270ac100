"""Copernicus-Bench in miniature: BigEarthNet 5 %, LCZ, clouds."""

from pathlib import Path

import h5py
import numpy as np

from tests.probes.layouts.scene import codes, optical, radar, write_lines, write_tif

L1C = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B10", "B11", "B12"),
)
L2A = tuple(band for band in L1C if band != "B10")
COUNTS = {"train": 3, "val": 2, "test": 2}


def write_labels(root: Path) -> Path:
    """The folder `bigearthnet_s1s2`: a header, then two paths and 19 flags a line."""
    home = root / "bigearthnet_s1s2"
    n = 0
    for part, count in COUNTS.items():
        lines = ["s1_path,s2_path," + ",".join(f"label {k}" for k in range(19))]
        for _ in range(count):
            s1 = f"S1A_IW_GRDH_1SDV_2018042{n}T063852/p{n}/p{n}_allbands.tif"
            s2 = f"S2B_MSIL2A_2018042{n}T114349_N9999_R123_T29UPU/q{n}/q{n}_allbands.tif"
            write_tif(home / "BigEarthNet-S1-5%" / s1, radar(2, 120, 120, n))
            write_tif(home / "BigEarthNet-S2-5%" / s2, optical(L2A, 120, 120, n))
            flags = np.random.default_rng(n).integers(0, 2, 19)
            lines.append(",".join([s1, s2, *map(str, flags.tolist())]))
            n += 1
        write_lines(home / f"multilabel-{part}.csv", lines)
    return home


def write_zones(root: Path) -> Path:
    """HDF5 files as So2Sat's, float32."""
    bands = tuple(b for b in L2A if b not in ("B01", "B09"))
    for k, (part, count) in enumerate(COUNTS.items()):
        sen2 = np.stack([optical(bands, 32, 32, 40 * k + n) for n in range(count)]) / 10_000
        with h5py.File(root / f"lcz_{part}.h5", "w") as file:
            file["sen1"] = np.zeros((count, 32, 32, 8), np.float32)
            file["sen2"] = np.moveaxis(sen2, 1, -1).astype(np.float32)
            file["label"] = np.eye(17, dtype=np.uint8)[np.arange(count) + 5 * k]
    return root


def write_clouds(root: Path) -> Path:
    """The folder `cloud_s2`."""
    home = root / "cloud_s2"
    n = 0
    for part, count in COUNTS.items():
        names = []
        for _ in range(count):
            name = f"ROI_0000{n}__20200422T141729_20200422T142243_T19GDN"
            write_tif(home / f"s2_toa/{name}.tif", optical(L1C, 512, 512, n))
            write_tif(home / f"cloud/{name}.tif", codes(3, 512, 512, n)[None].astype(np.uint8))
            names.append(name)
            n += 1
        write_lines(home / f"{part}.csv", names)
    return home
