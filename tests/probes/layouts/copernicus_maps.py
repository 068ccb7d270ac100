"""Copernicus-Bench in miniature: floods, maps of three times the image's grid, air quality."""

import json
from pathlib import Path

import numpy as np
from affine import Affine

from tests.probes.layouts.copernicus import COUNTS, olci
from tests.probes.layouts.scene import codes, radar, write_lines, write_tif

LC100 = (
    *(0, 20, 30, 40, 50, 60, 70, 80, 90, 100, 111, 112, 113, 114, 115, 116),
    *(121, 122, 123, 124, 125, 126, 200),
)
STEP = 0.0026949458523585646
"""Degrees a pixel of the published Sentinel-3 images."""


def write_floods(root: Path) -> Path:
    """The folder `flood_s1`: linear sigma nought of three dates, a map and a mask of data."""
    home = root / "flood_s1"
    n = 0
    for part, count in COUNTS.items():
        listed = {}
        for _ in range(count):
            key = f"{97 * (n + 3) % 101:032x}"
            event, date = (130, 1111013)[n % 2], 20170528
            path = f"{event}/01/{key}"
            place = {"crs": "EPSG:3857", "west": -10003405.0 + 2240 * n, "north": 4730925.0}
            for k, kind in enumerate(("MS1", "SL1", "SL2")):
                linear = 10 ** (radar(2, 224, 224, 10 * n + k) / 10)
                linear[:, :3, :5] = 0  # nothing was measured there
                for band, data in zip(("IVV", "IVH"), linear, strict=True):
                    name = f"{kind}_{band}_{event}_01_{date - 12 * k}.tif"
                    write_tif(home / "data" / path / name, data.astype(np.float32), **place)
            truth = codes(3, 224, 224, n).astype(np.uint8)
            write_tif(home / "data" / path / f"MK0_MLU_{event}_01_{date}.tif", truth, **place)
            data = np.ones_like(truth)
            write_tif(home / "data" / path / f"MK0_MNA_{event}_01_{date}.tif", data, **place)
            listed[key] = {"path": path, "info": {"datasets": {}}}
            n += 1
        lists = home / f"grid_dict_{part}.json"
        lists.write_text(json.dumps(dict(reversed(listed.items()))))
    return home


def _grid(west: float, north: float, step: float) -> dict[str, object]:
    return {"crs": "EPSG:4326", "transform": Affine(step, 0, west, 0, -step, north)}


def write_cover_maps(
    root: Path, sides: tuple[int, ...] = (96,), fine: float = STEP / 3, off: float = 0.0
) -> Path:
    """The folder `lc100_s3` with its maps.

    Args:
        root: where it goes.
        sides: of the images, in turn.
        fine: degrees a pixel of the maps.
        off: how far the maps begin to the west and north of the images, in degrees.
    """
    home = root / "lc100_s3"
    n = 0
    for part, count in COUNTS.items():
        lines, chosen = [",".join(["PID", *map(str, range(23))])], []
        for _ in range(count):
            place, side = f"020059{n}_-70.25_-55.25", sides[n % len(sides)]
            west, north = -69.6 + n, -55.3
            for k, name in enumerate(("S3A_20190507T135736_x.tif", "S3B_20190810T135525_x.tif")):
                path = home / f"s3_olci/{place}/{name}"
                write_tif(path, olci(side, side, 10 * n + k), **_grid(west, north, STEP))
            pixels = round((side * STEP + 2 * off) / fine)
            truth = np.array(LC100, np.uint8)[codes(22, pixels, pixels, n)]
            write_tif(home / f"lc100/{place}.tif", truth, **_grid(west - off, north + off, fine))
            lines.append(",".join([place, *["1"] * 23]))
            chosen.append(
                f"{place},S3{'AB'[n % 2]}_{('20190507T135736', '20190810T135525')[n % 2]}_x.tif"
            )
            n += 1
        write_lines(home / f"multilabel-{part}.csv", lines)
        write_lines(home / f"static_fnames-{part}.csv", chosen)
    return home


def write_biomass(root: Path) -> Path:
    """The folder `biomass_s3`: maps of t/ha on pixels of 0.00089 degrees."""
    home = root / "biomass_s3"
    n = 0
    for part, count in COUNTS.items():
        chosen = []
        for _ in range(count):
            place = f"S30E140_ESACCI-BIOMASS-L4-AGB-MERGED-100m-2020-fv4.0_02_{n:02d}"
            for k, name in enumerate(("S3A_20200319T233546_x.tif", "S3B_20200514T234457_x.tif")):
                grid = _grid(142.506 + n, -30.248, STEP)
                write_tif(home / f"s3_olci/{place}/{name}", olci(93, 94, 10 * n + k), **grid)
            truth = codes(300 + n, 281, 281, n).astype(np.uint16)
            grid = _grid(142.5067 + n, -30.2507, 0.00088888888888)
            write_tif(home / f"biomass/{place}.tif", truth, **grid)
            chosen.append(f"{place},{name if n % 2 else 'S3A_20200319T233546_x.tif'}")
            n += 1
        write_lines(home / f"static_fnames-{part}.csv", chosen)
    return home
