"""Sensor, bands, scale, offset and no-data as command-line options, for data that tell none of it.

Each option takes `MODALITY=VALUE`, or only the value when there is one modality. Integer arrays
are kept as they are and need scale, offset and no-data from somewhere: the option, the sensor file,
or (scale and offset) the sensor's table. Floating arrays are physical values with NaN for no data;
with `--scale` and `--offset`, or `--nodata`, they are brought into that form while they are read.
With `--scale` alone the offset is the source's, when the scale is the source's too.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fm import sensors
from fm.errors import FMError, UsageError, suggest
from fm.sensors import Band
from shards.building.writer import Declared
from shards.format import DTYPES
from shards.sources.sensor_file import SensorFile, read_sensor_file

OPTIONS = {
    "sensor": "name of a known sensor: its bands, units, scale and offset",
    "sensor-file": "YAML file that describes the sensor (docs/sources.md)",
    "bands": "band names in the order of the array, with commas; `all` for the sensor's own order",
    "scale": "physical = stored * scale + offset",
    "offset": "see --scale",
    "nodata": "stored number that means no data, or `none`; needed for integers",
    "gsd": "metres a pixel, when the bands were resampled to one grid",
}


@dataclass(frozen=True)
class Given:
    """What the options say of one modality; None where they say nothing."""

    modality: str
    sensor: str | None = None
    sensor_file: str | None = None
    bands: str | None = None
    scale: str | None = None
    offset: str | None = None
    nodata: str | None = None
    gsd: str | None = None


@dataclass(frozen=True)
class Recipe:
    """How the arrays of a modality become what is stored.

    Attributes:
        declared: for the writer.
        table: the bands, in array order.
        scale: applied to floating arrays while they are read; None for integers and when the
            values are physical already.
        offset: with `scale`.
        nodata: number that becomes NaN in floating arrays.
    """

    declared: Declared
    table: tuple[Band, ...]
    scale: float | None = None
    offset: float = 0.0
    nodata: float | None = None

    def number(self, place: int) -> int | None:
        """Return the stored number of a band of integers that is no data; None where none is."""
        numbers = self.declared.nodata
        return numbers[place] if isinstance(numbers, Sequence) else numbers


def add_options(parser: ArgumentParser) -> None:
    """Add the options of `OPTIONS`; each may come once a modality."""
    for name, text in OPTIONS.items():
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="[MODALITY=]X", help=text
        )


def given(arguments: Namespace, modalities: Sequence[str]) -> dict[str, Given]:
    """Sort the options by modality.

    Raises:
        UsageError: an unknown modality, an option given twice, or one without a modality where
            there are several.
    """
    found: dict[str, dict[str, str]] = {name: {} for name in modalities}
    for option in OPTIONS:
        key = option.replace("-", "_")
        for name, value in split_options(f"--{option}", getattr(arguments, key), modalities):
            if key in found[name]:
                raise UsageError(f"--{option} is given twice for {name}")
            found[name][key] = value
    return {name: Given(name, **values) for name, values in found.items()}


def pairs(option: str, values: Sequence[str]) -> dict[str, str]:
    """Split options written `NAME=VALUE`, each name once.

    Raises:
        UsageError: another form, or a name twice.
    """
    found: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise UsageError(f"{option} {text}: write NAME=VALUE")
        if name in found:
            raise UsageError(f"{option} is given twice for {name}")
        found[name] = value
    return found


def split_options(
    option: str, values: Iterable[str], names: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yield `(name, value)` of options written `NAME=VALUE`; a lone name may be left out.

    Raises:
        UsageError: an unknown name, or none where there are several.
    """
    for text in values:
        name, equals, value = text.partition("=")
        if equals and name in names:
            yield name, value
        elif len(names) == 1 and not (equals and name.isidentifier()):
            yield names[0], text
        elif not equals:
            raise UsageError(f"{option} {text}: write NAME={text}, with one of {', '.join(names)}")
        else:
            raise UsageError(f"{option} {text}: there is no {name!r}; {suggest(name, names)}")


def resolve(options: Given, dtype: str, problems: list[str]) -> Recipe | None:
    """Work out what the options mean for arrays of a dtype.

    Args:
        options: of one modality.
        dtype: NumPy name of the arrays.
        problems: gains all that is missing or contradictory, a line each.

    Returns:
        the recipe; None when there is a problem.
    """
    resolver = _Resolver(options)
    try:
        recipe = resolver.recipe(dtype)
    except FMError as error:
        resolver.wrong(str(error))
        recipe = None
    problems += resolver.problems
    return None if resolver.problems else recipe


class _Resolver:
    def __init__(self, options: Given) -> None:
        self._options = options
        self.problems: list[str] = []

    def wrong(self, text: str) -> None:
        self.problems.append(f"modality {self._options.modality}: {text}")

    def recipe(self, dtype: str) -> Recipe | None:
        options = self._options
        if dtype not in DTYPES:
            self.wrong(f"{dtype} pixels; convert them to one of {', '.join(DTYPES)}")
        if (options.sensor is None) == (options.sensor_file is None):
            self.wrong("say what took the pixels: --sensor NAME or --sensor-file FILE")
            return None
        source: sensors.Sensor | SensorFile
        if options.sensor is not None:
            source = sensors.sensor(options.sensor)
        else:
            source = read_sensor_file(Path(options.sensor_file or ""))
        table = self._bands(source)
        gsd = self._number("gsd")
        gsds = sorted({band.gsd_m for band in table})
        if len(gsds) > 1 and gsd is None:
            self.wrong(f"bands of {gsds} m in one array; say with --gsd which grid they are on")
        if gsd is not None and gsd <= 0:
            self.wrong(f"--gsd {gsd:g}: give metres")
        scale, offset = self._number("scale"), self._number("offset")
        if scale == 0:
            self.wrong("--scale 0 makes every pixel the same")
        if dtype.startswith("float"):
            apply, nodata = self._of_floats(source, table, scale, offset)
            declared = self._declared(source, table, 1.0, 0.0, None, gsd)
            return Recipe(declared, table, *apply, nodata)
        scale = self._agreed("scale", scale, source.scale, source)
        offset = self._agreed("offset", offset, source.offset, source)
        numbers = self._nodata(source, table, dtype)
        if scale is None or offset is None:
            self.wrong("integers need --scale and --offset (1 and 0 when they are uncalibrated)")
            return None
        return Recipe(self._declared(source, table, scale, offset, numbers, gsd), table)

    def _bands(self, source: sensors.Sensor | SensorFile) -> tuple[Band, ...]:
        every = source.table if isinstance(source, SensorFile) else source.bands
        text = self._options.bands
        if text is None and not isinstance(source, SensorFile):
            self.wrong("--bands is missing: band names in the order of the array, or `all`")
            return ()
        if text in (None, "all"):
            return every
        return source.select(name.strip() for name in text.split(","))

    def _number(self, option: str) -> float | None:
        text = getattr(self._options, option)
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not np.isfinite(number):
            self.wrong(f"--{option} {text}: give a number")
            return None
        return number

    def _agreed(
        self,
        name: str,
        option: float | None,
        stated: float | None,
        source: sensors.Sensor | SensorFile,
    ) -> float | None:
        """The option's number or the source's; a user's own file must not contradict it."""
        if option is None or stated is None or not isinstance(source, SensorFile):
            return stated if option is None else option
        if option != stated:
            self.wrong(f"--{name} {option:g}, but the sensor file says {stated:g}")
        return option

    def _of_floats(
        self,
        source: sensors.Sensor | SensorFile,
        table: tuple[Band, ...],
        scale: float | None,
        offset: float | None,
    ) -> tuple[tuple[float | None, float], float | None]:
        """What to do with floating arrays: `((scale, offset), nodata)`."""
        nodata = self._number_of_floats(source, table)
        stated = source.scale not in (None, 1.0) or source.offset not in (None, 0.0)
        if scale is None and offset is None:
            if isinstance(source, SensorFile) and stated:
                own = 1.0 if source.scale is None else source.scale
                self.wrong(
                    "floating pixels, and the sensor file has a scale or offset: give --scale "
                    f"{own:g} --offset {source.offset or 0:g} to apply them, or --scale 1 "
                    "--offset 0 when the pixels are physical already"
                )
            return (None, 0.0), nodata
        if scale is None:
            self.wrong(f"--offset {offset:g} of floating pixels: give --scale too (1 for none)")
        elif offset is None:
            physical = scale == 1 and source.scale not in (None, 1.0)
            offset = 0.0 if physical else source.offset
            if offset is None or (offset and scale != source.scale):
                said = "" if offset is None else f" (with scale {source.scale or 1:g}: {offset:g})"
                self.wrong(
                    f"--scale {scale:g} of floating pixels: give --offset too, 0 for none{said}"
                )
        return (scale, offset or 0.0), nodata

    def _number_of_floats(
        self, source: sensors.Sensor | SensorFile, table: tuple[Band, ...]
    ) -> float | None:
        """The number that becomes NaN; `none` says that missing pixels are NaN already."""
        text = self._options.nodata
        if text == "none":
            return None
        number = None if text is None else self._number("nodata")
        stated = source.nodata_of(b.name for b in table) if isinstance(source, SensorFile) else None
        found = set(stated or ())
        if not found:
            return number
        if len(found) > 1:
            self.wrong("floating pixels have one no-data number, the sensor file says several")
        elif text is not None and number not in found:
            self.wrong(f"--nodata {text}, but the sensor file says {stated}")
        own = found.pop()
        return None if own is None else float(own)

    def _nodata(
        self, source: sensors.Sensor | SensorFile, table: tuple[Band, ...], dtype: str
    ) -> tuple[int | None, ...] | None:
        text = self._options.nodata
        stated = source.nodata_of(b.name for b in table) if isinstance(source, SensorFile) else None
        if text is None:
            if stated is None:
                self.wrong("integers need --nodata: a number, or `none` when every number is data")
            result = stated
        else:
            parts = [part.strip() for part in text.split(",")]
            parts *= len(table) if len(parts) == 1 else 1
            try:
                result = tuple(None if part == "none" else int(part) for part in parts)
            except ValueError:
                self.wrong(f"--nodata {text}: give whole numbers or `none`")
                return None
            if len(result) != len(table):
                self.wrong(f"--nodata lists {len(result)} numbers for {len(table)} bands")
            if stated is not None and stated != result:
                self.wrong(f"--nodata {text}, but the sensor file says {stated}")
        if dtype in DTYPES:
            limits = np.iinfo(dtype)
            beyond = [
                n for n in result or () if n is not None and not limits.min <= n <= limits.max
            ]
            if beyond:
                self.wrong(f"no-data {beyond[0]} does not fit into {dtype}")
        return result

    def _declared(
        self,
        source: sensors.Sensor | SensorFile,
        table: tuple[Band, ...],
        scale: float,
        offset: float,
        nodata: tuple[int | None, ...] | None,
        gsd: float | None,
    ) -> Declared:
        return Declared(
            source.name,
            tuple(band.name for band in table),
            scale=scale,
            offset=offset,
            gsd_m=gsd,
            nodata=nodata,
            table=table if isinstance(source, SensorFile) else None,
        )


def apply(recipe: Recipe, pixels: np.ndarray, where: str) -> np.ndarray:
    """Bring an array into the form that is stored.

    Args:
        recipe: of its modality.
        pixels: `[..., C, H, W]`.
        where: its name in an error.

    Returns:
        contiguous, native byte order; floating arrays physical with NaN for no data.

    Raises:
        FMError: floating values that cannot be in their bands' units.
    """
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind != "f":
        return pixels
    if recipe.nodata is not None:
        pixels = np.where(pixels == pixels.dtype.type(recipe.nodata), np.nan, pixels)
    if recipe.scale is not None:
        kind = pixels.dtype
        scaled = pixels.astype(np.float64) * recipe.scale + recipe.offset
        pixels = scaled.astype(np.float32 if kind == np.float16 else kind)
    check_units(pixels, recipe.table, where)
    return pixels


def check_units(pixels: np.ndarray, table: Sequence[Band], where: str) -> None:
    """Refuse floating values that betray another unit than their bands'.

    A reflectance whose median is above 3 is a scaled number; a decibel patch without one negative
    value is linear power or amplitude.

    Raises:
        FMError: such a band.
    """
    for place, band in enumerate(table):
        values = pixels[..., place, :, :]
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        if band.unit == "reflectance" and (middle := float(np.median(values))) > 3:
            raise FMError(
                f"{where}: band {band.name} has a median reflectance of {middle:g}; the numbers "
                "look scaled: say so with --scale and --offset"
            )
        if band.unit == "dB" and values.size >= 16 and values.min() >= 0:
            raise FMError(
                f"{where}: band {band.name} in dB has no negative value; it looks linear: convert "
                "with 10*log10, or declare a sensor file whose unit is not dB"
            )
