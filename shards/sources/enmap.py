"""EnMAP L2A: HySpecNet-11k patches, SpectralEarth-like patches and whole tiles, 224 to 202 bands.

Three layouts are told apart by name and band count:

- HySpecNet-11k (Fuchs and Demir, arXiv 2306.00385): a folder a patch with
  `PRODUCT-Y01460273_X03110438-SPECTRAL_IMAGE.TIF` (224 bands) and quality layers such as
  `...-QL_QUALITY_CLOUD.TIF`; the digits are the first and last row and column in the tile.
- a product as delivered: `PRODUCT-SPECTRAL_IMAGE.TIF`, the same layers, `PRODUCT-METADATA.XML`.
  Tiles are cut into squares; ragged edges are left out.
- SpectralEarth (Braham et al., arXiv 2408.08447): `PATCH/DATE.tif` with 202 bands, taken to be
  `fm.sensors.enmap.bands_202()` in that order; nothing in the file confirms it but the count.

Of 224 bands 22 are dropped (`fm.sensors.enmap.ABSORPTION`). A dropped band that holds data stops
the build: the product has other gaps, or the list of gaps is shifted. A patch where a kept band
holds nothing is left out.

Numbers are reflectance x 10000, -32768 is no data. Bands of the file are in rising wavelength, the
two detectors interleaved between 902 and 993 nm: in a HySpecNet patch over water the VNIR detector
reads -55 to -227 there and the SWIR one 4 to -10, alternating exactly as the table says.

Quality layers hold 0 or 1, cirrus 1 thin, 2 medium, 3 thick, classes 1 land, 2 water, 3
background. A pixel is valid when all its bands hold data and it is neither cloud, cloud shadow,
cirrus nor haze. Snow is ground and stays valid.
"""

import os
from argparse import ArgumentParser, Namespace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from fm import sensors
from fm.console import note, progress
from fm.errors import FMError, UsageError
from fm.geo import lonlat_of
from fm.sensors.enmap import ABSORPTION, NO_DATA, bands_202
from shards.building.writer import Declared
from shards.format import LabelInfo
from shards.sample import Sample
from shards.sources import enmap_files
from shards.sources.base import Content, Skip
from shards.sources.enmap_files import LAYERS, SENSOR, Patch
from shards.sources.sensor_file import listed

HELP = "EnMAP L2A: HySpecNet-11k, SpectralEarth-like patches, whole tiles (224 to 202 bands)"
EXAMPLE = "fm shards build enmap --folder hyspecnet-11k/patches --max-cloud 0.1 --out data/enmap"
MODALITY, MASK, MEMBER = "enmap_30", "quality", "quality_mask"
LICENCE = "EnMAP data (c) DLR; licence terms of EnMAP and of the dataset they came in apply"
HIDING = ("CLOUD", "CLOUDSHADOW", "CIRRUS", "HAZE")
CLASSES = ("no data", "land", "water", "snow", "haze", "cirrus", "cloud shadow", "cloud")
"""Of the mask; a pixel that is several is the last of them, and no data before all."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--folder", type=Path, required=True, help="searched with all folders below it"
    )
    parser.add_argument(
        "--bands",
        type=int,
        choices=(202, 224),
        default=202,
        help="202 drops the absorption bands and checks that they hold no data; 224 keeps all "
        "(default 202)",
    )
    parser.add_argument(
        "--patch", type=int, default=128, help="side of the squares cut from tiles (default 128)"
    )
    parser.add_argument(
        "--max-cloud",
        type=float,
        help="leave patches out with a larger share of cloud, cloud shadow, cirrus and haze",
    )
    parser.add_argument(
        "--no-quality", action="store_true", help="do not use the quality layers (QL_QUALITY_*)"
    )
    parser.add_argument(
        "--mask", action="store_true", help=f"also write the mask {MASK!r} of the quality layers"
    )
    parser.add_argument(
        "--splits", type=Path, help="folder with train.csv, val.csv, test.csv of HySpecNet-11k"
    )


def read(arguments: Namespace) -> Content:
    """Find the patches and check their headers.

    Raises:
        UsageError: options that contradict each other.
        FMError: a list of what is wrong with the files.
    """
    limit: float | None = arguments.max_cloud
    if limit is not None and not 0 <= limit <= 1:
        raise UsageError(f"--max-cloud {limit:g}: give a share from 0 to 1")
    if arguments.no_quality and (arguments.mask or limit is not None):
        raise UsageError("--no-quality leaves nothing for --mask and --max-cloud; drop one")
    if arguments.patch < 1:
        raise UsageError(f"--patch {arguments.patch}: give at least 1 pixel")
    folder: Path = arguments.folder
    files = list(enmap_files.image_files(folder))
    if not files:
        raise FMError(f"{folder}: no *-SPECTRAL_IMAGE.TIF and no PATCH/DATE.tif in it")
    problems: list[str] = []
    patches: list[Patch] = []
    scales: set[tuple[float, float]] = set()
    quality = not arguments.no_quality
    with progress("checking files", len(files)) as bar:
        for path in files:
            found = enmap_files.inspect(
                path,
                bands=arguments.bands,
                side=arguments.patch,
                quality=quality,
                scales=scales,
                problems=problems,
            )
            bare = found and not found[0].layers
            if bare and (arguments.mask or limit is not None):
                problems.append(f"{path}: has no quality layers, which --mask and --max-cloud need")
            patches += found
            bar.advance()
    if len(scales) > 1:
        problems.append(f"{folder}: products of different (scale, offset): {sorted(scales)}")
    if arguments.splits is not None and not problems:
        patches, absent = enmap_files.assign_splits(patches, arguments.splits, problems)
        if absent:
            note(f"{arguments.splits}: {absent} lines name a patch that is not in {folder}")
    places: dict[str, Path] = {}
    for patch in patches:
        other = places.setdefault(patch.key, patch.path)
        if other != patch.path:
            problems.append(f"{patch.path}: the same patch as {other}")
    if problems:
        raise FMError(listed(problems))
    if not patches:
        raise FMError(f"{folder}: no tile holds a square of {arguments.patch} px; lower --patch")
    scale, offset = scales.pop()
    kept = bands_202() if arguments.bands == 202 else sensors.sensor(SENSOR).bands
    labels = {"scene": LabelInfo("scene", "text")} if any(p.scene for p in patches) else {}
    if arguments.mask:
        labels[MASK] = LabelInfo(MASK, "mask", CLASSES, ignore=0, member=MEMBER)
    return Content(
        name="enmap",
        tasks=patches,
        make=partial(make, bands=arguments.bands, limit=limit, mask=arguments.mask),
        files=files_of,
        modalities={
            MODALITY: Declared(
                SENSOR,
                tuple(band.name for band in kept),
                scale=scale,
                offset=offset,
                nodata=NO_DATA,
            )
        },
        labels=labels,
        provenance={
            "source": "enmap",
            "folder": folder.resolve().name,
            "bands": arguments.bands,
            "max_cloud": limit,
            "valid": "data in every band"
            + (", neither cloud, cloud shadow, cirrus nor haze" if quality else ""),
        },
        licence=LICENCE,
    )


def files_of(patch: Patch) -> list[Path]:
    """The files that a sample is read from."""
    return [patch.path, *patch.layers]


def make(patch: Patch, *, bands: int, limit: float | None, mask: bool) -> Sample:
    """Read one patch.

    Args:
        patch: where it lies.
        bands: 202 or 224, wanted of it.
        limit: largest share of pixels with data that may be cloud, shadow, cirrus or haze.
        mask: whether to add the quality mask.

    Raises:
        Skip: it holds no data, or too much cloud.
        FMError: bands that should hold no data do, or the other way round.
    """
    row, column, height, width = patch.box
    window = ((row, row + height), (column, column + width))
    raster = _open(patch.path)
    pixels: np.ndarray = raster.read(window=window)
    filled = (pixels != NO_DATA).reshape(len(pixels), -1)
    if not filled.any():
        raise Skip("no data", patch.key)
    if bands == 202:
        kept = [i for i in range(len(pixels)) if len(pixels) == 202 or i not in ABSORPTION]
        dropped = sorted(set(range(len(pixels))) - set(kept))
        empty = [i for i in kept if not filled[i].any()]
        if full := [i for i in dropped if filled[i].any()]:
            also = f", while {_ranges(empty)} hold none" if empty else ""
            raise FMError(
                f"{patch.path}: {_ranges(full)} of the 22 bands to drop hold data{also}: this "
                "product has other gaps; --bands 224 keeps all bands"
            )
        if empty:
            raise Skip("a band holds no data at all", patch.key)
        pixels, filled = pixels[kept], filled[kept]
    has_data = filled.any(axis=0) if bands == 224 else filled.all(axis=0)
    quality = _quality(patch, window) if patch.layers else {}
    hidden = np.zeros_like(has_data)
    for name in HIDING:
        if quality:
            hidden |= quality[name].ravel() > 0
    cloudy = float((hidden & has_data).sum() / max(int(has_data.sum()), 1))
    if limit is not None and cloudy > limit:
        raise Skip("more cloud than --max-cloud", patch.key)
    arrays = {MODALITY: np.ascontiguousarray(pixels)}
    if mask:
        arrays[MEMBER] = _mask(quality, has_data.reshape(height, width))
    grid = raster.transform  # north up, 30 m: checked by `enmap_files`
    west, north = grid.c + grid.a * column, grid.f + grid.e * row
    centre = west + grid.a * width / 2, north + grid.e * height / 2
    lon, lat = lonlat_of(*centre, raster.crs)
    return Sample(
        key=patch.key,
        arrays=arrays,
        lonlat=(float(lon), float(lat)),
        time=patch.time,
        split=patch.split,
        labels={} if patch.scene is None else {"scene": patch.scene},
        window=patch.window,
        valid_fraction=float((has_data & ~hidden).mean()),
        crs=raster.crs.to_string(),
        transform=(grid.a, 0.0, west, 0.0, grid.e, north),
    )


def _quality(patch: Patch, window: tuple[tuple[int, int], ...]) -> dict[str, np.ndarray]:
    """Read the quality layers of a patch: `[H, W]` each."""
    found = {}
    for (name, most), path in zip(LAYERS.items(), patch.layers, strict=True):
        raster = _open(path)
        if raster.shape != _open(patch.path).shape:
            raise FMError(f"{path}: {raster.shape} px, its image has {_open(patch.path).shape}")
        layer = raster.read(1, window=window)
        if layer.max() > most:
            raise FMError(f"{path}: holds {layer.max()}; EnMAP L2A documents 0 to {most}")
        found[name] = layer
    return found


def _mask(quality: dict[str, np.ndarray], has_data: np.ndarray) -> np.ndarray:
    """Combine the quality layers into the numbers of `CLASSES`: `[H, W]` uint8."""
    result = np.where(quality["CLASSES"] == 3, 0, quality["CLASSES"]).astype(np.uint8)
    for number, name in enumerate(("SNOW", "HAZE", "CIRRUS", "CLOUDSHADOW", "CLOUD"), start=3):
        result[quality[name] > 0] = number
    result[~has_data] = 0
    return result


def _ranges(places: list[int]) -> str:
    """Name bands of 224 shortly, from places that count from 0: `B127-B141, B161`."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    names = [[f"B{place + 1:03d}" for place in (run[0], run[-1])] for run in runs]
    return ", ".join(first if first == last else f"{first}-{last}" for first, last in names)


def _open(path: Path) -> Any:
    # GDAL's handles must not be shared with a forked worker
    return _opened(path, os.getpid())


@lru_cache(maxsize=16)
def _opened(path: Path, process: int) -> Any:
    import rasterio

    return rasterio.open(path)
