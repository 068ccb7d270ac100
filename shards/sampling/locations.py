"""Which places at which dates: locations on an equal-area grid, dates by the local season.

Sampling as in SSL4Eco (Plekhanova et al., arXiv 2504.18256): places spread evenly over the globe
with weights, and at each place up to four dates, one a phenological season, none twice.

Locations are drawn without replacement by exponential ranks (Efraimidis and Spirakis, "Weighted
random sampling with a reservoir", 2006): rank = -log(u) / weight with u a hash of (seed, cell), and
the smallest ranks win. So a draw does not depend on the order of the candidates, a larger draw
holds the smaller one, and a cell that is added changes nothing but its own place.
"""

import datetime
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import xxhash

from fm.console import note
from fm.errors import FMError, UsageError, suggest
from fm.files import write_atomic
from fm.geo import EARTH_RADIUS_M, block_bounds, block_id
from fm.splitmix import splitmix64
from shards.ordering.order import hashed
from shards.sampling.phenology import SEASONS, YEAR, NoSeasons, Seasons, calendar_seasons

_CELL, _POINT, _CANDIDATE, _YEAR, _SEASON = range(21, 26)
_CHUNK = 1 << 20
FLAT = ("calendar", "nearest", "leave")
Weights = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PlanRow:
    """One place in one season.

    Attributes:
        key: of the place.
        lon: degrees.
        lat: degrees.
        season: one of `shards.sampling.phenology.SEASONS`.
        date: ISO date in the middle of the season.
        start: first date to look for an image.
        end: last date to look for an image.
        rule: where the season comes from: `curve`, `table`, `calendar: REASON` or
            `nearest KEY, KM km: REASON`.
    """

    key: str
    lon: float
    lat: float
    season: str
    date: str
    start: str
    end: str
    rule: str


def draw_cells(
    count: int,
    *,
    cell_km: float = 23.0,
    seed: int = 0,
    weights: Weights | None = None,
    bounds: tuple[float, float, float, float] = (-180.0, -90.0, 180.0, 90.0),
) -> tuple[np.ndarray, np.ndarray]:
    """Draw cells of the equal-area grid of `fm.geo`, each at most once, and a point in each.

    Without weights every square kilometre is as likely as any other. Inside a cell points are
    uniform in longitude and in the sine of latitude, which on WGS84 is an even density within
    0.01 % for cells of 23 km and 1 % for 5000 km.

    Args:
        count: of cells.
        cell_km: side of a cell; 23 km as in SSL4Eco.
        seed: any integer.
        weights: of cells from their centres `[n, 2]` lon, lat: `[n]`, 0 leaves a cell out (a land
            mask is such a weight). None is 1 everywhere.
        bounds: west, south, east, north; cells whose centre lies outside are left out.

    Returns:
        `[count]` cell numbers in the order of their ranks, and `[count, 2]` lon, lat.

    Raises:
        UsageError: fewer cells than asked for.
        FMError: a weight that is negative or not finite.
    """
    if count < 1:
        raise UsageError(f"count={count}: give at least 1")
    west, south, east, north = bounds
    best_cells, best_ranks = np.empty(0, np.int64), np.empty(0)
    centres = np.empty((0, 2))
    for cells, places in _cells(cell_km):
        inside = (places[:, 1] >= south) & (places[:, 1] <= north)
        inside &= (places[:, 0] - west) % 360 <= (east - west if east > west else east - west + 360)
        cells, places = cells[inside], places[inside]
        weight = np.ones(len(cells)) if weights is None else _checked(weights(places), len(cells))
        ranks = _ranks(cells, weight, seed, _CELL)
        keep = np.isfinite(ranks)
        best_cells = np.concatenate([best_cells, cells[keep]])
        best_ranks = np.concatenate([best_ranks, ranks[keep]])
        centres = np.concatenate([centres, places[keep]])
        order = np.argsort(best_ranks, kind="stable")[:count]
        best_cells, best_ranks, centres = best_cells[order], best_ranks[order], centres[order]
    if len(best_cells) < count:
        raise UsageError(
            f"count={count}: only {len(best_cells)} cells of {cell_km:g} km have a weight; ask for "
            "fewer or for smaller cells"
        )
    return best_cells, _points(best_cells, cell_km, seed)


def draw_candidates(
    keys: Sequence[str],
    lonlat: np.ndarray,
    count: int,
    *,
    cell_km: float = 23.0,
    seed: int = 0,
    weights: np.ndarray | None = None,
    per_cell: int = 1,
) -> np.ndarray:
    """Draw from given places so that cells, not places, are drawn evenly.

    A cell's weight is the mean of its places' weights, so that a cell does not count for more
    because more is known of it; inside a cell places are drawn by their weights.

    Args:
        keys: of the places, all different; a draw depends on them, not on their order.
        lonlat: `[n, 2]` degrees.
        count: of places.
        cell_km: side of a cell.
        seed: any integer.
        weights: `[n]`, 0 leaves a place out; None is 1 everywhere.
        per_cell: places of one cell at most. Second places are only taken when every cell has
            given its first, and so on.

    Returns:
        `[count]` positions in `keys`, in the order of their ranks.

    Raises:
        UsageError: fewer places than asked for.
        FMError: a key twice, unknown coordinates, or a weight that is negative or not finite.
    """
    if len(set(keys)) != len(keys):
        raise FMError("a key of the places comes twice; keys must be unique")
    if count < 1 or per_cell < 1:
        raise UsageError("count and per_cell: give at least 1")
    cells = block_id(lonlat, cell_km)
    if len(cells) != len(keys) or (cells < 0).any():
        raise FMError("every place needs finite (lon, lat) in degrees")
    weight = np.ones(len(keys)) if weights is None else _checked(weights, len(keys))
    names = np.array([xxhash.xxh3_64_intdigest(key.encode()) for key in keys], np.uint64)
    own = _ranks(names, weight, seed, _CANDIDATE)
    numbers, inverse, sizes = np.unique(cells, return_inverse=True, return_counts=True)
    of_cell = _ranks(numbers, np.bincount(inverse, weight) / sizes, seed, _CELL)
    order = np.lexsort((own, inverse))
    turn = np.empty(len(keys), np.int64)  # place of each in its cell, best first
    turn[order] = np.arange(len(keys)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    able = np.flatnonzero(np.isfinite(own) & (turn < per_cell))
    if len(able) < count:
        raise UsageError(
            f"count={count}: only {len(able)} places, with {per_cell} of a cell of {cell_km:g} km"
        )
    return able[np.lexsort((of_cell[inverse[able]], turn[able]))][:count]


def plan(
    keys: Sequence[str],
    lonlat: np.ndarray,
    phenology: Mapping[str, Seasons | NoSeasons],
    *,
    years: Sequence[int],
    per_place: int = 4,
    window_days: int = 60,
    seed: int = 0,
    flat: str = "calendar",
    nearest_km: float = 500.0,
) -> list[PlanRow]:
    """Set dates at places by their local seasons.

    Each place gets one of the years, which is that of its greenup; the other seasons follow within
    twelve months. Of the four seasons `per_place` are drawn without replacement. The window to look
    for an image in is `window_days` about the middle of the season, inside the season.

    Args:
        keys: of the places.
        lonlat: `[n, 2]` degrees.
        phenology: seasons by key, from `shards.sampling.phenology`.
        years: to draw from.
        per_place: seasons a place, 1 to 4.
        window_days: length of a window.
        seed: any integer.
        flat: for places without seasons: `calendar` takes three months each, turned by half a year
            in the south; `nearest` the seasons of the nearest place that has some, within
            `nearest_km`, else the calendar; `leave` leaves them out. Counted and printed, and said
            in the column `rule`.
        nearest_km: see `flat`.

    Returns:
        rows by place and date.

    Raises:
        FMError: a place without an entry in `phenology`.
        UsageError: an argument out of range.
    """
    if flat not in FLAT:
        raise UsageError(f"flat={flat!r}; {suggest(flat, FLAT)}")
    if not 1 <= per_place <= 4 or window_days < 1 or not years:
        raise UsageError("per_place is 1 to 4, window_days at least 1, years at least one")
    missing = [key for key in keys if key not in phenology]
    if missing:
        raise FMError(f"{len(missing)} places are not in the phenology, such as {missing[0]}")
    places = np.asarray(lonlat, np.float64)
    bare = [i for i, key in enumerate(keys) if isinstance(phenology[key], NoSeasons)]
    donors = _nearest(keys, places, phenology, bare, nearest_km) if flat == "nearest" else {}
    rows: list[PlanRow] = []
    for i, key in enumerate(keys):
        lon, lat = float(places[i, 0]), float(places[i, 1])
        found = phenology[key]
        if isinstance(found, Seasons):
            seasons, rule = found, found.rule
        elif flat == "leave":
            continue
        elif i in donors:
            (seasons, donor, km), reason = donors[i], found.reason
            rule = f"nearest {donor}, {km:.0f} km: {reason}"
        else:
            seasons, rule = calendar_seasons(lat), f"calendar: {found.reason}"
        rows += _dates(key, lon, lat, seasons, rule, years, per_place, window_days, seed)
    if bare:
        what = {
            "leave": "are left out",
            "calendar": "get calendar seasons",
            "nearest": f"get others': {len(donors)} the nearest place's, the rest the calendar's",
        }[flat]
        note(f"{len(bare)} of {len(keys)} places have no seasons of their own and {what}")
    return rows


def write_plan(path: str | os.PathLike[str], rows: Sequence[PlanRow]) -> None:
    """Write a plan as CSV or Parquet, by the ending of the path.

    Raises:
        UsageError: another ending.
        FMError: no rows.
    """
    path = Path(path)
    if not rows:
        raise FMError(f"{path}: the plan has no rows; nothing was written")
    names = [field.name for field in fields(PlanRow)]
    import pyarrow

    table = pyarrow.Table.from_pylist([asdict(row) for row in rows]).select(names)
    sink = pyarrow.BufferOutputStream()
    if path.suffix == ".csv":
        from pyarrow import csv

        csv.write_csv(table, sink)
    elif path.suffix == ".parquet":
        from pyarrow import parquet

        parquet.write_table(table, sink)
    else:
        raise UsageError(f"{path}: a plan is .csv or .parquet")
    write_atomic(path, sink.getvalue().to_pybytes())


def _dates(
    key: str,
    lon: float,
    lat: float,
    seasons: Seasons,
    rule: str,
    years: Sequence[int],
    per_place: int,
    window_days: int,
    seed: int,
) -> Iterator[PlanRow]:
    name = xxhash.xxh3_64_intdigest(key.encode())
    year = years[int(hashed(seed, _YEAR, name) % np.uint64(len(years)))]
    ranks = {s: int(hashed(seed, _SEASON, name, k)) for k, s in enumerate(SEASONS)}
    chosen = sorted(SEASONS, key=ranks.__getitem__)[:per_place]
    first = seasons.middle("greenup")
    day_one = datetime.date(year, 1, 1)
    for season in SEASONS:
        if season not in chosen:
            continue
        _, length = seasons.interval(season)
        middle = first + (seasons.middle(season) - first) % YEAR
        half = min(length, window_days) / 2
        start, date, end = (
            (day_one + datetime.timedelta(days=int(np.floor(day - 1)))).isoformat()
            for day in (middle - half, middle, middle + half)
        )
        yield PlanRow(key, lon, lat, season, date, start, end, rule)


def _nearest(
    keys: Sequence[str],
    places: np.ndarray,
    phenology: Mapping[str, Seasons | NoSeasons],
    bare: Sequence[int],
    most_km: float,
) -> dict[int, tuple[Seasons, str, float]]:
    """Seasons, key and distance in km of the nearest place that has some, for those without."""
    own = [i for i, key in enumerate(keys) if isinstance(phenology[key], Seasons)]
    if not own or not bare:
        return {}
    targets = _vectors(places[own])
    found: dict[int, tuple[Seasons, str, float]] = {}
    for part in np.array_split(np.asarray(bare), max(1, len(bare) * len(own) // (1 << 24))):
        cosines = _vectors(places[part]) @ targets.T
        for i, j in zip(part.tolist(), cosines.argmax(axis=1).tolist(), strict=True):
            chord = float(np.linalg.norm(_vectors(places[i]) - targets[j]))
            km = 2 * EARTH_RADIUS_M / 1000 * float(np.arcsin(min(1.0, chord / 2)))
            seasons = phenology[keys[own[j]]]
            if km <= most_km and isinstance(seasons, Seasons):
                found[i] = seasons, keys[own[j]], km
    return found


def _vectors(lonlat: np.ndarray) -> np.ndarray:
    lon, lat = np.moveaxis(np.radians(lonlat), -1, 0)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def _ranks(numbers: np.ndarray, weights: np.ndarray, seed: int, purpose: int) -> np.ndarray:
    bits = splitmix64(hashed(seed, purpose) ^ splitmix64(numbers.astype(np.uint64)))
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53  # inside (0, 1)
    with np.errstate(divide="ignore"):
        return np.where(weights > 0, -np.log(uniform) / weights, np.inf)


def _checked(weights: np.ndarray, count: int) -> np.ndarray:
    found = np.asarray(weights, np.float64)
    if found.shape != (count,) or not np.isfinite(found).all() or (found < 0).any():
        raise FMError(f"weights must be {count} finite numbers from 0 on, one a cell or place")
    return found


@lru_cache(maxsize=8)
def _rows(cell_km: float) -> tuple[np.ndarray, np.ndarray]:
    """First cell and count of each row from the South Pole; south and north of each row."""
    starts: list[int] = [0]
    edges: list[tuple[float, float]] = []
    while not edges or edges[-1][1] < 90:
        west, south, east, north = block_bounds(starts[-1], cell_km)
        edges.append((south, north))
        starts.append(starts[-1] + round(360 / (east - west)))
    return np.asarray(starts), np.asarray(edges)


def _cells(cell_km: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield cell numbers and their centres, some rows at a time."""
    starts, edges = _rows(cell_km)
    row = 0
    while row < len(edges):
        stop = max(row + 1, int(np.searchsorted(starts, starts[row] + _CHUNK, side="right")) - 1)
        cells = np.arange(starts[row], starts[stop])
        yield cells, _inside(cells, cell_km, np.full((len(cells), 2), 0.5))
        row = stop


def _points(cells: np.ndarray, cell_km: float, seed: int) -> np.ndarray:
    bits = [
        splitmix64(hashed(seed, _POINT, axis) ^ splitmix64(cells.astype(np.uint64)))
        for axis in (0, 1)
    ]
    shares = np.stack([(b >> np.uint64(11)).astype(np.float64) / 2.0**53 for b in bits], axis=-1)
    return _inside(cells, cell_km, shares)


def _inside(cells: np.ndarray, cell_km: float, shares: np.ndarray) -> np.ndarray:
    """Places in cells at shares `[n, 2]` of longitude and of the sine of latitude."""
    starts, edges = _rows(cell_km)
    row = np.searchsorted(starts, cells, side="right") - 1
    counts = np.diff(starts)[row]
    lon = 360 * (cells - starts[row] + shares[:, 0]) / counts - 180
    low, high = np.moveaxis(np.sin(np.radians(edges[row])), -1, 0)
    return np.stack([lon, np.degrees(np.arcsin(low + shares[:, 1] * (high - low)))], axis=-1)
