"""Bringing rasters to another coordinate system, when asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor

from fm.errors import FMError, UsageError
from fm.sensors import Band
from shards.format import LabelInfo
from shards.sources import raster_io
from shards.sources.declare import Recipe
from shards.sources.raster_io import Header, Warp
from shards.sources.raster_items import MASK, Item


@dataclass(frozen=True)
class Wanted:
    """The user's words on what the pixels mean and how to cut them; None where nothing was said."""

    sensor: str | None
    sensor_file: str | None
    scale: str | None = None
    offset: str | None = None
    nodata: str | None = None
    gsd: float | None = None
    patch: int | None = None
    crs: str | None = None
    resolution: float | None = None
    resampling: str | None = None
    mask_ignore: int | None = None
    mask_label: Mapping[str, LabelInfo] = field(default_factory=dict)


def warp_to(header: Header, crs: str, pixel: float, step: float, resampling: str) -> Warp:
    """The grid in another coordinate system that covers a raster.

    Args:
        header: of the raster.
        crs: of the target.
        pixel: size of the target's pixels.
        step: the target's edges are multiples of it, so that grids of several pixel sizes align.
        resampling: GDAL's name.

    Raises:
        FMError: the raster cannot be brought to that coordinate system.
    """
    from rasterio.errors import RasterioError
    from rasterio.transform import Affine, array_bounds
    from rasterio.warp import transform_bounds

    box = array_bounds(header.height, header.width, Affine(*header.transform))
    try:
        west, south, east, north = transform_bounds(header.crs, crs, *box, densify_pts=21)
    except RasterioError as error:
        reason = " ".join(str(error).split())
        raise FMError(f"{header.path}: cannot be brought to {crs} ({reason[:160]})") from None
    west, north = floor(west / step) * step, ceil(north / step) * step
    return Warp(
        crs=crs,
        transform=(pixel, 0.0, west, 0.0, -pixel, north),
        height=round(ceil((north - south) / step) * step / pixel),
        width=round(ceil((east - west) / step) * step / pixel),
        resampling=resampling,
    )


def target_grids(
    grids: Mapping[str, Header], bands: Sequence[Band], wanted: Wanted
) -> dict[str, Warp]:
    """Grids of one item in the coordinate system that is wanted, aligned, by band.

    The numbers for "no data" come when they are known (`numbers_of_edges`).

    Raises:
        UsageError: no whole pixels, or a coordinate system in degrees.
        FMError: a raster that cannot be brought there.
    """
    assert wanted.crs is not None
    assert wanted.resolution is not None
    finest = min(band.gsd_m for band in bands)
    ratios = {band.name: band.gsd_m / finest for band in bands} | {MASK: 1.0}
    if odd := [name for name, ratio in ratios.items() if ratio != round(ratio)]:
        raise UsageError(f"--reproject: the pixels of {odd[0]} are no whole number of the finest")
    if raster_io.metres_a_unit(wanted.crs) is None:
        raise UsageError(f"--reproject {wanted.crs}: its unit is degrees; choose metres")
    step = wanted.resolution * max(ratios.values())
    result = {}
    for name, grid in grids.items():
        if grid.crs is None:
            raise FMError(f"{grid.path}: no coordinate system, so it cannot be placed")
        pixel = wanted.resolution * ratios[name]
        how = "nearest" if name == MASK else str(wanted.resampling)
        result[name] = warp_to(grid, wanted.crs, pixel, step, how)
    return result


def numbers_of_edges(
    item: Item,
    headers: Mapping[str, Header],
    modalities: Mapping[str, tuple[str, ...]],
    recipes: Mapping[str, Recipe],
    wanted: Wanted,
) -> dict[str, tuple[float | None, float | None]]:
    """By band: the source's and the target's number for "no data" (None is NaN).

    Raises:
        FMError: integers without such a number, though the edges of a warped raster have no data.
    """
    result: dict[str, tuple[float | None, float | None]] = {}
    if item.mask is not None:
        if wanted.mask_ignore is None:
            raise FMError("--reproject leaves edges without a class: give --mask-ignore")
        result[MASK] = float(wanted.mask_ignore), float(wanted.mask_ignore)
    for modality, bands in modalities.items():
        recipe = recipes[modality]
        for place, band in enumerate(bands):
            path, index = item.files[band]
            if headers[path].dtypes[index - 1].startswith("float"):
                result[band] = recipe.nodata, None
                continue
            number = recipe.number(place)
            if number is None:
                raise FMError(f"--reproject leaves edges without data: {band} needs a --nodata")
            result[band] = float(number), float(number)
    return result
