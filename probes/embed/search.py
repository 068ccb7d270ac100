"""Which rows of a file of embeddings are most alike to a query, by their cosines."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError, UsageError, suggest
from fm.geo import great_circle_m
from probes.embed.approximate import Index
from probes.embed.parquet import Embeddings, Rows

_ROWS = 2048
"""Rows compared at a time: at 384 features 3 MB, still near when their lengths are taken."""
_SUGGESTED = 10_000
"""Keys among which a similar one is looked for when there is a mistake in one."""
_PLACE = re.compile(r"\s*([-+]?\d+(?:\.\d+)?)\s*,\s*([-+]?\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        text: as the user gave it.
        vector: `[D]`.
        row: of the file it is, None where it is another image.
        lonlat: degrees, NaN where unknown.
        words: what it was taken to be, for people.
    """

    text: str
    vector: NDArray[np.float32]
    row: int | None
    lonlat: tuple[float, float]
    words: str


@dataclass(frozen=True)
class Hit:
    """A row that was found.

    Attributes:
        rank: from 1.
        key: of the sample.
        cosine: with the query.
        lon: degrees; None where unknown.
        lat: degrees.
        km: from the query along the great circle; None where either place is unknown.
        time: of the sample, ISO 8601.
    """

    rank: int
    key: str
    cosine: float
    lon: float | None
    lat: float | None
    km: float | None
    time: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def of_row(found: Rows, text: str) -> Query:
    """Take a row by its key, or the row nearest to a place `LON,LAT`.

    Raises:
        UsageError: neither a key of the file nor a place.
        FMError: a place where no row has one.
    """
    if text in found.keys:
        row = found.keys.index(text)
        words = f"the row {text}"
    else:
        place = _PLACE.fullmatch(text)
        if place is None:
            few = len(found.keys) <= _SUGGESTED
            hint = suggest(text, found.keys) if few else f"it has keys such as {found.keys[0]!r}"
            raise UsageError(
                f"{text!r} is no key of the file, no LON,LAT, no image that is there; {hint[:200]}"
            )
        asked = np.array([float(place[1]), float(place[2])])
        if abs(asked[1]) > 90 or abs(asked[0]) > 540:
            raise UsageError(f"{text}: no place on Earth; write LON,LAT in degrees")
        away = great_circle_m(found.lonlat, asked)
        if np.isnan(away).all():
            raise FMError(f"{text}: no row of the file has a place; give a key")
        row = int(np.nanargmin(away))
        words = f"the row nearest to {text}: {found.keys[row]}, {away[row] / 1000:.1f} km away"
    lon, lat = found.lonlat[row].tolist()
    return Query(text, found.vector(row), row, (lon, lat), words)


def nearest(found: Rows, query: Query, count: int, index: Index | None = None) -> list[Hit]:
    """Find the rows with the largest cosine; the query's own row is left out.

    Args:
        found: the file.
        query: what is looked for.
        count: how many, at most.
        index: an approximate one, which may miss some; without it the search is exact.

    Returns:
        the most alike first; of equal cosines the earlier row, where the search is exact.

    Raises:
        FMError: the widths differ, or the query has no direction.
    """
    if index is not None:
        own = query.row is not None
        rows, near = index.nearest(query.vector, count + own)
        if len(rows) and int(rows.max()) >= len(found.keys):
            raise FMError("the index names rows that the file has not; give --rebuild")
        other = rows != query.row if own else np.ones(len(rows), bool)
        return _hits(found, query, rows[other][:count], near[other][:count])
    assert isinstance(found, Embeddings), "an exact search reads every row"
    if len(query.vector) != found.embedding.shape[1]:
        width = found.embedding.shape[1]
        raise FMError(f"the query has {len(query.vector)} features, the file's rows {width}")
    cosines = similarities(found.embedding, query.vector)
    if query.row is not None:
        cosines[query.row] = -np.inf
    cosines = np.where(np.isnan(cosines), -np.inf, cosines)
    count = min(count, int(np.isfinite(cosines).sum()))
    if not count:
        return []
    # all that tie with the last one take part, so that equal cosines are cut by row
    least = np.partition(cosines, len(cosines) - count)[len(cosines) - count]
    some = np.flatnonzero(cosines >= least)
    best = some[np.argsort(-cosines[some], kind="stable")][:count]
    return _hits(found, query, best, cosines[best])


def _hits(found: Rows, query: Query, best: np.ndarray, cosines: np.ndarray) -> list[Hit]:
    away = great_circle_m(found.lonlat[best], np.array(query.lonlat)) / 1000
    hits = []
    rows = zip(best.tolist(), cosines.tolist(), away.tolist(), strict=True)
    for rank, (row, alike, km) in enumerate(rows, 1):
        lon, lat = (_known(value) for value in found.lonlat[row].tolist())
        cosine = round(alike, 6)
        hits.append(Hit(rank, found.keys[row], cosine, lon, lat, _known(km), found.time[row]))
    return hits


def similarities(rows: np.ndarray, vector: np.ndarray) -> NDArray[np.float32]:
    """Return the cosine of each row `[N, D]` with a vector `[D]`; NaN for a row of zeros.

    Raises:
        FMError: the vector is zero or not finite.
    """
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not 0 < length < np.inf:
        raise FMError("the query's embedding is zero or not finite; it is like nothing")
    direction = (vector / length).astype(np.float32)
    made = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        lengths = np.sqrt(np.einsum("nd,nd->n", part, part))
        with np.errstate(invalid="ignore", divide="ignore"):
            made[start : start + len(part)] = (part @ direction) / lengths
    return made


def of_image(
    found: Rows, model: str, place: Path, *, sensor: str | None, bands: str | None
) -> Query:
    """Embed an image with the model that made the file.

    Args:
        found: the file.
        model: the checkpoint folder.
        place: a raster, or a folder of a Sentinel-2 scene's bands (`probes.embed.scene`).
        sensor: of a folder.
        bands: of a raster.

    Raises:
        UsageError: see `probes.embed.scene.open_scene`.
        FMError: it is not the model that made the file.
    """
    import fm
    from probes.embed.dense import whole
    from probes.embed.scene import open_scene
    from probes.features.extraction import model_hash

    loaded = fm.load(model).eval()
    if model_hash(loaded) != found.about.get("model_sha256"):
        raise FMError(
            f"{model} is not the model that made the file ({found.about.get('model')}): their "
            f"hashes differ; embed the dataset with it, or name the other"
        )
    scene = open_scene(place, sensor=sensor, bands=bands)
    return Query(str(place), whole(loaded, scene), None, scene.lonlat, f"the image {place.name}")


def _known(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
