"""Folders with a map a sample, in miniature: SEN12MS, DFC2020, LoveDA, LandCover.ai, ISPRS."""

from pathlib import Path

import numpy as np
from rasterio.transform import Affine

from tests.probes.layouts.scene import (
    codes,
    colour,
    optical,
    radar,
    write_lines,
    write_picture,
    write_tif,
)

L1C = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B10", "B11", "B12"),
)
SEASONS = ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter")
SEN12MS_COUNTS = {"train": 8, "test": 4}
DFC_COUNTS = {"train": 2, "val": 1, "test": 1}
LOVEDA_COUNTS = {"train": 6, "test": 2}
LANDCOVER_COUNTS = {"train": 4, "val": 3, "test": 3}


def write_sen12ms(root: Path) -> Path:
    """Two scenes a season in train, one in test; one patch a scene."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for k, season in enumerate(SEASONS):
        for n, part in enumerate(("train", "train", "test")):
            scene, seed = 10 * k + n, 10 * k + n
            made = {
                "s1": radar(2, 256, 256, seed),
                "s2": optical(L1C, 256, 256, seed),
                "lc": np.stack([codes(17, 256, 256, seed + j) for j in range(4)]).astype("uint16"),
            }
            for kind, data in made.items():
                name = f"{season}_{kind}_{scene}_p30.tif"
                write_tif(root / season / f"{kind}_{scene}" / name, data)
            lists[part].append(f"{season}_s2_{scene}_p30.tif")
    for part, lines in lists.items():
        write_lines(root / f"{part}_list.txt", lines[::-1])
    return root


def write_dfc2020(root: Path) -> Path:
    """The folder `dfc2020_s1s2` of Copernicus-Bench."""
    home = root / "dfc2020_s1s2"
    nowhere = {"crs": "EPSG:4326", "transform": Affine.identity()}  # as in the release
    n = 0
    for part, count in DFC_COUNTS.items():
        names = []
        for _ in range(count):
            name = f"ROIs0000_test_dfc_0_p{n}.tif"
            write_tif(home / "dfc" / name, codes(10, 256, 256, n)[None].astype(np.int32), **nowhere)
            s1 = radar(2, 256, 256, n).astype(np.float64)
            write_tif(home / "s1" / name.replace("dfc", "s1"), s1, **nowhere)
            write_tif(home / "s2" / name.replace("dfc", "s2"), optical(L1C, 256, 256, n), **nowhere)
            names.append(name)
            n += 1
        write_lines(home / f"dfc-{part}-new.csv", names)
    return home


def write_loveda(root: Path) -> Path:
    """Pictures and maps of 1024 px, a test list without maps."""
    n = 0
    for home, each in (("Train", 3), ("Val", 1), ("Test", 1)):
        for scene in ("Urban", "Rural"):
            for _ in range(each):
                place = root / home / scene
                small = colour(3, 64, 64, n).repeat(16, 1).repeat(16, 2)
                write_picture(place / f"images_png/{n}.png", small)
                if home != "Test":
                    truth = codes(7, 64, 64, n).repeat(16, 0).repeat(16, 1).astype(np.uint8)
                    write_picture(place / f"masks_png/{n}.png", truth)
                n += 1
    return root


def write_landcoverai(root: Path) -> Path:
    """Chips of five orthophotos; one lies in two lists, as in the release."""
    names = [
        f"{sheet}_{k}"
        for sheet in ("M-33-20", "M-33-7", "N-34-6", "N-34-9", "M-34-1")
        for k in (0, 1)
    ]
    lists = {"train": names[:3] + names[9:], "val": names[3:6], "test": names[6:9]}
    for n, name in enumerate(names):
        flat = colour(3, 16, 16, n).repeat(32, 1).repeat(32, 2)
        write_picture(root / f"output/{name}.jpg", flat)
        truth = codes(4, 512, 512, n).astype(np.uint8)
        write_picture(root / f"output/{name}_m.png", truth)
    for part, lines in lists.items():
        write_lines(root / f"{part}.txt", lines)
    return root


PALETTE = np.array(
    [(255, 0, 0), (255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0)],
    np.uint8,
)
"""Clutter, impervious, building, low vegetation, tree, car."""


def write_isprs(root: Path, kind: str, tiles: dict[str, tuple[str, ...]]) -> Path:
    """Small tiles of sides that are no multiple of the window."""
    for n, tile in enumerate(t for part in tiles.values() for t in part):
        height, width = 12 + n % 3, 20 + n % 2
        truth = np.moveaxis(PALETTE[codes(5, height, width, n)], -1, 0)
        if kind == "potsdam":
            write_tif(
                root / f"4_Ortho_RGBIR/top_potsdam_{tile}_RGBIR.tif", colour(4, height, width, n)
            )
            write_tif(root / f"top_potsdam_{tile}_label.tif", truth, crs=None)
        else:
            name = f"top_mosaic_09cm_area{tile}.tif"
            write_tif(root / "top" / name, colour(3, height, width, n), crs=None)
            write_tif(root / name, truth, crs=None)
    return root
