"""SSL4EO-S12 v1, the folder layout: `s1|s2a|s2c / location / scene / band.tif` + metadata.json.

Wang et al., "SSL4EO-S12" (arXiv 2211.07044). Bands lie on their native grids: 264, 132 and 44
pixels. They are taken by file name (`B1.tif`, `B8A.tif`, `B10.tif`), never by listing order.

What each fact rests on:

- *Offset.* `PROCESSING_BASELINE` of each scene's metadata.json: from 04.00 on numbers carry -1000,
  unless the scene comes from Earth Engine's `..._HARMONIZED` collections, which take it out.
- *No data.* The release's downloader asks Earth Engine for rectangles with `defaultValue=0`, so
  masked pixels are 0: no data in Sentinel-2 (but for B10, where 0 is also a measurement), and NaN
  here in Sentinel-1, where a backscatter of exactly 0 dB is as good as impossible.
- *Seasons.* The downloader draws, for each location, four windows of 30 days a quarter of a year
  apart and takes one scene of each product from each. So scenes of one location that belong
  together lie within 30 days, and others two months apart: grouping by time finds the windows,
  whatever their names, listing order or calendar year.
- *Place.* Geotransforms are in degrees and approximate: pixels are those of the UTM grid, only the
  corners of a rectangle were turned into degrees. At one real location the 20 m grid begins where
  the 10 m grid does, though its geotransform says half a pixel before; the 60 m grid begins 40 m
  south-east of it (correlation of B09 with B08 0.98 there, 0.69 at the same array index), though
  its geotransform says 25 m north-west. The release cut each grid's centre by itself, so the step
  may differ elsewhere and is not mended here.
"""

import datetime
import os
import re
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fm import sensors
from fm.console import progress
from fm.errors import FMError, UsageError, suggest
from fm.files import read_json
from shards.building.writer import Declared
from shards.format import LabelInfo
from shards.sample import Sample
from shards.sources import raster_io
from shards.sources.base import Content
from shards.sources.sensor_file import listed

HELP = "SSL4EO-S12 as folders of GeoTIFFs (s1, s2a, s2c / location / scene / band.tif)"
EXAMPLE = "fm shards build ssl4eo-s12 --root SSL4EO-S12 --products s1,s2a,s2c --out data/ssl4eo"
LICENCE = "CC-BY-4.0"
PRODUCTS = {"s2c": "sentinel2-l1c", "s2a": "sentinel2-l2a", "s1": "sentinel1-grd"}
"""Folder to sensor, in the order in which a sample's time and place are looked for."""
MASKED = 0.0
SIDES = {10.0: 264, 20.0: 132, 60.0: 44}
APART = datetime.timedelta(days=45)
"""Between the 30 days of a window and the two months to the next one."""
_STAMP = re.compile(r"(?:^|_)(\d{8}T\d{6})(?:_|$)")


@dataclass(frozen=True)
class Scene:
    """One scene of one product at one location."""

    product: str
    name: str
    time: datetime.datetime
    offset: bool


@dataclass(frozen=True)
class Task:
    """One sample: by product, the scenes it is made of (several when it is temporal)."""

    key: str
    location: str
    scenes: tuple[tuple[Scene, ...], ...]


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--root", type=Path, required=True, help="folder that holds s1, s2a, s2c")
    parser.add_argument(
        "--products", required=True, help="which to take, such as s2c or s1,s2a,s2c"
    )
    parser.add_argument(
        "--temporal",
        action="store_true",
        help="one sample a location, [T, C, H, W]; otherwise one sample a location and season",
    )
    parser.add_argument(
        "--skip-incomplete",
        action="store_true",
        help="leave out what lacks a scene or a file (otherwise the build stops with a list)",
    )
    parser.add_argument(
        "--baseline",
        choices=("before-0400", "from-0400"),
        help="keep only Sentinel-2 scenes without, or with, the offset of -1000",
    )


def read(arguments: Namespace) -> Content:
    """List the scenes, check their files and metadata, and group them into seasons."""
    root = arguments.root
    products = _products(arguments.products, root)
    names = sorted({name for product in products for name in _folders(root / product)})
    if not names:
        raise FMError(f"{root}: no location folders in {', '.join(products)}")
    problems: list[str] = []
    scenes: dict[str, list[Scene]] = {}
    with ThreadPoolExecutor(8) as pool, progress("reading metadata", len(names)) as bar:
        for name, (found, wrong) in zip(
            names, pool.map(partial(_scenes, root, products), names), strict=True
        ):
            scenes[name] = found
            problems += wrong
            bar.advance()
    offset = _one_offset(scenes, arguments.baseline, root)
    tasks, unpaired = _tasks(scenes, products, arguments.temporal)
    problems += unpaired
    if problems and not arguments.skip_incomplete:
        raise FMError(
            f"{root}: {listed(problems)}. Mend these, or leave them out with --skip-incomplete"
        )
    if not tasks:
        raise FMError(f"{root}: no complete season of {', '.join(products)} remains")
    described = {product: _sensor(product, offset) for product in products}
    return Content(
        name="ssl4eo-s12",
        tasks=tasks,
        make=partial(_sample, root, tuple(products), bool(arguments.temporal)),
        files=partial(_files, root, tuple(products)),
        modalities={
            modality: _declared(sensor, bands)
            for sensor in described.values()
            for modality, bands in sensor.modalities.items()
        },
        labels={f"scene_{product}": LabelInfo(f"scene_{product}", "text") for product in products},
        provenance={
            "source": "ssl4eo-s12",
            "products": products,
            "temporal": bool(arguments.temporal),
            "left_out": len(problems),
            "left_out_because": problems[:20],
            "baseline": {None: "no Sentinel-2", False: "before 04.00", True: "from 04.00"}[offset],
            "pairing": "scenes of one location that lie within 30 days (a window of the release)",
            "time": f"system:time_start of the scene of {products[0]}",
            "place": "centre of its finest grid; geotransforms in degrees are approximate",
            "registration": "60 m grids may begin some tens of metres off the 10 and 20 m grids",
            "radar": "Earth Engine COPERNICUS/S1_GRD, sigma nought in dB; 0 means masked: NaN",
        },
        licence=LICENCE,
    )


def _products(text: str, root: Path) -> list[str]:
    given = [name.strip() for name in text.split(",") if name.strip()]
    for name in given:
        if name not in PRODUCTS:
            raise UsageError(f"--products: there is no {name!r}; {suggest(name, PRODUCTS)}")
    if not given:
        raise UsageError("--products is empty; name some of s1, s2a, s2c")
    for name in given:
        if not (root / name).is_dir():
            raise FMError(f"{root / name}: no such folder; --root holds s1, s2a, s2c")
    return [name for name in PRODUCTS if name in given]


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    except FileNotFoundError:
        return []


def file_name(band: str) -> str:
    """Name of a band's file: `B01` is `B1.tif`, `B8A` and `B10` keep their names."""
    return band.replace("B0", "B") + ".tif"


def _scenes(root: Path, products: list[str], location: str) -> tuple[list[Scene], list[str]]:
    """Scenes of a location that are whole, and what is wrong with the others."""
    found, problems = [], []
    for product in products:
        wanted = {file_name(band.name) for band in sensors.sensor(PRODUCTS[product]).bands}
        for name in sorted(_folders(root / product / location)):
            folder = root / product / location / name
            where = f"{product}/{location}/{name}"
            try:
                missing = wanted - set(os.listdir(folder))
                if missing:
                    raise FMError(f"no {', '.join(sorted(missing))}")
                found.append(_scene(folder, product))
            except FMError as error:
                problems.append(f"{where}: {str(error).removeprefix(f'{folder}: ')}")
    return found, problems


def _scene(folder: Path, product: str) -> Scene:
    """Read a scene's time and baseline."""
    metadata = read_json(folder / "metadata.json", "metadata")
    if not isinstance(metadata, dict):
        raise FMError("metadata.json is no object")
    stamp = _STAMP.search(folder.name)
    if stamp is None:
        raise FMError("no time such as 20200604T054639 in the scene's name")
    named = datetime.datetime.strptime(stamp[1], "%Y%m%dT%H%M%S").replace(tzinfo=datetime.UTC)
    milliseconds = metadata.get("system:time_start")
    if not isinstance(milliseconds, int | float):
        raise FMError("no system:time_start in metadata.json")
    time = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    if abs(time - named) > datetime.timedelta(hours=1):
        raise FMError(f"metadata.json is of {time:%Y-%m-%d %H:%M}, the scene's name says otherwise")
    if product == "s1":
        return Scene(product, folder.name, time, False)
    baseline = metadata.get("PROCESSING_BASELINE")
    if not isinstance(baseline, str) or not re.fullmatch(r"\d\d\.\d\d", baseline):
        raise FMError("no PROCESSING_BASELINE in metadata.json, so the offset is not known")
    harmonised = "_HARMONIZED/" in str(metadata.get("system:id", ""))
    return Scene(product, folder.name, time, baseline >= "04.00" and not harmonised)


def _one_offset(scenes: dict[str, list[Scene]], wanted: str | None, root: Path) -> bool | None:
    """Whether Sentinel-2 numbers carry the offset; scenes of the other kind are dropped if asked.

    Returns:
        None when there is no Sentinel-2.
    """
    if wanted is not None:
        keep = wanted == "from-0400"
        for name, items in scenes.items():
            scenes[name] = [s for s in items if s.product == "s1" or s.offset == keep]
    kinds = Counter(s.offset for items in scenes.values() for s in items if s.product != "s1")
    if len(kinds) > 1:
        raise FMError(
            f"{root}: {kinds[False]} Sentinel-2 scenes from before processing baseline 04.00 and "
            f"{kinds[True]} from it on, whose numbers mean different things; keep one kind with "
            "--baseline before-0400 or --baseline from-0400"
        )
    return next(iter(kinds), None)


def _tasks(
    scenes: Mapping[str, list[Scene]], products: Sequence[str], temporal: bool
) -> tuple[list[Task], list[str]]:
    """Group each location's scenes into seasons; return the samples and what does not fit."""
    tasks: list[Task] = []
    problems: list[str] = []
    complete: dict[str, list[dict[str, Scene]]] = {}
    for location, items in scenes.items():
        whole = []
        for number, group in enumerate(seasons(items)):
            by_product = {scene.product: scene for scene in group}
            where = f"{location}, season of {group[0].time:%Y-%m-%d}"
            if len(by_product) < len(group):
                problems.append(f"{where}: two scenes of one product")
            elif missing := [p for p in products if p not in by_product]:
                problems.append(f"{where}: no scene of {', '.join(missing)}")
            else:
                whole.append(by_product)
                if not temporal:
                    one = tuple((by_product[p],) for p in products)
                    tasks.append(Task(f"{location}_{number}", location, one))
        if not items:
            problems.append(f"{location}: no scene")
        complete[location] = whole
    if temporal:
        usual = Counter(len(whole) for whole in complete.values() if whole)
        count = max(usual, key=lambda n: (usual[n], n), default=0)
        for location, whole in complete.items():
            if len(whole) != count:
                problems.append(f"{location}: {len(whole)} complete seasons, others have {count}")
            elif whole:
                chosen = tuple(tuple(season[p] for season in whole) for p in products)
                tasks.append(Task(location, location, chosen))
    return tasks, problems


def seasons(scenes: Sequence[Scene]) -> list[list[Scene]]:
    """Group scenes of one location by time: those of one 30-day window together, in order."""
    groups: list[list[Scene]] = []
    for scene in sorted(scenes, key=lambda s: (s.time, s.product, s.name)):
        if groups and scene.time - groups[-1][0].time < APART:
            groups[-1].append(scene)
        else:
            groups.append([scene])
    return groups


def _sensor(product: str, offset: bool | None) -> sensors.Sensor:
    name = PRODUCTS[product]
    return sensors.sensor(f"{name}-n0400" if offset and product != "s1" else name)


def _declared(sensor: sensors.Sensor, bands: Sequence[sensors.Band]) -> Declared:
    optical = sensor.platform == "Sentinel-2"
    nodata = raster_io.sentinel2_nodata(bands) if optical else None
    return Declared(sensor.name, tuple(band.name for band in bands), nodata=nodata)


def _files(root: Path, products: Sequence[str], task: Task) -> list[Path]:
    return [
        root / product / task.location / scene.name / file_name(band.name)
        for product, scenes in zip(products, task.scenes, strict=True)
        for scene in scenes
        for band in sensors.sensor(PRODUCTS[product]).bands
    ]


def _sample(root: Path, products: Sequence[str], temporal: bool, task: Task) -> Sample:
    arrays: dict[str, np.ndarray] = {}
    place: raster_io.Header | None = None
    for product, scenes in zip(products, task.scenes, strict=True):
        dtype = "float32" if product == "s1" else "uint16"
        for modality, bands in sensors.sensor(PRODUCTS[product]).modalities.items():
            side = SIDES[bands[0].gsd_m]
            layers = []
            for scene in scenes:
                folder = root / product / task.location / scene.name
                files = {band.name: folder / file_name(band.name) for band in bands}
                array, header = raster_io.stack(files, dtype=dtype, shape=(side, side))
                place = place or header
                layers.append(_without_masked(array) if product == "s1" else array)
            arrays[modality] = np.stack(layers) if temporal else layers[0]
    assert place is not None
    times = [f"{scene.time.replace(tzinfo=None).isoformat()}Z" for scene in task.scenes[0]]
    return Sample(
        key=task.key,
        arrays=arrays,
        lonlat=place.lonlat,
        time=times[0],
        times=times if temporal else None,
        labels={
            f"scene_{product}": " ".join(scene.name for scene in scenes)
            for product, scenes in zip(products, task.scenes, strict=True)
        },
        crs=place.crs,
        transform=place.transform,
        valid_fraction=None,
    )


def _without_masked(array: np.ndarray) -> np.ndarray:
    return np.where(array == MASKED, np.float32(np.nan), array)
