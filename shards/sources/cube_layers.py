"""Layers of a cube: which variables on which grid, what file and options say together, and reading.

A layer is one modality or mask. `join` is where what the file states meets what the user says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import FMError
from shards.sources import cube_cf, declare
from shards.sources.cube_cf import Grid
from shards.sources.declare import Given, Recipe


@dataclass(frozen=True)
class Layer:
    """One modality or mask of a cube.

    Attributes:
        name: of the modality or mask.
        path: of the cube.
        variables: in band order; one when the bands are a dimension, or for a mask.
        dims: names of the time (or None), band (or None), y and x dimensions.
        order: places along the band dimension, in band order.
        grid: of the cube.
        factor: pixels of the finest grid to one of this.
    """

    name: str
    path: Path
    variables: tuple[str, ...]
    dims: tuple[str | None, str | None, str, str]
    order: tuple[int, ...]
    grid: Grid
    factor: int = 1


def contents(path: Path) -> str:
    """Say which variables a cube has, with their dimensions."""
    cube = cube_cf.open_cube(path)
    found = (f"{name} {tuple(cube[name].sizes)}" for name in cube.data_vars)
    return f"{path} holds " + ", ".join(found)


def find_layer(
    name: str, path: Path, variables: tuple[str, ...], dims: Mapping[str, str], crs: str | None
) -> Layer:
    """Find the dimensions and the grid of some variables."""
    cube = cube_cf.open_cube(path)
    for variable in variables:
        if variable not in cube.data_vars:
            raise FMError(f"{path}: no variable {variable!r}; it {contents(path).split(' ', 1)[1]}")
    x, y = (cube_cf.dimension(path, cube, axis, dims.get(axis)) for axis in ("x", "y"))
    if x is None or y is None:
        raise FMError(f"{path}: dimensions {tuple(cube.sizes)}; say --dim x=NAME --dim y=NAME")
    time = cube_cf.dimension(path, cube, "time", dims.get("time"))
    shapes = {cube[variable].dims for variable in variables}
    if len(shapes) > 1:
        raise FMError(f"{path}: variables of different dimensions: {sorted(map(str, shapes))}")
    (have,) = shapes
    time = time if time in have else None
    rest = [str(dim) for dim in have if dim not in (x, y, time)]
    if x not in have or y not in have or len(rest) > 1 or (rest and len(variables) > 1):
        raise FMError(f"{path}: {variables[0]} has dimensions {have}, beside {y}, {x}, {time}")
    if "band" in dims and rest != [dims["band"]]:
        raise FMError(f"{path}: {variables[0]} has no dimension {dims['band']!r}, only {have}")
    return Layer(
        name,
        path,
        variables,
        (time, rest[0] if rest else None, y, x),
        (),
        cube_cf.grid(path, cube, x, y, variables[0], crs),
    )


def join(
    layer: Layer, options: Given, ignore_units: bool, problems: list[str]
) -> tuple[Recipe | None, tuple[int, ...]]:
    """Join what the file states and what the options say; also the order along a band dimension."""
    cube = cube_cf.open_cube(layer.path)
    stated = [cube_cf.stated(layer.path, cube, variable) for variable in layer.variables]
    kinds = {cube[variable].dtype.name for variable in layer.variables}
    where = f"{layer.path}: {layer.name}"
    if len(kinds) > 1:
        raise FMError(f"{where}: variables of different types: {sorted(kinds)}")
    filled = options
    scaled = any(item.scale is not None for item in stated)
    for key, neutral in (("scale", 1.0), ("offset", 0.0)):
        values = {getattr(item, key) for item in stated}
        told = getattr(options, key)
        # CF conventions 8.1: a scale without an offset has an offset of 0
        if values == {None} and (key == "scale" or not scaled or told is not None):
            continue
        numbers = {neutral if value is None else value for value in values}
        if len(numbers) > 1:
            raise FMError(f"{where}: variables of different {key}: {sorted(numbers)}")
        number = numbers.pop()
        known = _known(options, key) if told is None else float(told)
        if known is not None and not np.isclose(known, number, rtol=1e-6, atol=1e-12):
            source = f"--{key}" if told is not None else "the sensor"
            states = f"states {key} {number:g}"
            if values == {None}:
                states = f"states no {key}, which is {number:g} by CF (--{key} says another)"
            raise FMError(f"{where}: {states}, {source} says {known:g}")
        filled = replace(filled, **{key: repr(number if known is None else known)})
    fills = [item.nodata for item in stated]
    if any(fill is not None for fill in fills):
        floats = next(iter(kinds)).startswith("float")
        text = _fills(where, fills, floats, layer)
        if options.nodata is not None and _plain(options.nodata) != _plain(text):
            raise FMError(f"{where}: states no-data {text}, --nodata says {options.nodata}")
        filled = replace(filled, nodata=text)
    recipe = declare.resolve(filled, kinds.pop(), problems)
    if recipe is None:
        return None, ()
    if not ignore_units:
        units = [band.unit for band in recipe.table]
        for variable, item in zip(layer.variables, stated, strict=True):
            wrong = cube_cf.unit_problem(item.units, units)
            if wrong:
                problems.append(f"{layer.path}: {variable}: {wrong}; see --ignore-units")
    band = layer.dims[1]
    if band is None:
        if len(layer.variables) != len(recipe.table):
            raise FMError(
                f"{where}: {len(layer.variables)} variables, {len(recipe.table)} bands are named"
            )
        order: tuple[int, ...] = ()
    else:
        order = _order(where, cube, band, recipe)
    step = layer.grid.step
    gsd = recipe.declared.gsd_m or recipe.table[0].gsd_m
    if layer.grid.geographic and options.gsd is None:
        problems.append(f"{where}: pixels of {step:g} degrees; say with --gsd how many metres")
    elif not layer.grid.geographic and abs(step - gsd) > 0.01 * gsd:
        problems.append(
            f"{where}: pixels of {step:g} m, the bands have {gsd:g} m; say it with --gsd"
        )
    return recipe, order


def _known(options: Given, key: str) -> float | None:
    """What the declared sensor says of scale or offset."""
    from fm import sensors
    from shards.sources.sensor_file import read_sensor_file

    if options.sensor is not None:
        return float(getattr(sensors.sensor(options.sensor), key))
    if options.sensor_file is not None:
        value = getattr(read_sensor_file(options.sensor_file), key)
        return None if value is None else float(value)
    return None


def _fills(where: str, fills: Sequence[float | None], floats: bool, layer: Layer) -> str:
    if floats:
        if len({fill for fill in fills if fill is not None}) > 1:
            raise FMError(f"{where}: variables of different no-data: {fills}")
        return repr(next(fill for fill in fills if fill is not None))
    texts = ["none" if fill is None else str(int(fill)) for fill in fills]
    return texts[0] if layer.dims[1] is not None or len(set(texts)) == 1 else ",".join(texts)


def _plain(text: str) -> set[str]:
    return {part.strip().removesuffix(".0") for part in text.split(",")}


def _order(where: str, cube: Any, band: str, recipe: Recipe) -> tuple[int, ...]:
    """Places along the band dimension of the declared bands.

    Raises:
        FMError: labels, wavelengths or the count contradict the bands.
    """
    count = cube.sizes[band]
    names = [item.name for item in recipe.table]
    labels = np.asarray(cube[band].values) if band in cube.variables else np.arange(count)
    if labels.dtype.kind in "OSU":
        texts = [(t.decode() if isinstance(t, bytes) else str(t)).upper() for t in labels.tolist()]
        missing = [name for name in names if texts.count(name.upper()) != 1]
        if missing:
            raise FMError(f"{where}: {band} has {texts[:12]}, not {', '.join(missing[:5])} once")
        return tuple(texts.index(name.upper()) for name in names)
    if count != len(names):
        raise FMError(f"{where}: {count} places along {band}, {len(names)} bands are named")
    about = cube[band].attrs if band in cube.variables else {}
    if about.get("units") in ("nm", "nanometer", "nanometers", "nanometre", "nanometres"):
        for centre, item in zip(labels.astype(float), recipe.table, strict=True):
            near = max(item.fwhm_nm or 0.0, 5.0) / 2
            if item.wavelength_nm is not None and abs(centre - item.wavelength_nm) > near:
                raise FMError(
                    f"{where}: {centre:g} nm along {band} is not {item.name} "
                    f"({item.wavelength_nm:g} nm)"
                )
    return tuple(range(count))


def align(layers: dict[str, Layer], side: int) -> dict[str, Layer]:
    """Set the factors of cubes of one place.

    Raises:
        FMError: their corners, systems or pixels do not fit.
    """
    fine = min(layers.values(), key=lambda layer: layer.grid.step)
    result = {}
    for name, layer in layers.items():
        a, b = layer.grid, fine.grid
        factor = round(a.step / b.step)
        off = max(abs(a.west - b.west), abs(a.north - b.north)) / b.step
        if a.crs != b.crs or off > 0.01 or abs(a.step - factor * b.step) > 1e-3 * b.step:
            raise FMError(
                f"{layer.path}: not on the grid of {fine.path}: pixels of {a.step:g} and "
                f"{b.step:g}, corners {off:g} px apart, {a.crs[:40]} and {b.crs[:40]}"
            )
        if (a.height * factor, a.width * factor) != (b.height, b.width):
            raise FMError(f"{layer.path}: covers other ground than {fine.path}")
        if side % factor:
            raise FMError(f"{layer.path}: --patch {side} is no multiple of its {factor} px")
        result[name] = replace(layer, factor=factor)
    return result


def times_of(layers: Mapping[str, Layer]) -> list[str]:
    """The steps, as ISO-8601 UTC; empty when the cubes have no time.

    Raises:
        FMError: steps that are no dates, come twice, fall, or differ between the cubes.
    """
    found: list[str] | None = None
    for layer in layers.values():
        times: list[str] = []
        if layer.dims[0] is not None:
            values = np.asarray(cube_cf.open_cube(layer.path)[layer.dims[0]].values)
            if values.dtype.kind != "M" or np.isnat(values).any():
                raise FMError(f"{layer.path}: {layer.dims[0]} holds no dates of the usual calendar")
            if (np.diff(values) <= np.timedelta64(0)).any():
                raise FMError(f"{layer.path}: {layer.dims[0]} does not rise; sort the cube first")
            times = [f"{value}Z" for value in values.astype("datetime64[s]").astype(str)]
        if found is not None and times != found:
            raise FMError(f"{layer.path}: other times than the first cube")
        found = times
    return found or []


def read_pixels(
    layer: Layer, row: int, column: int, step: int, steps: int, side: int
) -> np.ndarray:
    """Read `[T, C, H, W]`, north up."""
    cube = cube_cf.open_cube(layer.path)
    time, band, y, x = layer.dims
    row, column, size = (value // layer.factor for value in (row, column, side))
    rows = slice(row, row + size)
    if layer.grid.flipped:
        rows = slice(layer.grid.height - row - size, layer.grid.height - row)
    place: dict[str, slice] = {y: rows, x: slice(column, column + size)}
    if time is not None:
        place[time] = slice(step, step + steps)
    parts = []
    for variable in layer.variables:
        part = (
            cube.variables[variable]
            .isel(place)
            .transpose(*(dim for dim in layer.dims if dim))
            .values
        )
        if time is None:
            part = part[None]
        if band is None:
            part = part[:, None]
        parts.append(part)
    pixels = np.concatenate(parts, axis=1)
    if layer.order:
        pixels = pixels[:, list(layer.order)]
    return pixels[:, :, ::-1] if layer.grid.flipped else pixels
