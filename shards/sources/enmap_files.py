"""EnMAP files on disk: names, headers, product metadata and split lists; no pixels are read."""

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fm import sensors
from fm.errors import FMError
from fm.sensors.enmap import NO_DATA
from shards.format import check_key

SENSOR = "enmap-l2a"
IMAGE = re.compile(r"(.+)-SPECTRAL_IMAGE\.TIFF?", re.IGNORECASE)
NAME = re.compile(
    r"ENMAP\d\d-_*(?P<level>L\d\w)-DT(?P<take>\d+)_(?P<time>\d{8}T\d{6})Z_(?P<tile>\d{3})"
    r"_V\d{6}_\d{8}T\d{6}Z(?:-Y(\d{4})(\d{4})_X(\d{4})(\d{4}))?"
)
DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:T?(\d\d):?(\d\d):?(\d\d)Z?)?")
LAYERS = {"CLOUD": 1, "CLOUDSHADOW": 1, "CIRRUS": 3, "HAZE": 1, "SNOW": 1, "CLASSES": 3}
"""Quality layers and the largest number each may hold."""

SPLITS = ("train", "val", "test")
NEAR_NM = 2.0
"""Band centres move by tenths of a nanometre with the calibration; neighbours are 4.8 nm apart or
more, but for the two detectors' overlap."""


@dataclass(frozen=True)
class Patch:
    """Where one sample lies.

    Attributes:
        path: of the spectral image.
        key: of the sample.
        box: first row, first column, height and width in the file.
        window: the same in the tile; None when it is unknown.
        time: ISO-8601.
        scene: datatake and tile; None when it is unknown.
        layers: files of the quality layers in the order of `LAYERS`; empty when not used.
        split: or None.
    """

    path: Path
    key: str
    box: tuple[int, int, int, int]
    window: tuple[int, int, int, int] | None
    time: str
    scene: str | None
    layers: tuple[Path, ...]
    split: str | None = None


def image_files(folder: Path) -> Iterator[Path]:
    """Find the rasters below a folder that are no quality layer, sorted by path."""
    if not folder.is_dir():
        raise FMError(f"{folder}: no such folder; give the one with the patches or tiles")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".tif", ".tiff") and "-QL_" not in path.name:
            yield path


def inspect(
    path: Path,
    *,
    bands: int,
    side: int,
    quality: bool,
    scales: set[tuple[float, float]],
    problems: list[str],
) -> list[Patch]:
    """Read the header of one file and of what belongs to it.

    Args:
        path: a spectral image.
        bands: 202 or 224, wanted of each.
        side: of the squares that a tile is cut into, in pixels.
        quality: whether the quality layers are needed.
        scales: gains the (scale, offset) of the file.
        problems: gains what is wrong, a line each.

    Returns:
        its patches; none when there is a problem.
    """
    import rasterio

    try:
        with rasterio.open(path) as raster:
            header = _header(raster)
            shape, count = raster.shape, raster.count
    except rasterio.errors.RasterioIOError as error:
        problems.append(f"{path}: not a raster that can be read ({error})")
        return []
    image = IMAGE.fullmatch(path.name)
    wanted = 224 if image else 202
    if count != wanted:
        expected = "an EnMAP product" if image else "a SpectralEarth patch"
        problems.append(f"{path}: {count} bands, {expected} has {wanted}")
        return []
    if not image and bands == 224:
        problems.append(f"{path}: has 202 bands; --bands 224 reads files of 224")
        return []
    problems += [f"{path}: {text}" for text in header]
    if header:
        return []
    sensor = sensors.sensor(SENSOR)
    if image is None:
        scales.add((sensor.scale, sensor.offset))
        return _spectral_earth(path, shape, problems)
    metadata = path.with_name(f"{image[1]}-METADATA.XML")
    if metadata.is_file():
        try:
            scales.add(read_metadata(metadata))
        except FMError as error:
            problems.append(str(error))
    else:
        scales.add((sensor.scale, sensor.offset))
    return _product(path, image[1], shape, side, quality, problems)


def _header(raster: Any) -> list[str]:
    """What contradicts an EnMAP L2A raster."""
    found = []
    if set(raster.dtypes) != {"int16"}:
        found.append(f"{raster.dtypes[0]} pixels, EnMAP L2A has int16 (reflectance x 10000)")
    if raster.crs is None:
        found.append("no coordinate system; patches cannot be placed")
    t = raster.transform
    if (t.a, t.b, t.d, t.e) != (30.0, 0.0, 0.0, -30.0):
        found.append(f"pixels of {t.a:g} x {-t.e:g}, EnMAP's are 30 m, north up")
    if set(raster.nodatavals) - {None, float(NO_DATA)}:
        found.append(f"no-data is {raster.nodatavals[0]:g}, EnMAP L2A has {NO_DATA}")
    stated = set(zip(raster.scales, raster.offsets, strict=True)) - {(1.0, 0.0)}
    if stated - {(1e-4, 0.0)}:
        found.append(f"states scale, offset {sorted(stated)[0]}, EnMAP L2A has (0.0001, 0)")
    return found


def _product(
    path: Path, base: str, shape: tuple[int, int], side: int, quality: bool, problems: list[str]
) -> list[Patch]:
    found = NAME.fullmatch(base)
    if found is None:
        problems.append(f"{path}: not an EnMAP product's name; time and tile are unknown")
        return []
    if found["level"] != "L2A":
        problems.append(f"{path}: level {found['level']} is not reflectance; give L2A products")
        return []
    layers: tuple[Path, ...] = ()
    if quality:
        layers = tuple(path.with_name(f"{base}-QL_QUALITY_{name}.TIF") for name in LAYERS)
        missing = [layer.name.removeprefix(f"{base}-") for layer in layers if not layer.is_file()]
        if missing:
            problems.append(f"{path}: without {', '.join(missing)}; --no-quality does without")
            return []
    time = _iso(*_digits(found["time"]))
    scene = f"DT{found['take']}_{found['tile']}"
    rows = [int(n) if n else None for n in found.groups()[-4:]]
    top, bottom, left, right = rows
    if top is not None and bottom is not None and left is not None and right is not None:
        window = (top, left, bottom - top + 1, right - left + 1)
        if window[2:] != tuple(shape):
            problems.append(f"{path}: {shape[0]} x {shape[1]} px, its name says {window[2:]}")
            return []
        return [Patch(path, _key(found, *window), (0, 0, *shape), window, time, scene, layers)]
    return [
        Patch(
            path,
            _key(found, row, column, side, side),
            *((row, column, side, side),) * 2,
            time,
            scene,
            layers,
        )
        for row in range(0, shape[0] - side + 1, side)
        for column in range(0, shape[1] - side + 1, side)
    ]


def _key(name: re.Match[str], row: int, column: int, height: int, width: int) -> str:
    """A product's name without what all share: with it, members' names pass tar's 100 bytes."""
    place = f"Y{row:04d}{row + height - 1:04d}_X{column:04d}{column + width - 1:04d}"
    return f"DT{name['take']}_{name['time']}Z_{name['tile']}-{place}"


def _spectral_earth(path: Path, shape: tuple[int, int], problems: list[str]) -> list[Patch]:
    found = DATE.fullmatch(path.stem)
    try:
        if found is None:
            raise ValueError(path.stem)
        time = _iso(*(int(group or 0) for group in found.groups()))
        key = check_key(f"{path.parent.name}_{path.stem.replace(':', '')}")
    except (ValueError, FMError):
        problems.append(f"{path}: its name is no PATCH/DATE.tif (DATE such as 20220627)")
        return []
    return [Patch(path, key, (0, 0, *shape), None, time, None, ())]


def _digits(text: str) -> tuple[int, ...]:
    return tuple(int(text[a:b]) for a, b in ((0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15)))


def _iso(*parts: int) -> str:
    return datetime.datetime(*parts).isoformat() + "Z"  # type: ignore[arg-type]


def read_metadata(path: Path) -> tuple[float, float]:
    """Read scale and offset of a product's METADATA.XML and compare its bands with the table.

    Raises:
        FMError: not EnMAP metadata, other bands than `fm.sensors.enmap` lists, or a gain or offset
            that changes from band to band.
    """
    try:
        bands = ElementTree.parse(path).getroot().findall("specific/bandCharacterisation/bandID")
        table = [
            [float(band.findtext(key, "")) for band in bands]
            for key in ("wavelengthCenterOfBand", "GainOfBand", "OffsetOfBand")
        ]
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise FMError(f"{path}: not the metadata of an EnMAP product ({error})") from None
    centres, gains, offsets = table
    known = [band.wavelength_nm or 0.0 for band in sensors.sensor(SENSOR).bands]
    if len(centres) != len(known):
        raise FMError(f"{path}: describes {len(centres)} bands, expected {len(known)}")
    far = [
        f"B{i + 1:03d} at {a:g} nm (table {b:g})"
        for i, (a, b) in enumerate(zip(centres, known, strict=True))
        if abs(a - b) > NEAR_NM
    ]
    if far:
        raise FMError(f"{path}: {len(far)} bands are not those of the table: {', '.join(far[:5])}")
    if len({*gains}) > 1 or len({*offsets}) > 1:
        raise FMError(f"{path}: gain or offset differs between bands; one pair is expected")
    return gains[0], offsets[0]


def assign_splits(
    patches: Sequence[Patch], folder: Path, problems: list[str]
) -> tuple[list[Patch], int]:
    """Give patches the split whose list names them.

    A list is `train.csv`, `val.csv` or `test.csv` of HySpecNet-11k: a path a line, one of whose
    parts is the patch's name, with or without an ending such as `-DATA.npy`.

    Returns:
        the patches, and how many lines name a patch that is not here.
    """
    splits: dict[str, str] = {}
    keys = {patch.key for patch in patches}
    absent = 0
    for name in SPLITS:
        try:
            lines = (folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            problems.append(f"{folder}: no {name}.csv that can be read")
            continue
        for line in filter(None, map(str.strip, lines)):
            parts = {part for piece in re.split(r"[/,]", line) for part in _names(piece)}
            found = parts & keys
            absent += not found
            for key in found:
                if splits.setdefault(key, name) != name:
                    problems.append(f"{folder}: {key} is in {splits[key]} and in {name}")
    missing = sorted(keys - set(splits))
    if missing:
        problems.append(f"{folder}: {len(missing)} patches are in no list, such as {missing[0]}")
    return [replace(patch, split=splits.get(patch.key)) for patch in patches], absent


def _names(piece: str) -> tuple[str, str]:
    """What a part of a path may name: itself, and a HySpecNet-11k patch by its key."""
    found = NAME.fullmatch(re.sub(r"-(DATA|SPECTRAL_IMAGE)\.\w+$", "", piece))
    if found is None or found[5] is None:
        return piece, piece
    top, bottom, left, right = map(int, found.groups()[-4:])
    return piece, _key(found, top, left, bottom - top + 1, right - left + 1)
