"""What the headers of rasters say, against what the user said: grids, numbers, units."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fm import sensors
from fm.errors import FMError, UsageError
from fm.sensors import Band
from shards.format import check_member
from shards.sources import declare, raster_io
from shards.sources.declare import Given, Recipe
from shards.sources.lattice import Lattice, align, north_up
from shards.sources.raster_io import Header, Warp
from shards.sources.raster_items import MASK, Item
from shards.sources.raster_masks import has_alpha, masked_files, warped_by_alpha, without_numbers
from shards.sources.raster_warp import Wanted, numbers_of_edges, target_grids
from shards.sources.sensor_file import SensorFile, read_sensor_file

SPELLINGS = {
    "reflectance": ("reflectance", "1", "unitless", "none", "-"),
    "dn": ("dn", "digital number", "digital numbers", "1", "none"),
    "db": ("db", "decibel", "decibels"),
    "k": ("k", "kelvin"),
}
"""GDAL unit types that mean a band's unit."""


@dataclass(frozen=True)
class Plan:
    """How items are read.

    Attributes:
        items: those that can be.
        modalities: modality to its bands, in table order.
        recipes: by modality.
        lattices: by item.
        systems: item to the coordinate system of its lattice.
        warps: item to band to target grid; empty when nothing is reprojected.
        masked: item to the files that tell by a mask where they have data.
    """

    items: Sequence[Item]
    modalities: Mapping[str, tuple[str, ...]]
    recipes: Mapping[str, Recipe]
    lattices: Mapping[str, Lattice]
    systems: Mapping[str, str]
    warps: Mapping[str, Mapping[str, Warp]]
    masked: Mapping[str, frozenset[str]]


def source_of(wanted: Wanted) -> sensors.Sensor | SensorFile:
    """The sensor that the user named or described."""
    if wanted.sensor:
        return sensors.sensor(wanted.sensor)
    return read_sensor_file(Path(wanted.sensor_file or ""))


def survey(
    items: Sequence[Item], headers: Mapping[str, Header], wanted: Wanted, problems: list[str]
) -> Plan:
    """Check all items against each other and against the user's words.

    Args:
        items: with all their files readable.
        headers: by path.
        wanted: the user's words.
        problems: gains a line for everything that contradicts.

    Raises:
        UsageError: unknown sensor or bands, or a patch that is no whole number of coarse pixels.
    """
    if not items:
        return Plan((), {}, {}, {}, {}, {}, {})
    source = source_of(wanted)
    table = source.table if isinstance(source, SensorFile) else source.bands
    names = {band.name for band in source.select(items[0].files)}
    bands = [band for band in table if band.name in names]
    _same_types(items, headers, bands, problems)
    good, lattices, systems, warps = [], {}, {}, {}
    for item in items:
        try:
            grids = _grids(item, headers)
            if wanted.crs is not None:
                warps[item.name] = target_grids(grids, bands, wanted)
                grids = {
                    name: replace(
                        grids[name],
                        crs=warp.crs,
                        transform=warp.transform,
                        height=warp.height,
                        width=warp.width,
                    )
                    for name, warp in warps[item.name].items()
                }
            lattices[item.name] = _lattice(item, grids, whole=wanted.patch is None)
            systems[item.name] = str(next(iter(grids.values())).crs)
            good.append(item)
        except UsageError:
            raise
        except FMError as error:
            problems.append(f"{item.name}: {error}")
    if not good:
        return Plan((), {}, {}, {}, {}, {}, {})
    _same_grids(good, lattices, systems, problems)
    first = lattices[good[0].name]
    if wanted.patch is not None and wanted.patch % first.step:
        raise UsageError(
            f"--patch {wanted.patch}: give a multiple of {first.step}, so that the coarsest grid "
            "has whole pixels in it"
        )
    modalities, recipes = {}, {}
    for ratio in sorted({first.extents[band.name].ratio for band in bands}):
        group = [band for band in bands if first.extents[band.name].ratio == ratio]
        gsd = _gsd(first, systems[good[0].name], ratio, wanted)
        name = _name(source, group, gsd, alone=len(group) == len(bands))
        recipe = _recipe(name, group, gsd, good, headers, wanted, source, problems)
        modalities[name] = tuple(band.name for band in group)
        if recipe is not None:
            recipes[name] = recipe
    masked = {item.name: masked_files(item, headers) for item in good}
    problems += without_numbers(good, headers, recipes, wanted)
    if wanted.crs is not None and len(recipes) == len(modalities):
        try:
            fill = numbers_of_edges(good[0], headers, modalities, recipes, wanted)
        except FMError as error:
            problems.append(str(error))
        else:
            for item in good:
                alphas = warped_by_alpha(item, headers)
                warps[item.name] = {
                    name: replace(
                        warp,
                        missing=fill[name][0],
                        fill=fill[name][1],
                        alpha=name in alphas,
                    )
                    for name, warp in warps[item.name].items()
                }
    return Plan(good, modalities, recipes, lattices, systems, warps, masked)


def _grids(item: Item, headers: Mapping[str, Header]) -> dict[str, Header]:
    grids = {band: headers[path] for band, (path, _) in item.files.items()}
    for band, (path, index) in item.files.items():
        if index > headers[path].count:
            raise FMError(f"{path}: {headers[path].count} bands, no place {index} for {band}")
    alone = {path for path, _ in item.files.values()}
    for path in alone:
        named = sum(1 for other, _ in item.files.values() if other == path)
        if headers[path].count - has_alpha(headers[path], item.files.values()) != named:
            raise FMError(f"{path}: {headers[path].count} bands, {named} of them named")
    if item.mask is not None:
        mask = headers[item.mask]
        if mask.count != 1 or "float" in mask.dtypes[0]:
            raise FMError(f"{item.mask}: a mask is one band of integers")
        grids[MASK] = mask
    return grids


def _lattice(item: Item, grids: Mapping[str, Header], *, whole: bool) -> Lattice:
    for grid in grids.values():
        if reason := north_up(grid):
            raise FMError(f"{grid.path}: {reason}")
    found: dict[str, str] = {}
    for name, grid in grids.items():
        found.setdefault(str(grid.crs)[:60], name)
    if len(found) > 1:
        mixed = ", ".join(f"{name} in {crs}" for crs, name in found.items())
        raise FMError(f"bands in different coordinate systems: {mixed}; --reproject brings them")
    lattice = align(grids)
    if MASK in grids and lattice.extents[MASK].ratio != 1:
        raise FMError(f"{item.mask}: the mask is not on the finest grid")
    if whole:
        fine = lattice.extents[lattice.fine]
        for name, e in lattice.extents.items():
            edges = [(e.left, fine.left), (e.top, fine.top), (e.right, fine.right)]
            if any(one != other for one, other in (*edges, (e.bottom, fine.bottom))):
                raise FMError(
                    f"{grids[name].path}: covers other ground than {grids[lattice.fine].path}; "
                    "cut patches with --patch"
                )
    return lattice


def _same_types(
    items: Iterable[Item],
    headers: Mapping[str, Header],
    bands: Sequence[Band],
    problems: list[str],
) -> None:
    first: dict[str, str] = {}
    for item in items:
        for band in bands:
            path, index = item.files[band.name]
            if index <= headers[path].count:
                dtype = headers[path].dtypes[index - 1]
                if first.setdefault(band.name, dtype) != dtype:
                    problems.append(
                        f"{path}: {dtype} pixels, others of {band.name} are " + first[band.name]
                    )


def _same_grids(
    items: Sequence[Item],
    lattices: Mapping[str, Lattice],
    systems: Mapping[str, str],
    problems: list[str],
) -> None:
    """All items must have the pixel sizes of the first."""

    def pixel(name: str) -> tuple[str, float]:
        factor = raster_io.metres_a_unit(systems[name])
        width = lattices[name].transform[0]
        return ("degrees", width) if factor is None else ("m", width * factor)

    reference = items[0].name
    ratios = {name: extent.ratio for name, extent in lattices[reference].extents.items()}
    for item in items[1:]:
        found = {name: extent.ratio for name, extent in lattices[item.name].extents.items()}
        if found != ratios:
            problems.append(
                f"{item.name}: its bands have other relative pixel sizes than {reference}'s"
            )
        one, other = pixel(item.name), pixel(reference)
        if one[0] != other[0] or abs(one[1] - other[1]) > 0.01 * other[1]:
            problems.append(
                f"{item.name}: finest pixels of {one[1]:g} {one[0]}, {reference} has "
                f"{other[1]:g} {other[0]}; bring them to one size with --reproject, or build two "
                "datasets"
            )


def _gsd(lattice: Lattice, crs: str, ratio: int, wanted: Wanted) -> float | None:
    """Metres a pixel, as the geotransform says; for degrees as the user says."""
    factor = raster_io.metres_a_unit(crs)
    if factor is None:
        return None if wanted.gsd is None else wanted.gsd * ratio
    return lattice.transform[0] * factor * ratio


def _name(
    source: sensors.Sensor | SensorFile, group: Sequence[Band], gsd: float | None, *, alone: bool
) -> str:
    """Name of a modality: the sensor's own when the bands are on their native grid."""
    native = {band.modality for band in group}
    as_made = gsd is None or all(abs(band.gsd_m - gsd) < 0.01 * gsd for band in group)
    if isinstance(source, SensorFile):
        letters = [c if c.isalnum() and c.isascii() else "_" for c in source.name.lower()]
        family = "".join(letters).strip("_") or "rasters"
        family = family if family[0].isalpha() else f"s{family}"
    elif len(native) == 1 and as_made:
        return native.pop()
    else:
        family = group[0].modality.rpartition("_")[0]
    metres = gsd if gsd is not None else group[0].gsd_m
    resampled = "" if isinstance(source, SensorFile) else "_resampled"
    return check_member(family if alone else f"{family}{resampled}_{metres:g}".replace(".", "p"))


def _recipe(
    name: str,
    group: Sequence[Band],
    gsd: float | None,
    items: Sequence[Item],
    headers: Mapping[str, Header],
    wanted: Wanted,
    source: sensors.Sensor | SensorFile,
    problems: list[str],
) -> Recipe | None:
    """What the numbers of a modality mean; every file's own tags must agree with it."""
    files = [(headers[path], index - 1, band) for item in items
             for band in group for path, index in (item.files[band.name],)]  # fmt: skip
    dtypes = {header.dtypes[place] for header, place, _ in files}
    if len(dtypes) > 1:
        problems.append(f"modality {name}: bands of {', '.join(sorted(dtypes))} on one grid")
        return None
    floating = next(iter(dtypes)).startswith("float")
    stated = {(header.scales[place], header.offsets[place]) for header, place, _ in files}
    scale, offset, nodata = wanted.scale, wanted.offset, wanted.nodata
    silent = isinstance(source, SensorFile) and source.scale is None
    unsaid = (1.0, 0.0)  # GDAL's way of saying nothing
    if (scale, offset) == (None, None) and stated != {unsaid} and (floating or silent):
        if len(stated) > 1:
            said = {header.path: (header.scales[place], header.offsets[place])
                    for header, place, _ in files}  # fmt: skip
            problems.extend(
                f"{path}: states "
                + ("no scale" if pair == unsaid else "scale {:g} and offset {:g}".format(*pair))
                + f", other files of {name} state another; give --scale and --offset"
                for path, pair in said.items()
            )
            return None
        scale, offset = (repr(value) for value in next(iter(stated)))
    if nodata is None and not (isinstance(source, SensorFile) and source.nodata is not None):
        nodata = _stated_nodata(files, floating)
    native = {band.gsd_m for band in group}
    resampled = gsd is not None and any(abs(g - gsd) > 0.01 * gsd for g in native)
    options = Given(
        modality=name,
        sensor=wanted.sensor,
        sensor_file=wanted.sensor_file,
        bands=",".join(band.name for band in group),
        scale=scale,
        offset=offset,
        nodata=nodata,
        gsd=repr(gsd) if resampled else None,
    )
    recipe = declare.resolve(options, next(iter(dtypes)), problems)
    if recipe is not None:
        _agree(recipe, files, problems)
    return recipe


def _stated_nodata(files: Sequence[tuple[Header, int, Band]], floating: bool) -> str | None:
    """No-data as all files state it, a band each; None when some do not or they differ."""
    by_band: dict[str, set[float | None]] = {}
    for header, place, band in files:
        by_band.setdefault(band.name, set()).add(header.nodata[place])
    values = [next(iter(found)) if len(found) == 1 else None for found in by_band.values()]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return None
    if floating:
        same = len(set(numbers)) == 1 and not math.isnan(numbers[0])
        return repr(numbers[0]) if same else None
    return ",".join(f"{value:.0f}" for value in numbers)


def _agree(recipe: Recipe, files: Sequence[tuple[Header, int, Band]], problems: list[str]) -> None:
    """List every file whose own tags say something else than the recipe."""
    declared = recipe.declared
    floating = files[0][0].dtypes[files[0][1]].startswith("float")
    scale, offset = declared.scale, declared.offset
    if floating:
        scale, offset = (1.0 if recipe.scale is None else recipe.scale), recipe.offset
    scale, offset = scale or 1.0, offset or 0.0
    for header, place, band in files:
        where = f"{header.path}: {band.name}"
        said = header.scales[place], header.offsets[place]
        if said != (1.0, 0.0) and not _close(said, (scale, offset)):
            problems.append(
                f"{where} states scale {said[0]:g} and offset {said[1]:g}, but {scale:g} and "
                f"{offset:g} were declared"
            )
        unit, meant = header.units[place], band.unit.lower()
        if unit is not None and unit.lower() not in SPELLINGS.get(meant, (meant,)):
            problems.append(f"{where} states the unit {unit!r}, the band's is {band.unit!r}")
        missing = header.nodata[place]
        if missing is None or math.isnan(missing):
            continue
        if floating:
            known: float | None = recipe.nodata
        else:
            known = recipe.number([b.name for b in recipe.table].index(band.name))
        if known is None or float(known) != missing:
            problems.append(f"{where} states no-data {missing:g}, but {known} was declared")


def _close(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(
        math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12) for a, b in zip(one, other, strict=True)
    )
