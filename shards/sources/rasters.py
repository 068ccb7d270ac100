"""Any GeoTIFFs, COGs or JP2s, in a tree or a STAC-like table, cut into patches by geotransform.

Nothing of what the pixels mean is guessed. Bands are named by the user, their wavelengths and units
come from a known sensor or from a sensor file, and scale, offset and no-data from the options, the
sensor file, or GDAL's own tags in the files. Where two of these disagree the build stops, as it
does for mixed coordinate systems, grids that do not align and missing files: with a list.

Bands are grouped by their grid: one modality a pixel size. See `shards.sources.lattice` for how
patches are placed and `shards.sources.raster_items` for how files are found.
"""

import dataclasses
import math
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fm.console import progress
from fm.errors import FMError, UsageError
from shards.format import LabelInfo, check_dataset_name
from shards.sample import Sample, check_label, parse_time
from shards.sources import declare, raster_io, table
from shards.sources.base import Content
from shards.sources.lattice import Lattice
from shards.sources.raster_checks import Plan, source_of, survey
from shards.sources.raster_io import Header, Warp
from shards.sources.raster_items import (
    MASK,
    STAC,
    Columns,
    Item,
    in_table,
    in_tree,
    multiband_in_tree,
    read_rows,
    with_attributes,
)
from shards.sources.raster_masks import read_masked
from shards.sources.raster_stated import with_stated
from shards.sources.raster_warp import Wanted
from shards.sources.sensor_file import listed

HELP = "GeoTIFF, COG or JP2 files, in a tree or a STAC-like table, cut into aligned patches"
EXAMPLE = (
    "fm shards build rasters --root scenes --bands 'B02=*_B02.tif,B11=*_B11.tif' --nodata 0 "
    "--sensor sentinel2-l2a-n0400 --patch 96 --licence CC-BY-4.0 --out data/scenes"
)
RESAMPLING = ("nearest", "bilinear", "cubic", "average", "mode")
LABEL = "label"


@dataclass(frozen=True)
class Task:
    """One patch of an item.

    Attributes:
        key: of the sample.
        item: its files.
        lattice: the item's grids; the mask's is `MASK`.
        crs: of the lattice.
        warps: band to the grid it is brought to; empty when nothing is reprojected.
        masked: files that tell by a mask where they have data, where they are not reprojected.
        box: `(row, column, height, width)` on the lattice, in pixels of the finest grid.
        whole: take every grid as it is.
    """

    key: str
    item: Item
    lattice: Lattice
    crs: str
    warps: Mapping[str, Warp]
    masked: frozenset[str]
    box: tuple[int, int, int, int]
    whole: bool


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--root", type=Path, help="folder to search, with all folders below it")
    where.add_argument(
        "--items", type=Path, help="CSV or Parquet (item, href, band), or STAC ItemCollection"
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--bands",
        metavar="BAND=NAME,...",
        help="a file a band: its name, such as B02=*_B02.tif, or its name in the band column",
    )
    which.add_argument(
        "--band-order", metavar="BAND,...", help="all bands in one file, in this order"
    )
    parser.add_argument("--files", help="file name of multi-band files, such as *_stack.tif")
    for name, default in (("item", "item"), ("href", "href"), ("band", None)):
        text = f"(default {default})" if default else "(STAC: band)"
        parser.add_argument(f"--{name}-column", default=default, help=f"of the table {text}")
    for name, text in (("time", " (STAC: datetime)"), ("split", ""), ("label", "")):
        parser.add_argument(f"--{name}-column", help=f"{name} of the item{text}")
    parser.add_argument(
        "--attributes", type=Path, help="table with those columns, when the files are in a tree"
    )
    parser.add_argument(
        "--label-kind", choices=("class", "regression", "text"), help="with --label-column"
    )
    parser.add_argument(
        "--classes",
        metavar="a,b,c",
        help="class names of the label in the order of their numbers (or @FILE, a name a line)",
    )
    parser.add_argument("--time", help="acquisition time of all items, ISO-8601 UTC")
    sensor = parser.add_mutually_exclusive_group(required=True)
    sensor.add_argument("--sensor", help="name of a known sensor, see docs/sensors.md")
    sensor.add_argument("--sensor-file", help="YAML with your own bands, see docs/sources.md")
    parser.add_argument("--scale", help="physical = stored * scale + offset, where not known")
    parser.add_argument("--offset", help="see --scale")
    parser.add_argument("--nodata", help="number that means no data, one or one a band, or `none`")
    parser.add_argument("--gsd", type=float, help="metres a finest pixel, for grids in degrees")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--patch", type=int, help="side in pixels of the finest grid")
    size.add_argument("--whole", action="store_true", help="one sample an item, not cut")
    parser.add_argument("--reproject", metavar="EPSG", help="bring all items to EPSG:NUMBER")
    parser.add_argument("--resolution", type=float, help="metres a finest pixel, then")
    parser.add_argument("--resampling", choices=RESAMPLING, help="how, then")
    parser.add_argument("--mask", help="pattern or band name of a class raster on the finest grid")
    parser.add_argument("--mask-classes", help="its class names, in the order of their numbers")
    parser.add_argument("--mask-ignore", type=int, help="its number for: no class here")
    parser.add_argument("--name", default="rasters", help="of the dataset (default rasters)")
    parser.add_argument("--licence", required=True, help="of the data, SPDX or a sentence")


def read(arguments: Namespace) -> Content:
    """Find the items, read all headers, and check that they can be cut as asked."""
    _check_options(arguments)
    problems: list[str] = []
    wanted = _wanted(arguments)
    items = _items(arguments, wanted, problems)
    headers = with_stated(items, _headers(items, problems), problems)
    complete = [item for item in items if all(path in headers for path in _paths(item))]
    plan = survey(complete, headers, wanted, problems)
    labels, items = _labels(arguments, plan.items, problems)
    if problems:
        raise FMError(f"{arguments.root or arguments.items}: {listed(problems)}")
    tasks = _tasks(items, plan, arguments)
    if not tasks:
        raise FMError(
            f"no {arguments.patch} px patch fits into the ground that all bands of an item cover"
        )
    return Content(
        name=arguments.name,
        tasks=tasks,
        make=partial(_sample, plan.modalities, plan.recipes, bool(labels), arguments.mask_ignore),
        files=_files,
        modalities={name: recipe.declared for name, recipe in plan.recipes.items()},
        labels={**labels, **wanted.mask_label},
        provenance={
            "source": "rasters",
            "items": len(items),
            "patch_px": arguments.patch,
            "reprojected": None
            if arguments.reproject is None
            else [wanted.crs, arguments.resolution, arguments.resampling],
            "bands": arguments.bands or arguments.band_order,
        },
        licence=arguments.licence,
    )


def _check_options(arguments: Namespace) -> None:
    check_dataset_name(arguments.name)
    together = (arguments.reproject, arguments.resolution, arguments.resampling)
    if any(value is not None for value in together) and None in together:
        raise UsageError("--reproject, --resolution and --resampling come together; give all three")
    if arguments.reproject and not re.fullmatch(r"(EPSG:)?\d+", arguments.reproject):
        raise UsageError(f"--reproject {arguments.reproject}: give an EPSG number")
    if arguments.reproject:
        _check_system(f"EPSG:{arguments.reproject.removeprefix('EPSG:')}")
    if arguments.resolution is not None and not 0 < arguments.resolution < math.inf:
        raise UsageError(f"--resolution {arguments.resolution:g}: give metres, more than 0")
    if arguments.patch is not None and arguments.patch < 1:
        raise UsageError(f"--patch {arguments.patch}: give at least 1 pixel")
    if (arguments.mask is None) != (arguments.mask_classes is None):
        raise UsageError("--mask and --mask-classes come together; give both")
    if arguments.classes is not None and arguments.label_kind != "class":
        raise UsageError("--classes names the classes of --label-kind class")
    if (arguments.label_column is None) != (arguments.label_kind is None):
        raise UsageError("--label-column and --label-kind come together; give both")
    if arguments.items and (arguments.attributes or arguments.files):
        raise UsageError("--attributes and --files go with --root; the table has its own columns")
    columns = (arguments.time_column, arguments.split_column, arguments.label_column)
    if arguments.root and not arguments.attributes and any(columns):
        raise UsageError("--time-column, --split-column and --label-column need --attributes TABLE")
    if arguments.time is not None:
        if arguments.time_column:
            raise UsageError("--time and --time-column contradict each other; give one")
        parse_time("--time", arguments.time)


def _check_system(crs: str) -> None:
    from rasterio.errors import CRSError

    try:
        raster_io.metres_a_unit(crs)
    except CRSError:
        raise UsageError(f"--reproject: PROJ knows no {crs}; give an EPSG number") from None


def _items(arguments: Namespace, wanted: Wanted, problems: list[str]) -> list[Item]:
    bands = _mapping(arguments.bands) if arguments.bands else None
    given = list(bands or (name.strip() for name in arguments.band_order.split(",")))
    order = [band.name for band in source_of(wanted).select(given)]  # in the sensor's spelling
    if bands:
        bands = dict(zip(order, bands.values(), strict=True))
    stac = arguments.items is not None and arguments.items.suffix.lower() in STAC
    columns = Columns(
        item=arguments.item_column,
        href=arguments.href_column,
        band=arguments.band_column or ("band" if stac else None),
        time=arguments.time_column or ("datetime" if stac and arguments.time is None else None),
        split=arguments.split_column,
        label=arguments.label_column,
    )
    if arguments.items is not None:
        items = in_table(arguments.items, columns, bands or order, arguments.mask, problems)
    else:
        if not arguments.root.is_dir():
            raise FMError(f"{arguments.root}: no such folder")
        if bands:
            items = in_tree(arguments.root, bands, arguments.mask, problems)
        elif arguments.mask:
            raise UsageError("--mask in a tree needs --bands; multi-band files: use --items TABLE")
        else:
            items = multiband_in_tree(arguments.root, arguments.files, order)
        if arguments.attributes:
            rows = read_rows(arguments.attributes)
            items = with_attributes(items, arguments.attributes, rows, columns, problems)
    if not items and not problems:
        raise FMError(f"{arguments.root or arguments.items}: no files of that description")
    if arguments.time is not None:
        items = [dataclasses.replace(item, time=arguments.time) for item in items]
    for item in items:
        try:
            parse_time(item.name, item.time)
        except FMError as error:
            problems.append(str(error))
    return items


def _mapping(text: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for part in text.split(","):
        band, equals, name = part.strip().partition("=")
        if not equals or not name or band in result or name in result.values():
            raise UsageError(f"--bands {part.strip()}: write BAND=NAME, each band and name once")
        result[band] = name
    return result


def _wanted(arguments: Namespace) -> Wanted:
    crs = arguments.reproject
    label = {}
    if arguments.mask is not None:
        classes = tuple(name.strip() for name in arguments.mask_classes.split(","))
        label = {"classes": LabelInfo("classes", "mask", classes, arguments.mask_ignore, MASK)}
    return Wanted(
        sensor=arguments.sensor,
        sensor_file=arguments.sensor_file,
        scale=arguments.scale,
        offset=arguments.offset,
        nodata=arguments.nodata,
        gsd=arguments.gsd,
        patch=arguments.patch,
        crs=None if crs is None else f"EPSG:{crs.removeprefix('EPSG:')}",
        resolution=arguments.resolution,
        resampling=arguments.resampling,
        mask_ignore=arguments.mask_ignore,
        mask_label=label,
    )


def _paths(item: Item) -> list[str]:
    paths = {path for path, _ in item.files.values()}
    return sorted(paths | ({item.mask} if item.mask else set()))


def _files(task: Task) -> list[str]:
    return [name for path in _paths(task.item) for name in (path, f"{path}.msk")]


def _headers(items: Sequence[Item], problems: list[str]) -> dict[str, Header]:
    """Read the headers of all files; unreadable ones go to `problems`."""

    def one(path: str) -> Header | str:
        try:
            return raster_io.header(path)
        except FMError as error:
            return str(error)

    paths = list(dict.fromkeys(path for item in items for path in _paths(item)))
    found: dict[str, Header] = {}
    with ThreadPoolExecutor(4) as pool, progress("reading headers", len(paths)) as bar:
        for path, header in zip(paths, pool.map(one, paths), strict=True):
            if isinstance(header, str):
                problems.append(header)
            else:
                found[path] = header
            bar.advance()
    return found


def _labels(
    arguments: Namespace, items: Sequence[Item], problems: list[str]
) -> tuple[dict[str, LabelInfo], list[Item]]:
    """Declare the label column and turn its cells into what a sample takes."""
    kind = arguments.label_kind
    if kind is None:
        return {}, [dataclasses.replace(item, stated={}) for item in items]
    path = arguments.items or arguments.attributes
    names = arguments.classes
    classes = None if names is None else table.parse_classes(names.removeprefix(f"{LABEL}="))
    cells = [item.label for item in items]
    before = len(problems)
    info = table.label_info(path, LABEL, kind, cells, classes, problems)
    if len(problems) > before:
        return {}, []
    result = []
    for item in items:
        try:
            value = table.label_value(item.label, info)
            if value is not None:
                value = check_label(item.name, value, info)
        except FMError as error:
            problems.append(f"{item.name}: {error}")
            continue
        result.append(dataclasses.replace(item, label=value, stated={}))
    return {LABEL: info}, result


def _tasks(items: Sequence[Item], plan: Plan, arguments: Namespace) -> list[Task]:
    tasks, keys = [], set()
    for item in items:
        lattice = plan.lattices[item.name]
        fine = lattice.extents[lattice.fine]
        name = re.sub(r"[^A-Za-z0-9_+=@,-]+", "-", item.name).strip("-") or "item"
        if arguments.whole:
            boxes = [(fine.top, fine.left, fine.height, fine.width)]
        else:
            side = arguments.patch
            boxes = [(row, column, side, side) for row, column in lattice.patches(side)]
        for box in boxes:
            place = f"_{box[0] - fine.top:05d}_{box[1] - fine.left:05d}"
            key = name if arguments.whole else name + place
            if key in keys:
                raise FMError(f"items {item.name} and another both make samples {key}; rename one")
            keys.add(key)
            warps = plan.warps.get(item.name, {})
            masked = frozenset() if warps else plan.masked[item.name]
            crs = plan.systems[item.name]
            whole = bool(arguments.whole)
            tasks.append(Task(key, item, lattice, crs, warps, masked, box, whole))
    return tasks


def _sample(
    modalities: Mapping[str, Sequence[str]],
    recipes: Mapping[str, declare.Recipe],
    labelled: bool,
    ignore: int | None,
    task: Task,
) -> Sample:
    def plane(band: str, path: str, index: int, missing: int | None) -> np.ndarray:
        extent = task.lattice.extents[band]
        box = (0, 0, extent.height, extent.width)
        if not task.whole:
            box = extent.window(*task.box[:3])
        if path in task.masked:
            return read_masked(path, index, box, missing)
        return raster_io.read_window(path, index, box, task.warps.get(band))

    arrays = {}
    for modality, bands in modalities.items():
        recipe = recipes[modality]
        planes = [
            plane(band, *task.item.files[band], recipe.number(place))
            for place, band in enumerate(bands)
        ]
        where = f"{task.item.name}, {modality}"
        arrays[modality] = declare.apply(recipe, np.stack(planes), where)
    if task.item.mask is not None:
        arrays[MASK] = plane(MASK, task.item.mask, 1, ignore)
    fine = task.lattice.extents[task.lattice.fine]
    row, column, height, width = task.box
    centre = row + height / 2, column + width / 2
    return Sample(
        key=task.key,
        arrays=arrays,
        lonlat=raster_io.lonlat_at(task.lattice.transform, task.crs, *centre),
        time=task.item.time,
        split=task.item.split,
        labels={LABEL: task.item.label} if labelled else {},
        window=(row - fine.top, column - fine.left, height, width),
        crs=task.crs,
        transform=raster_io.moved(task.lattice.transform, row, column),
        valid_fraction=None,
    )
