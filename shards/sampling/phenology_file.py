"""Phenology of many places from a file: curves (`key, day, value`) or dates of the seasons.

A table of dates has the columns `key, greenup, maturity, senescence, dormancy` with days of the
year; a key that comes several times is several years, and each date is the median round the year
(as SSL4Eco takes it from MCD12Q2). MCD12Q2 counts days from 1970 and marks missing ones with 32767:
turn them into days of the year, and leave missing ones empty.
"""

import math
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from fm.errors import FMError
from shards.sampling.phenology import (
    LEAST_AMPLITUDE,
    SEASONS,
    NoSeasons,
    Seasons,
    median_day,
    seasons_of_curve,
    seasons_of_dates,
)
from shards.sources.table import load_columns


def read_phenology(
    path: str | os.PathLike[str], *, least_amplitude: float = LEAST_AMPLITUDE
) -> dict[str, Seasons | NoSeasons]:
    """Read the seasons of places from a CSV or Parquet file.

    Args:
        path: of the file; its columns say which of the two forms it has.
        least_amplitude: of a curve that has seasons.

    Returns:
        seasons by key, or why a place has none.

    Raises:
        FMError: neither form, or cells that are no numbers; the first problem with its key.
    """
    path = Path(path)
    names, columns = load_columns(path)
    if {"key", "day", "value"} <= set(names):
        return _curves(path, columns, least_amplitude)
    if {"key", *SEASONS} <= set(names):
        return _dates(path, columns)
    raise FMError(
        f"{path}: columns {', '.join(names)}; give key, day, value or key, {', '.join(SEASONS)}"
    )


def _curves(
    path: Path, columns: dict[str, list[Any]], least_amplitude: float
) -> dict[str, Seasons | NoSeasons]:
    curves: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for key, day, value in zip(columns["key"], columns["day"], columns["value"], strict=True):
        days, values = curves[str(key)]
        days.append(_number(path, key, "day", day))
        values.append(_number(path, key, "value", value))
    found: dict[str, Seasons | NoSeasons] = {}
    for key, (days, values) in curves.items():
        try:
            found[key] = seasons_of_curve(days, values, least_amplitude=least_amplitude)
        except FMError as error:
            raise FMError(f"{path}: {key}: {error}") from None
    return found


def _dates(path: Path, columns: dict[str, list[Any]]) -> dict[str, Seasons | NoSeasons]:
    rows: dict[str, list[list[float]]] = defaultdict(list)
    for place, key in enumerate(columns["key"]):
        row = [_number(path, key, season, columns[season][place]) for season in SEASONS]
        rows[str(key)].append(row)
    found: dict[str, Seasons | NoSeasons] = {}
    for key, years in rows.items():
        greenup, maturity, senescence, dormancy = (
            median_day([year[place] for year in years]) for place in range(4)
        )
        try:
            for year in years:
                seasons_of_dates(*year)
            found[key] = seasons_of_dates(greenup, maturity, senescence, dormancy)
        except FMError as error:
            raise FMError(f"{path}: {key}: {error}") from None
    return found


def _number(path: Path, key: Any, name: str, cell: Any) -> float:
    if cell is None:
        return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise FMError(f"{path}: {key}: {name} is {cell!r}, expected a number") from None
