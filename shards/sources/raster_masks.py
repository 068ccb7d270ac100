"""Where rasters have data, where a mask beside the bands or an alpha band tells it.

A mask lies in the file or beside it (`NAME.tif.msk`). What it leaves out becomes the band's no-data
number, NaN in floating bands, and in a class raster the number of no class.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from shards.sources import raster_io
from shards.sources.declare import Recipe
from shards.sources.raster_io import Header
from shards.sources.raster_items import Item
from shards.sources.raster_warp import Wanted


def masked_files(item: Item, headers: Mapping[str, Header]) -> frozenset[str]:
    """Return the files of an item that tell by a mask where they have data.

    A band that is called alpha does, unless it is one of those that were named: the fourth of four
    bytes is often called so and is none.
    """
    named = set(item.files.values())
    paths = {path for path, _ in named} | ({item.mask} if item.mask else set())
    return frozenset(
        path for path in paths if headers[path].masked or has_alpha(headers[path], named)
    )


def has_alpha(header: Header, named: Iterable[tuple[str, int]]) -> bool:
    """Say whether a file has an alpha band beside the (path, band) that were named."""
    return header.alpha is not None and (header.path, header.alpha) not in named


def warped_by_alpha(item: Item, headers: Mapping[str, Header]) -> frozenset[str]:
    """Return the bands of an item that are warped where an alpha band says so.

    Of a file with a mask beside the bands GDAL takes that; a band that was named is never one.
    """
    named = set(item.files.values())
    return frozenset(
        band
        for band, (path, _) in item.files.items()
        if has_alpha(headers[path], named) and not headers[path].masked
    )


def without_numbers(
    items: Sequence[Item],
    headers: Mapping[str, Header],
    recipes: Mapping[str, Recipe],
    wanted: Wanted,
) -> list[str]:
    """List the masked files whose integers have no number for what is not there."""
    ignore = wanted.mask_ignore
    problems = []
    for item in items:
        masked = masked_files(item, headers)
        missing: dict[str, list[str]] = {}
        for recipe in recipes.values():
            for place, band in enumerate(recipe.table):
                path, index = item.files[band.name]
                floating = headers[path].dtypes[index - 1].startswith("float")
                if path in masked and not floating and recipe.number(place) is None:
                    missing.setdefault(path, []).append(band.name)
        problems += [
            f"{path}: a mask says where it has no data, and integers need a number for that "
            f"({', '.join(names)}); give --nodata"
            for path, names in missing.items()
        ]
        if item.mask is None or item.mask not in masked:
            continue
        kind = headers[item.mask].dtypes[0]
        if ignore is None:
            problems.append(f"{item.mask}: a mask says where it has no class; give --mask-ignore")
        elif wanted.crs is None and not np.iinfo(kind).min <= ignore <= np.iinfo(kind).max:
            problems.append(
                f"{item.mask}: a mask says where it has no class, and --mask-ignore {ignore} does "
                f"not fit into {kind}"
            )
    return problems


def read_masked(
    path: str, index: int, window: tuple[int, int, int, int], missing: int | None
) -> np.ndarray:
    """Read a window of a masked file, `[H, W]`.

    Args:
        path: of the file.
        index: of the band, counted from 1.
        window: see `raster_io.read_window`.
        missing: what integers become where the mask says that there is nothing.
    """
    pixels = raster_io.read_window(path, index, window)
    number = np.nan if pixels.dtype.kind == "f" else missing
    return np.where(raster_io.read_mask(path, index, window), pixels, pixels.dtype.type(number))
