"""The tables of SatCLIP's downstream tasks, where a user has the files.

`stationDataAll.csv` lies in SatCLIP's repository (figures/ssl4eo), the others in the authors'
folder of downloads (issue 6 there). California housing and the income of US counties lie in one
state or country, which neither blocks of 500 km nor continents divide; they are left out.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fm.errors import FMError
from probes.location.points import Places
from probes.location.tasks import Task

LARGEST = 20_000
"""Of a larger table so many rows are drawn, the same ones always."""


@dataclass(frozen=True)
class Column:
    """One column of one file.

    Attributes:
        task: what is asked.
        file: its name.
        column: that holds the truth.
        missing: the number that stands for no data (ocean), if any; cells that are empty too.
        turned: the number that is asked for, of the number in the file.
    """

    task: Task
    file: str
    column: str
    missing: float | None = None
    turned: Callable[[np.ndarray], np.ndarray] = np.asarray


def _task(name: str, kind: str, help_: str) -> Task:
    source = "SatCLIP's downstream tasks (Klemmer et al. 2023, arXiv 2311.17179)"
    return Task(name, name, "class" if kind == "class" else "regression", help_, source)


_STATIONS, _REGIONS = "stationDataAll.csv", "lat_lon_ecoregion.csv"
COLUMNS = (
    Column(
        _task("stations-temperature", "numbers", "mean air temperature of a station, Celsius"),
        *(_STATIONS, "meanT"),
    ),
    Column(
        _task("stations-precipitation", "numbers", "log(1 + mm) of a year at a station"),
        *(_STATIONS, "meanP"),
        turned=np.log1p,
    ),
    Column(_task("satclip-country", "class", "country"), "lat_lon_country.csv", "country", 0),
    Column(_task("satclip-biome", "class", "biome"), _REGIONS, "biome_class_index", -1),
    Column(_task("satclip-ecoregion", "class", "ecoregion"), _REGIONS, "ecoregion_class_index", -1),
    Column(
        _task("satclip-population", "numbers", "log population density"),
        *("labels_population.csv", "log_population"),
    ),
    Column(
        _task("satclip-elevation", "numbers", "height, metres"),
        *("labels_elevation.csv", "elevation"),
    ),
)


def open_published(folder: Path) -> tuple[list[Task], dict[str, Places]]:
    """Read the tables that are in a folder.

    Returns:
        the tasks, and the places of each by its name.

    Raises:
        FMError: none of the files is there, or one is not what it should be.
    """
    here = [column for column in COLUMNS if (folder / column.file).is_file()]
    if not here:
        names = ", ".join(dict.fromkeys(column.file for column in COLUMNS))
        raise FMError(
            f"{folder} holds none of {names}; docs/location-probes.md says whose they are"
        )
    return [c.task for c in here], {c.task.name: _places(folder / c.file, c) for c in here}


def _places(path: Path, wanted: Column) -> Places:
    try:
        rows = _numbers(path, wanted.column)
    except (ValueError, csv.Error) as error:  # bytes that are no text are of the first
        raise FMError(f"{path}: {error}") from None
    rows = rows.reshape(-1, 3)
    kept = np.isfinite(rows).all(1)
    if wanted.missing is not None:
        kept &= rows[:, 2] != wanted.missing
    rows = rows[kept]
    if not len(rows) or np.abs(rows[:, 1]).max() > 90 or np.abs(rows[:, 0]).max() > 360:
        raise FMError(f"{path}: no places, or Lon and Lat are not degrees")
    rows[:, 0] -= 360 * np.round(rows[:, 0] / 360)  # maps are drawn from 180 W to 180 E
    if len(rows) > LARGEST:
        rows = rows[
            np.sort(np.random.Generator(np.random.PCG64(4)).permutation(len(rows))[:LARGEST])
        ]
    name, value = wanted.task.name, _turned(path, wanted, rows[:, 2])
    if wanted.task.kind == "regression":
        return Places(name, rows[:, :2].copy(), {name: value}, {})
    codes, numbers = np.unique(value, return_inverse=True)
    classes = tuple(f"{code:g}" for code in codes.tolist())
    return Places(name, rows[:, :2].copy(), {name: numbers.astype(np.int64)}, {name: classes})


def _numbers(path: Path, column: str) -> np.ndarray:
    """Read longitude, latitude and a column of every row; NaN where a cell is empty.

    Raises:
        ValueError: no such column, or no numbers.
        csv.Error: no table.
    """
    with open(path, newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        names = {name.lower(): name for name in reader.fieldnames or ()}
        for needed in ("lon", "lat", column.lower()):
            if needed not in names:
                raise ValueError(f"no column {needed!r} among {', '.join(names)}")
        keys = (names["lon"], names["lat"], names[column.lower()])
        return np.array([[float(row[key] or "nan") for key in keys] for row in reader])


def _turned(path: Path, wanted: Column, found: np.ndarray) -> np.ndarray:
    """Turn the numbers of a file into those that are asked for; -9999 has no logarithm."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = wanted.turned(found)
    if not np.isfinite(value).all():
        odd = found[~np.isfinite(value)][0]
        raise FMError(
            f"{path}: {wanted.column} of {odd:g} cannot be; leave the cell empty where the number "
            f"is not known"
        )
    return value
