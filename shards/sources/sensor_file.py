"""A sensor that the user describes, in YAML: its bands, units, scale, offset and no-data.

    name: my-camera
    platform: UAV over plot 7
    level: reflectance, panel-calibrated
    scale: 0.0001        # physical = stored * scale + offset; may also come from an option
    offset: 0
    nodata: 65535        # one number, one a band, or `none` when every number is data
    bands:               # in the order of the files' bands
      - {name: blue, wavelength_nm: 475, fwhm_nm: 20, gsd_m: 0.1, unit: reflectance}
      - {name: green, wavelength_nm: 560, fwhm_nm: 20, gsd_m: 0.1, unit: reflectance}
      - {name: VV, polarisation: VV, gsd_m: 10, unit: dB}

Wavelengths may be left out (models that need them then refuse the band), but they are never
filled in. Unknown keys are refused, since a misspelt `offset` would otherwise be an offset of 0.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm import sensors
from fm.errors import FMError, suggest
from fm.sensors import Band, Sensor

KEYS = ("name", "platform", "level", "scale", "offset", "nodata", "bands")
BAND_KEYS = ("name", "wavelength_nm", "fwhm_nm", "gsd_m", "unit", "polarisation")
UNITS = ("reflectance", "dB", "dn", "K", "radiance")
"""Spellings that are known; any other text is taken as it is unless it differs only in case."""


@dataclass(frozen=True)
class SensorFile:
    """A user-defined sensor.

    Attributes:
        name: not one of `fm.sensors`.
        platform: what carried it; may be empty.
        level: product level; may be empty.
        table: the bands, in the order of the file.
        scale: physical = stored * scale + offset; None when the file does not say.
        offset: see `scale`.
        nodata: a band each, the stored number that means "no data", None where every number is
            data; None as a whole when the file does not say.
    """

    name: str
    platform: str
    level: str
    table: tuple[Band, ...]
    scale: float | None
    offset: float | None
    nodata: tuple[int | None, ...] | None

    def select(self, names: Iterable[str]) -> tuple[Band, ...]:
        """Look bands up by name, in the order asked for.

        Raises:
            UsageError: an unknown name, or a name given twice.
        """
        found = Sensor(self.name, self.platform, self.level, self.table, 1.0, 0.0)
        return found.select(names)

    def nodata_of(self, names: Iterable[str]) -> tuple[int | None, ...] | None:
        """The no-data numbers of some bands; None when the file does not say."""
        if self.nodata is None:
            return None
        by_name = dict(zip((band.name for band in self.table), self.nodata, strict=True))
        return tuple(by_name[band.name] for band in self.select(names))


def read_sensor_file(path: str | os.PathLike[str]) -> SensorFile:
    """Read a sensor file.

    Raises:
        FMError: it is missing, is not YAML, or says something that cannot be meant; all problems
            are in the one message.
    """
    import yaml

    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise FMError(f"{path}: no such sensor file") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise FMError(f"{path}: this sensor file is not YAML ({reason[:160]})") from None
    if not isinstance(content, dict):
        raise FMError(f"{path}: a sensor file is a mapping with name, bands and so on")
    problems: list[str] = []
    problems += _unknown("", content, KEYS)
    name = content.get("name")
    if not isinstance(name, str) or not name.strip():
        problems.append("name is missing")
        name = ""
    elif name in sensors.list_sensors():
        problems.append(f"name {name!r} is a sensor that is known already; name yours differently")
    scale = _number("scale", content.get("scale"), problems)
    offset = _number("offset", content.get("offset"), problems)
    if scale == 0:
        problems.append("scale is 0, which makes every pixel the same")
    table = _bands(content.get("bands"), problems)
    nodata = _nodata(content, len(table), problems)
    if problems:
        raise FMError(f"{path}: {listed(problems)}")
    return SensorFile(
        name=name,
        platform=str(content.get("platform") or ""),
        level=str(content.get("level") or ""),
        table=table,
        scale=scale,
        offset=offset,
        nodata=nodata,
    )


def listed(problems: Iterable[str], most: int = 20) -> str:
    """Join problems into one line: the first `most`, then how many more there are."""
    found = list(problems)
    more = f"; and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(found[:most]) + more


def _unknown(where: str, content: Mapping[Any, Any], valid: tuple[str, ...]) -> list[str]:
    return [
        f"{where}key {key!r} is unknown; {suggest(str(key), valid)}"
        for key in content
        if key not in valid
    ]


def _number(where: str, value: Any, problems: list[str]) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        # YAML 1.1 reads 1e-4 as text, 1.0e-4 as a number
        hint = "; write 1.0e-4, YAML takes 1e-4 for text" if isinstance(value, str) else ""
        problems.append(f"{where} is {value!r}, expected a number{hint}")
        return None
    return float(value)


def _bands(value: Any, problems: list[str]) -> tuple[Band, ...]:
    if not isinstance(value, list) or not value:
        problems.append("bands is missing: a list, a mapping with name, gsd_m, unit a band")
        return ()
    result: list[Band] = []
    for place, item in enumerate(value):
        if not isinstance(item, dict):
            problems.append(f"bands[{place}] is {item!r}, expected a mapping")
            continue
        name = item.get("name")
        where = f"bands[{place}]: "
        if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
            problems.append(f"{where}name is missing")
            continue
        where = f"band {str(name)!r}: "
        problems += _unknown(where, item, BAND_KEYS)
        if any(str(name).upper() == band.name.upper() for band in result):
            problems.append(f"{where}comes twice")
        centre = _positive(f"{where}wavelength_nm", item.get("wavelength_nm"), problems)
        width = _positive(f"{where}fwhm_nm", item.get("fwhm_nm"), problems)
        if centre is not None and centre < 100:
            problems.append(f"{where}wavelength_nm {centre:g} looks like micrometres; give nm")
        if width is not None and centre is None:
            problems.append(f"{where}fwhm_nm without wavelength_nm")
        if item.get("gsd_m") is None:
            problems.append(f"{where}gsd_m is missing (metres a pixel)")
        gsd = _positive(f"{where}gsd_m", item.get("gsd_m"), problems)
        unit = item.get("unit")
        if not isinstance(unit, str) or not unit.strip():
            problems.append(f"{where}unit is missing, such as {', '.join(UNITS)}")
            unit = ""
        elif meant := [u for u in UNITS if u.lower() == unit.lower() and u != unit]:
            problems.append(f"{where}unit {unit!r} is spelt {meant[0]!r}")
        polarisation = item.get("polarisation")
        if polarisation is not None and not isinstance(polarisation, str):
            problems.append(f"{where}polarisation is {polarisation!r}, expected text such as VV")
            polarisation = None
        result.append(Band(str(name), centre, width, gsd or 1.0, unit, polarisation))
    return tuple(result)


def _positive(where: str, value: Any, problems: list[str]) -> float | None:
    number = _number(where, value, problems)
    if number is not None and number <= 0:
        problems.append(f"{where} is {number:g}, expected more than 0")
        return None
    return number


def _nodata(
    content: Mapping[str, Any], count: int, problems: list[str]
) -> tuple[int | None, ...] | None:
    if "nodata" not in content:
        return None
    value = content["nodata"]
    items = value if isinstance(value, list) else [value] * count
    if len(items) != count:
        problems.append(f"nodata lists {len(items)} numbers for {count} bands")
    result: list[int | None] = []
    for item in items:
        if item is None or item == "none":
            result.append(None)
        elif isinstance(item, bool) or not isinstance(item, int):
            problems.append(f"nodata {item!r}: expected a whole stored number, or none")
            return None
        else:
            result.append(item)
    return tuple(result)
