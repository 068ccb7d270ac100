"""SSL4EO-L's benchmark, L7 Irish and L8 Biome in miniature: names and bands as published."""

from pathlib import Path

import numpy as np

from tests.probes.layouts.scene import codes, write_tif

SSL4EO_COUNTS = {"train": 6, "val": 1, "test": 2}
LEVELS = {
    "tm_toa": ("LT05", (60, 50, 45, 150, 90, 152, 55)),
    "etm_toa": ("LE07", (60, 50, 45, 150, 90, 151, 153, 55, 70)),
    "etm_sr": ("LE07", (30, 45, 50, 190, 120, 70)),
    "oli_tirs_toa": ("LC08", (80, 65, 52, 48, 170, 95, 58, 50, 4, 150, 148)),
    "oli_sr": ("LC08", (20, 30, 46, 50, 200, 125, 72)),
}
"""Prefix of the scenes and the level of each band, in the order of the files."""
YEARS = {"tm": 2011, "etm": 2019, "oli": 2019}


def picture(levels: tuple[float, ...], height: int, width: int, seed: int) -> np.ndarray:
    """Every band its level, every sample and pixel its own number."""
    rows, columns = np.mgrid[:height, :width]
    plane = (rows * 5 % 23 + columns * 3 % 19 + seed) % 31
    return np.array(levels)[:, None, None] + plane


def write_ssl4eo(
    root: Path,
    variant: str,
    product: str,
    legend: tuple[int, ...],
    levels: tuple[int, ...] | None = None,
) -> Path:
    """Nine patches; a map has codes that count and codes that do not."""
    prefix, own = LEVELS[variant]
    short = variant.partition("_")[0]
    table = np.array(legend, np.uint8)
    for n in range(9):
        scene = f"{3 * n + 1:07d}/{prefix}_1720{n}0_2010052{n}"
        data = picture(levels or own, 264, 264, n).clip(0, 255).astype(np.uint8)
        write_tif(
            root / f"ssl4eo_l_{variant}_benchmark" / scene / "all_bands.tif", data, pixel=30.0
        )
        truth = table[codes(len(table) - 1, 264, 264, n)]
        file = f"{product}_{YEARS[short]}.tif"
        write_tif(root / f"ssl4eo_l_{short}_{product}" / scene / file, truth, pixel=30.0)
    return root


STORED = np.array([0, 64, 128, 192, 255], np.uint8)
IRISH = {
    "austral/p226_r98": "L71226098_09820011112",
    "austral/p227_r98": "L71227098_09820011103",
    "austral/p231_r93_2": "L71231093_09320010507",
    "boreal/p2_r27": "L71002027_02720010604",
    "boreal/p143_r21_3": "L71143021_02120010803",
}
BIOME = (
    *("barren/LC80420082013220LGN00", "barren/LC80530022014156LGN00"),
    *("barren/LC81360302014162LGN00", "forest/LC80070662014234LGN00"),
    "forest/LC80070662014005LGN00",
)
"""Two scenes of one path and row."""


def _scene(
    image: Path, mask: Path, levels: tuple[float, ...], dtype: str, n: int, thin: int
) -> None:
    """A scene of its own place and size, with fill at its left."""
    height, width = 40 + n, 52 + 3 * n
    data = picture(levels, height, width, n).astype(dtype)
    truth = STORED[codes(4, height, width, n)]
    data[:, :, :5] = 0
    truth[:, :5] = 0
    place = {"west": 300_000.0 + 5_000 * n, "north": 5_000_000.0, "pixel": 30.0}
    write_tif(image, data, crs="EPSG:32619", **place)
    write_tif(mask, np.where(truth == 192, thin, truth).astype(np.uint8), crs="EPSG:32619", **place)


def write_irish(root: Path, thin: int = 192) -> Path:
    """Nine bands of 8 bits."""
    for n, (place, name) in enumerate(IRISH.items()):
        path, row = place.partition("/")[2].split("_")[:2]
        _scene(
            root / place / f"{name}.TIF",
            root / place / f"L7_{path}_{row}_newmask2015.TIF",
            (80, 65, 60, 90, 85, 120, 140, 60, 70),
            "uint8",
            n,
            thin,
        )
    return root


def write_biome(root: Path, factor: int = 100) -> Path:
    """Eleven bands of 16 bits."""
    levels = tuple(factor * v for v in (95, 90, 85, 80, 140, 100, 80, 84, 52, 220, 205))
    for n, place in enumerate(BIOME):
        name = place.partition("/")[2]
        home = root / place
        _scene(home / f"{name}.TIF", home / f"{name}_fixedmask.TIF", levels, "uint16", n, 192)
    return root
