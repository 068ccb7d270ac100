"""Multi-labels from a JSON of SSL4EO-S12-ML's layout (Wang et al., arXiv 2405.20462).

    {"0000200": {"20200604T054639_...": ["0", "1", "4"], ...}, ...}

A location holds its seasons, a season the places of its classes, as text or numbers; an empty list
means no label. A location is a sample's key, or what stands before the season in it
(`0000200_2`); a season is the name of the sample's scene (a text label such as `scene_s2c`), or
the number of the season, 0 to 3, in the order of time.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fm.errors import FMError

Seasons = dict[str, list[int] | None]


@dataclass
class SeasonFile:
    """Labels by location and season.

    Attributes:
        path: of the file.
        locations: location to season to classes; None for "no label".
        used: seasons of the file that were asked for.
    """

    path: Path
    locations: dict[str, Seasons]
    used: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, path: Path, classes: int) -> "SeasonFile":
        """Read and check a file.

        Raises:
            FMError: it is not there or not of this layout, or names a class that is not there.
        """
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            raise FMError(
                f"{path}: no such file; --from takes the JSON of seasons (ssl4eo-s12-ml) or rasters"
            ) from None
        except (OSError, ValueError) as error:
            raise FMError(f"{path}: not JSON that can be read ({error})") from None
        if not isinstance(content, dict) or not content:
            raise FMError(f'{path}: no locations; the layout is {{"PLACE": {{"SEASON": ["0"]}}}}')
        return cls(path, {name: _seasons(path, name, v, classes) for name, v in content.items()})

    def of(self, key: str, count: int | None, scenes: Sequence[str]) -> Any:
        """Return the label of a sample.

        Args:
            key: of the sample.
            count: of the images of a series; None for a single image.
            scenes: what is known of its scenes: names of all images, with spaces between.

        Returns:
            class numbers of a single image, or a list of these, one an image; None where unknown.
        """
        if count is not None:
            seasons = self.locations.get(key)
            if seasons is None:
                return None
            every = [
                self._one(key, seasons, n, [_word(s, n) for s in scenes]) for n in range(count)
            ]
            return None if all(one is None for one in every) else every
        location, _, season = key.rpartition("_")
        if key in self.locations:
            location, season = key, ""
        seasons = self.locations.get(location)
        number = int(season) if season.isdecimal() else None
        return None if seasons is None else self._one(location, seasons, number, list(scenes))

    def _one(
        self,
        location: str,
        seasons: Seasons,
        number: int | None,
        names: list[str],
    ) -> list[int] | None:
        for name in [*names, *([] if number is None else [str(number)])]:
            if name in seasons:
                self.used[f"{location}/{name}"] += 1
                return seasons[name]
        return None


def _word(text: str, number: int) -> str:
    words = text.split()
    return words[number] if number < len(words) else ""


def _seasons(path: Path, location: str, value: Any, classes: int) -> Seasons:
    if not isinstance(value, dict):
        raise FMError(f"{path}: location {location} holds no seasons")
    result: Seasons = {}
    for season, items in value.items():
        where = f"{path}: location {location}, season {season}"
        if not isinstance(items, list):
            raise FMError(f"{where}: {items!r} is no list of classes")
        try:
            numbers = sorted({_whole(item) for item in items})
        except (TypeError, ValueError):
            raise FMError(f"{where}: {items!r} is no list of class numbers") from None
        if numbers and not 0 <= numbers[0] <= numbers[-1] < classes:
            raise FMError(f"{where}: class {numbers[-1]}, there are {classes} from 0 on")
        result[season] = numbers or None
    return result


def _whole(item: Any) -> int:
    """Read a class number; ValueError of 1.5 and true, which `int` would take for others."""
    if isinstance(item, bool) or (isinstance(item, float) and item % 1):
        raise ValueError(item)
    return int(item)
