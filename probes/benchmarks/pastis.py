"""PASTIS: crops of a pixel from a year of Sentinel-2.

Garnot and Landrieu, "Panoptic Segmentation of Satellite Image Time Series with Convolutional
Temporal Attention Networks" (ICCV 2021, arXiv 2107.07933). 2433 series of 128 px at four places of
France, September 2018 to November 2019, ten bands of Sentinel-2 L2A as THEIA publishes it: 16-bit
numbers of 1/10 000 reflectance, -10 000 where there are no data. Clouds are not masked, and no mask
is published. The first channel of a target is the class; 19 (void, parcels mostly outside their
patch) does not count, 0 (background) is a class as the authors count it.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from fm.geo import lonlat_of
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Listing, Window
from probes.benchmarks.files import all_there, names_in

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CLASSES = (
    "background",
    "meadow",
    "soft winter wheat",
    "corn",
    "winter barley",
    "winter rapeseed",
    "spring barley",
    "sunflower",
    "grapevine",
    "beet",
    "winter triticale",
    "winter durum wheat",
    "fruits, vegetables, flowers",
    "potatoes",
    "leguminous fodder",
    "soybeans",
    "orchard",
    "mixed cereal",
    "sorghum",
)
VOID = len(CLASSES)
PART = {1: "train", 2: "train", 3: "train", 4: "val", 5: "test"}
"""Split of each fold: the first of the authors' five runs."""
METADATA = "metadata.geojson"


def scan(folder: Path) -> Listing:
    """List the patches of the folder that holds `metadata.geojson`."""
    path = folder / METADATA
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        patches = [_patch(item) for item in found["features"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FMError(
            f"{path}: cannot be read as PASTIS publishes it ({type(error).__name__}: {error})"
        ) from None
    ids = [patch.name for patch in patches]
    series = [f"S2_{name}.npy" for name in ids]
    all_there(folder / "DATA_S2", series, set(names_in(folder / "DATA_S2", ".npy")))
    truth = [f"TARGET_{name}.npy" for name in ids]
    all_there(folder / "ANNOTATIONS", truth, set(names_in(folder / "ANNOTATIONS", ".npy")))
    strange = sorted({patch.fold for patch in patches} - set(PART))
    if strange:
        raise FMError(f"{path}: fold {strange[0]}, expected 1 to 5")
    crs = _crs(found)
    return Listing(
        ids=ids,
        split=[PART[patch.fold] for patch in patches],
        source=_Series(folder, patches),
        mask=_Targets(folder, ids),
        lonlat=None if crs is None else lambda i: _centre(patches[i].corners, crs),
        times=[patch.times[patch.order] for patch in patches],
    )


class _Patch:
    """What the metadata says of a patch; times are as listed, `order` sorts them."""

    def __init__(self, name: str, fold: int, times: NDArray[np.float64], corners: Any) -> None:
        self.name, self.fold, self.times, self.corners = name, fold, times, corners
        self.order = np.argsort(times, kind="stable")


def _patch(item: Mapping[str, Any]) -> _Patch:
    about = item["properties"]
    dates = about["dates-S2"]
    if isinstance(dates, str):  # as GDAL writes a property that is no plain value
        dates = json.loads(dates)
    listed = [dates[key] for key in sorted(dates, key=int)]
    times = [datetime.strptime(str(d), "%Y%m%d").replace(tzinfo=UTC).timestamp() for d in listed]
    corners = item["geometry"]["coordinates"] if item.get("geometry") else None
    return _Patch(str(int(about["ID_PATCH"])), int(about["Fold"]), np.array(times), corners)


def _crs(found: Mapping[str, Any]) -> str | None:
    about = found.get("crs") or {}
    name: str | None = (about.get("properties") or {}).get("name")
    return name


def _centre(corners: Any, crs: str) -> tuple[float, float]:
    points = np.array(_flat(corners), np.float64)
    x, y = (points.min(0) + points.max(0)) / 2
    lon, lat = lonlat_of(x, y, crs).tolist()
    return lon, lat


def _flat(corners: Any) -> list[list[float]]:
    """Points of a polygon or of several."""
    if corners and isinstance(corners[0], int | float):
        return [list(corners[:2])]
    return [point for part in corners or () for point in _flat(part)]


class _Series:
    """Images of the series, mapped and not read whole, in the order of time."""

    def __init__(self, folder: Path, patches: list[_Patch]) -> None:
        self._folder, self._patches = folder, patches

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        del window
        patch = self._patches[place]
        path = self._folder / "DATA_S2" / f"S2_{patch.name}.npy"
        stored = _npy(path, mapped=True)
        if stored.ndim != 4 or len(stored) != len(patch.times):
            raise FMError(
                f"{path}: {' x '.join(map(str, stored.shape))}, the metadata lists "
                f"{len(patch.times)} dates; take the published files"
            )
        return np.array(stored[patch.order[date]])


class _Targets:
    """Classes of the pixels: the first of three channels."""

    def __init__(self, folder: Path, ids: list[str]) -> None:
        self._folder, self._ids = folder, ids

    def __call__(self, place: int, window: Window | None) -> NDArray[np.int64]:
        del window
        path = self._folder / "ANNOTATIONS" / f"TARGET_{self._ids[place]}.npy"
        stored = _npy(path)
        if stored.ndim != 3 or stored.shape[1:] != (128, 128):
            raise FMError(f"{path}: {' x '.join(map(str, stored.shape))}, expected 3 x 128 x 128")
        found = stored[0].astype(np.int64)
        if found.min() < 0 or found.max() > VOID:
            raise FMError(f"{path}: holds class {int(found.max())}, there are 0 to {VOID}")
        return np.where(found == VOID, -1, found)


def _npy(path: Path, mapped: bool = False) -> np.ndarray:
    try:
        stored: np.ndarray = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FMError(f"{path}: cannot be read ({error}); take the published files") from None
    return stored


DECLARATIONS = (
    Declaration(
        name="pastis",
        version=1,
        help="18 crops and background a pixel, series of 38 to 61 dates of Sentinel-2, 128 px",
        task="segmentation",
        primary="miou",
        classes=CLASSES,
        arrays=(
            Array("s2l2a_10", "sentinel2-l2a", BANDS, "int16", (128, 128), 10.0, nodata=-10_000),
        ),
        scan=scan,
        published={"train": 1455, "val": 482, "test": 496},
        split="folds 1 to 3 in train, 4 in val, 5 in test: the first of the authors' five runs",
        layout="DATA_S2/S2_ID.npy, ANNOTATIONS/TARGET_ID.npy and metadata.geojson in PASTIS-R",
        paper="Garnot and Landrieu, arXiv 2107.07933",
        witness="PASTIS",
        leaks=(
            "clouds are not masked; pixels of class 19 (void) do not count, background does; "
            "published scores are means of five runs, this is one"
        ),
        checks=(signatures.reflectance, signatures.b8a_beside_b08),
        series=True,
    ),
)
