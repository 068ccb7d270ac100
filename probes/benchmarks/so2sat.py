"""So2Sat LCZ42 (Zhu et al., doi 10.1109/MGRS.2020.2964708): 17 local climate zones.

HDF5 files of `sen1` [N, 32, 32, 8], `sen2` [N, 32, 32, 10] and `label` [N, 17], one of 17 set. All
bands of Sentinel-2 lie on one grid of 10 m: the modality is `s2l1c_10`. (The optical patches are
made of Level-1C data.) They are reflectances in floating numbers. Sentinel-1 has eight channels of
its own, see the sensor `sentinel1-so2sat`.

Version 3 has no validation lists. Where the files of version 4 tell a city of every patch
(`training_geo.h5`, the same patches in the same order as version 2 and as culture_10), whole cities
are held out. For the random and block splits nothing tells blocks, so single patches are, and the
result says that validation is close to training there; the test files are not touched.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing, Window
from probes.benchmarks.files import Hdf5

CLASSES = (
    *("Compact high rise", "Compact mid rise", "Compact low rise", "Open high rise"),
    *("Open mid rise", "Open low rise", "Lightweight low rise", "Large low rise"),
    *("Sparsely built", "Heavy industry", "Dense trees", "Scattered trees", "Bush, scrub"),
    *("Low plants", "Bare rock or paved", "Bare soil or sand", "Water"),
)
OPTICAL = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
RADAR = ("VH_re", "VH_im", "VV_re", "VV_im", "VH_lee", "VV_lee", "C_re", "C_im")
S2 = Array("s2l1c_10", "sentinel2-l1c", OPTICAL, "float64", (32, 32), 10.0, source="sen2")
S1 = Array("s1so2sat_10", "sentinel1-so2sat", RADAR, "float64", (32, 32), 10.0, source="sen1")
SHARE = 0.1
"""Of the training patches, for validation where there is none."""


class _Patches:
    """Patches of several files, one file a split."""

    def __init__(self, files: dict[str, Hdf5], where: list[tuple[str, int]]) -> None:
        self._files, self._where = files, where

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        part, row = self._where[place]
        return np.ascontiguousarray(np.moveaxis(self._files[part][array.source][row], -1, 0))


def scan(folder: Path, files: dict[str, str], cities: bool) -> Listing:
    """List the patches of a version.

    Args:
        folder: holds the files.
        files: split to file.
        cities: read the cities of the training patches from `training_geo.h5`.
    """
    opened = {part: Hdf5(folder / name) for part, name in files.items()}
    split: list[str] = []
    where: list[tuple[str, int]] = []
    labels: list[NDArray[np.int64]] = []
    for part, file in opened.items():
        hot = np.asarray(file["label"])
        if hot.ndim != 2 or hot.shape[1] != len(CLASSES) or not (hot.sum(1) == 1).all():
            raise FMError(f"{file.path}: label is {hot.shape}, expected one of 17 set a patch")
        for name in ("sen1", "sen2"):
            if file[name].shape[0] != len(hot):
                raise FMError(f"{file.path}: {file[name].shape[0]} of {name}, {len(hot)} labels")
        labels.append(hot.argmax(1).astype(np.int64))
        split += [part] * len(hot)
        where += [(part, row) for row in range(len(hot))]
    ids = [f"{files[part].removesuffix('.h5')}/{row:06d}" for part, row in where]
    return Listing(
        ids=ids,
        split=split,
        source=_Patches(opened, where),
        targets=np.concatenate(labels),
        groups=_cities(folder, split, ids) if cities else None,
    )


def _cities(folder: Path, split: list[str], ids: list[str]) -> list[str]:
    path = folder / "training_geo.h5"
    if not path.is_file():
        raise FMError(
            f"{path}: no such file; validation holds out whole cities, which only version 4 of "
            f"So2Sat LCZ42 tells: put its training_geo.h5 there"
        )
    stored = np.asarray(Hdf5(path)["city"]).reshape(-1)
    names = [c.decode() if isinstance(c, bytes) else str(c) for c in stored.tolist()]
    count = split.count("train")
    if len(names) != count:
        raise FMError(f"{path}: {len(names)} cities for {count} training patches")
    rest = iter(names)
    return [next(rest) if part == "train" else ids[i] for i, part in enumerate(split)]


def _declare(
    name: str,
    help: str,
    array: Array,
    files: dict[str, str],
    published: dict[str, int],
    split: str,
    leaks: str,
    holdout: Holdout | None = None,
) -> Declaration:
    cities = holdout is not None and holdout.by == "group"
    layout = ", ".join(files.values()) + (" and training_geo.h5 of version 4" if cities else "")
    return Declaration(
        name=name,
        version=1,
        help=help,
        task="class",
        primary="oa",
        classes=CLASSES,
        arrays=(array,),
        scan=partial(scan, files=files, cities=cities),
        published=published,
        split=split,
        layout=layout,
        paper="Zhu et al., doi 10.1109/MGRS.2020.2964708",
        witness="So2Sat",
        leaks=leaks,
        holdout=holdout,
        checks=(signatures.reflectance, signatures.b8a_beside_b08) if array is S2 else (),
    )


V2 = {"train": "training.h5", "val": "validation.h5", "test": "testing.h5"}
V2_COUNTS = {"train": 352366, "val": 24119, "test": 24188}
BY_PATCH = Holdout("train", {"val": SHARE, "train": 1 - SHARE}, by="sample")
BY_CITY = Holdout("train", {"val": SHARE, "train": 1 - SHARE})
HALVES = "val and test are the western and eastern halves of the same ten cities"
NEAR = "val is drawn patch by patch from train, of the same places: good for choosing, not a score"


def _v3(kind: str) -> dict[str, str]:
    return {"train": f"{kind}/training.h5", "test": f"{kind}/testing.h5"}


DECLARATIONS = (
    _declare(
        "so2sat",
        "17 local climate zones, 10 bands of Sentinel-2, 32 px, version 2",
        S2,
        V2,
        V2_COUNTS,
        "42 cities in train, ten others in val (west) and test (east)",
        HALVES,
    ),
    _declare(
        "so2sat-s1",
        "17 local climate zones, 8 channels of Sentinel-1, 32 px, version 2",
        S1,
        V2,
        V2_COUNTS,
        "42 cities in train, ten others in val (west) and test (east)",
        HALVES,
    ),
    _declare(
        "so2sat-random",
        "17 local climate zones, Sentinel-2, 32 px, version 3 random",
        S2,
        _v3("random"),
        {},
        "every city 80 % train and 20 % test at random; val from train",
        f"test patches lie among training patches; {NEAR}",
        BY_PATCH,
    ),
    _declare(
        "so2sat-block",
        "17 local climate zones, Sentinel-2, 32 px, version 3 block",
        S2,
        _v3("block"),
        {},
        "every city divided in place, 80 % train and 20 % test; val from train",
        NEAR,
        BY_PATCH,
    ),
    _declare(
        "so2sat-culture10",
        "17 local climate zones, Sentinel-2, 32 px, version 3 culture 10",
        S2,
        _v3("culture_10"),
        {"train": 352366, "test": 48307},
        "42 cities in train and val (whole cities), ten others in test",
        "",
        BY_CITY,
    ),
)
