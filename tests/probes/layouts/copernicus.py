"""Copernicus-Bench in miniature: BigEarthNet 5 %, LCZ, clouds, Sentinel-3."""

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


def olci(height: int, width: int, seed: int) -> np.ndarray:
    """Stored numbers of OLCI, [21, H, W] float32, dark in the absorption of oxygen."""
    level = np.linspace(12_000, 4_000, 21)
    level[12] *= 0.3
    field = np.random.default_rng(seed).random((21, height, width))
    return (level[:, None, None] * (0.8 + 0.4 * field)).astype(np.float32)


def write_clouds_s3(root: Path) -> Path:
    """The folder `cloud_s3`."""
    home = root / "cloud_s3"
    n = 0
    for part, count in COUNTS.items():
        names = []
        for _ in range(count):
            name = f"S3A_OL_1_EFR____2020070{n + 1}T154217_20200703T154517_x.tif"
            write_tif(home / f"s3_olci/{name}", olci(256, 256, n))
            write_tif(home / f"cloud_multi/{name}", codes(5, 256, 256, n)[None].astype(np.uint8))
            names.append(name)
            n += 1
        write_lines(home / f"{part}.csv", names)
    return home


def write_covers_s3(root: Path, sides: tuple[int, ...] = (96,)) -> Path:
    """The folder `lc100_s3`: two dates a place, one of them chosen."""
    home = root / "lc100_s3"
    n = 0
    for part, count in COUNTS.items():
        lines, chosen = [",".join(["PID", *map(str, range(23))])], []
        for _ in range(count):
            place = f"020059{n}_-70.25_-55.25"
            dates = ("S3A_20190507T135736_x.tif", "S3B_20190810T135525_x.tif")
            for k, name in enumerate(dates):
                side = sides[n % len(sides)]
                write_tif(home / f"s3_olci/{place}/{name}", olci(side, side, 10 * n + k))
            flags = np.random.default_rng(n).integers(0, 2, 23)
            lines.append(",".join([place, *map(str, flags.tolist())]))
            chosen.append(f"{place},{dates[n % 2]}")
            n += 1
        write_lines(home / f"multilabel-{part}.csv", lines)
        write_lines(home / f"static_fnames-{part}.csv", chosen)
    return home
