"""Cubes of xarray (NetCDF, Zarr) with x, y, perhaps time, and bands as variables or a dimension.

A cube is cut in space into squares and in time into runs of `--steps`; with one step a sample is
`[C, H, W]` with a time, with more `[T, C, H, W]` with times. What the file states by the CF
conventions (`shards.sources.cube_cf`) is taken; where an option or the sensor's table says
something else, the build stops. Several cubes of one place become several modalities of one
sample: their upper left corners coincide and their pixels divide each other.

Variables are given in the order of the bands: `--variables B2,B3 --bands B02,B03`. With bands along
a dimension the labels there decide the order where they are text, and wavelengths there must agree
with the sensor's.
"""

import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from fm.console import note
from fm.errors import FMError, UsageError
from fm.geo import lonlat_of
from shards.format import LabelInfo, check_dataset_name, check_key, check_member
from shards.sample import Sample
from shards.sources import cube_cf, declare
from shards.sources.base import Content
from shards.sources.cube_layers import (
    Layer,
    align,
    contents,
    find_layer,
    join,
    read_pixels,
    times_of,
)
from shards.sources.declare import Recipe
from shards.sources.sensor_file import listed

HELP = "xarray cubes: NetCDF files and Zarr folders, cut in space and time (eofm[cube])"
EXAMPLE = (
    "fm shards build cube --modality s2=cube.nc --variables B2,B3,B4,B8 --sensor sentinel2-l2a "
    "--bands B02,B03,B04,B08 --patch 64 --out data/cube"
)


@dataclass(frozen=True)
class Cut:
    """One sample: a square of the finest grid, and a run of steps."""

    key: str
    row: int
    column: int
    step: int


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--name", help="name of the dataset (default: the first cube's)")
    parser.add_argument("--licence", default="not stated", help="licence of the data")
    parser.add_argument(
        "--modality",
        action="append",
        required=True,
        metavar="NAME=CUBE",
        help="a NetCDF file or Zarr folder; may come several times for cubes of one place",
    )
    parser.add_argument(
        "--variables",
        action="append",
        default=[],
        metavar="[MODALITY=]X",
        help="variables in the order of --bands, or the one that has a band dimension",
    )
    parser.add_argument(
        "--mask",
        action="append",
        default=[],
        metavar="LABEL=VARIABLE",
        help="a mask label, a variable of the first cube (with --steps 1); see --classes",
    )
    parser.add_argument(
        "--classes",
        action="append",
        default=[],
        metavar="LABEL=a,b,c",
        help="names of the mask's numbers from 0 on",
    )
    parser.add_argument(
        "--dim",
        action="append",
        default=[],
        metavar="AXIS=NAME",
        help="name of the dimension x, y, time or band, where it cannot be told",
    )
    parser.add_argument("--crs", help="coordinate system, where the file states none (EPSG:32618)")
    parser.add_argument(
        "--patch", type=int, required=True, help="side of a sample in pixels of the finest cube"
    )
    parser.add_argument(
        "--steps", type=int, default=1, help="consecutive times in a sample (default 1)"
    )
    parser.add_argument(
        "--ignore-units", action="store_true", help="do not compare units with the sensor's"
    )
    declare.add_options(parser)


def read(arguments: Namespace) -> Content:
    """Open the cubes, compare what they state with the options, and place the samples.

    Raises:
        UsageError: options that contradict each other.
        FMError: a list of what is wrong with the cubes.
    """
    if arguments.patch < 1 or arguments.steps < 1:
        raise UsageError("--patch and --steps: give at least 1")
    files = {
        check_member(k): Path(v) for k, v in declare.pairs("--modality", arguments.modality).items()
    }
    name = arguments.name or re.sub(r"[^A-Za-z0-9_-]+", "-", next(iter(files.values())).stem)
    check_dataset_name(name)
    dims = declare.pairs("--dim", arguments.dim)
    if unknown := set(dims) - {"x", "y", "time", "band"}:
        raise UsageError(f"--dim {min(unknown)}: axes are x, y, time and band")
    variables = dict(declare.split_options("--variables", arguments.variables, list(files)))
    options = declare.given(arguments, list(files))
    problems: list[str] = []
    layers: dict[str, Layer] = {}
    recipes: dict[str, Recipe] = {}
    for modality, path in files.items():
        try:
            if modality not in variables:
                raise FMError(f"--variables is missing for {modality}: {contents(path)}")
            wanted = tuple(part.strip() for part in variables[modality].split(","))
            layer = find_layer(modality, path, wanted, dims, arguments.crs)
            recipe, order = join(layer, options[modality], arguments.ignore_units, problems)
        except FMError as error:
            problems.append(str(error))
            continue
        layers[modality] = replace(layer, order=order)
        if recipe is not None:
            recipes[modality] = recipe
    if problems:
        raise FMError(listed(problems))
    layers = align(layers, arguments.patch)
    times = times_of(layers)
    masks, labels = _masks(arguments, next(iter(layers.values())), dims)
    first = min(layers.values(), key=lambda layer: layer.factor)
    runs = range(0, len(times) - arguments.steps + 1, arguments.steps) if times else range(1)
    if not times and arguments.steps > 1:
        raise FMError(f"{first.path}: has no time; do without --steps")
    side = arguments.patch
    tasks = [
        Cut(
            check_key(f"{name}_{row:05d}_{column:05d}" + (_stamp(times[step]) if times else "")),
            row,
            column,
            step,
        )
        for row in range(0, first.grid.height - side + 1, side)
        for column in range(0, first.grid.width - side + 1, side)
        for step in runs
    ]
    if not tasks:
        raise FMError(f"{first.path}: no square of {side} px and run of {arguments.steps} steps")
    if times and len(times) % arguments.steps:
        note(
            f"{first.path}: the last {len(times) % arguments.steps} of {len(times)} times are over"
        )
    return Content(
        name=name,
        tasks=tasks,
        make=partial(
            make,
            layers=(*layers.values(), *masks),
            recipes=recipes,
            times=tuple(times),
            steps=arguments.steps,
            side=side,
        ),
        files=partial(_files, tuple(path for path in files.values() if path.is_file())),
        modalities={modality: recipe.declared for modality, recipe in recipes.items()},
        labels=labels,
        provenance={
            "source": "cube",
            "cubes": {modality: path.name for modality, path in files.items()},
            "variables": {layer.name: list(layer.variables) for layer in layers.values()},
            "patch": side,
            "steps": arguments.steps,
        },
        licence=arguments.licence,
    )


def _files(paths: Sequence[Path], cut: Cut) -> Sequence[Path]:
    return paths  # every sample is cut from all of them


def make(
    cut: Cut,
    *,
    layers: Sequence[Layer],
    recipes: Mapping[str, Recipe],
    times: Sequence[str],
    steps: int,
    side: int,
) -> Sample:
    """Read one sample.

    Raises:
        FMError: values that cannot be in their bands' units.
    """
    arrays = {}
    for layer in layers:
        pixels = read_pixels(layer, cut.row, cut.column, cut.step, steps, side)
        if layer.name in recipes:
            if not times or steps == 1:
                pixels = pixels[0]
            pixels = declare.apply(recipes[layer.name], pixels, f"sample {cut.key}: {layer.name}")
        else:
            pixels = pixels[0, 0]
        arrays[layer.name] = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    grid = next(layer.grid for layer in layers if layer.factor == 1)
    west, north = grid.west + cut.column * grid.step, grid.north - cut.row * grid.step
    half = side * grid.step / 2
    lon, lat = lonlat_of(west + half, north - half, grid.crs)
    taken = tuple(times[cut.step : cut.step + steps])
    return Sample(
        key=cut.key,
        arrays=arrays,
        lonlat=(float(lon), float(lat)),
        time=taken[0] if taken else None,
        times=taken if steps > 1 else None,
        window=(cut.row, cut.column, side, side),
        crs=grid.crs,
        transform=(grid.step, 0.0, west, 0.0, -grid.step, north),
    )


def _masks(
    arguments: Namespace, first: Layer, dims: Mapping[str, str]
) -> tuple[list[Layer], dict[str, LabelInfo]]:
    classes = declare.pairs("--classes", arguments.classes)
    layers, labels = [], {}
    for label, variable in declare.pairs("--mask", arguments.mask).items():
        if arguments.steps > 1:
            raise UsageError("--mask: a mask is [H, W], so it needs --steps 1")
        if label not in classes:
            raise FMError(f"--mask {label}: name its classes with --classes {label}=...")
        layer = find_layer(f"{label}_mask", first.path, (variable,), dims, arguments.crs)
        kind = cube_cf.open_cube(first.path)[variable].dtype
        if layer.dims[1] is not None or kind.kind not in "iu":
            raise FMError(f"{first.path}: {variable} is no mask of whole numbers without bands")
        layers.append(replace(layer, factor=first.factor))
        names = tuple(name.strip() for name in classes[label].split(","))
        labels[label] = LabelInfo(check_member(label), "mask", names, member=layer.name)
    return layers, labels


def _stamp(time: str) -> str:
    digits = re.sub(r"[^0-9T]", "", time)
    return f"_{digits[:8]}" if digits.endswith("T000000") else f"_{digits}"
