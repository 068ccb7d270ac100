"""CrisisLandMark (CLOSP; Rege Cambrin et al., arXiv 2507.10403): a corpus searched by words.

338,342 images of Sentinel-1 (VV, VH) and 308,461 of Sentinel-2 (12 bands), 120 px, drawn from
BigEarthNet v2, CaBuAr, Sen12Flood, MMFlood, Sen1Floods and QuakeSet. `crisislandmark.h5` links to a
group a sample, with `image` [C, 120, 120] float32, in the HDF5 files beside it; `metadata.parquet`
holds `key`, `labels` and `split`: 20 % are `train`, 80 % are the corpus (`test`).

Labels are the words of the sources: CORINE's level 3 or the corpus' own. They are joined to the 12
words of the corpus by the authors' table, whatever their case: nine of Dynamic World and three of
crises. (Run on labels with capitals, the authors' own class loses them: it looks lower case up
among names as they are.) A text is nothing but a set of these words.

* `crisislandmark-s2`, `-s1`: each word ranks the corpus; its average precision is the quality of
  that one-word query. Words are linear probes on the train list, so no text model is asked for.
* `crisislandmark-retrieval-s2`, `-s1`: 200 images of the train list rank the corpus; gains are
  shared words, which is what the text of an image holds.

Queries of several words in a text tower's space are not here: no model of this suite has one.
The order of the 12 bands is not published; it is taken for the product's (no B10) and must pass the
signatures of Sentinel-2 on opening. Stored numbers of Sentinel-2 are reflectance times 10,000, as
the authors' code has it. `coords` is described in two ways, so places are not given.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError, suggest
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Check, Declaration, Holdout, Listing, Window
from probes.benchmarks.files import Hdf5
from shards.sources.corine import CORINE

WORDS = (
    *("Trees", "Crops", "Shrub and Scrub", "Water", "Grass", "Built", "Flooded Vegetation"),
    *("Bare", "Snow and Ice", "Flooded Area", "Earthquake Damage", "Burned Area"),
)
# fmt: off
_CODES = {
    "Built": (111, 112, 121, 122, 123, 124),
    "Bare": (131, 132, 133, 331, 332, 333, 422, 423),
    "Grass": (141, 142, 231, 321),
    "Crops": (211, 212, 221, 222, 223, 241, 242, 243),
    "Flooded Vegetation": (213, 411, 412, 421),
    "Trees": (244, 311, 312, 313),
    "Shrub and Scrub": (322, 323, 324),
    "Burned Area": (334,),
    "Snow and Ice": (335,),
    "Water": (511, 512, 521, 522, 523),
}
# fmt: on
_NAME = {code: name for code, name, _ in CORINE}
WORD_OF: dict[str, int] = {
    **{_NAME[c].lower(): WORDS.index(word) for word, codes in _CODES.items() for c in codes},
    **{word.lower(): number for number, word in enumerate(WORDS)},
}
"""Word of each label, in lower case."""
SOURCES = {
    "s2": ("benv2s2", "cabuar", "sen2flood"),
    "s1": ("benv2s1", "mmflood", "sen1flood", "quakeset"),
}
"""What the keys of a sensor's samples hold one of."""
SIZES = {"s2": 308461, "s1": 338342}
QUERIES = 200
_BANDS = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B11", "B12"),
)
ARRAYS = {
    "s2": Array("s2l2a_10", "sentinel2-l2a", _BANDS, "float32", (120, 120), 10.0),
    "s1": Array("s1grd_10", "sentinel1-grd", ("VV", "VH"), "float32", (120, 120), 10.0),
}
CHECKS: dict[str, tuple[Check, ...]] = {
    "s2": signatures.S2_L2A,
    "s1": (signatures.decibels,),
}


class Images:
    """Reads `KEY/image` through the links of `crisislandmark.h5`; reflectance as a fraction."""

    def __init__(self, path: Path, keys: list[str], scale: float) -> None:
        self.file, self.keys, self.scale = Hdf5(path), keys, scale

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        """Read one image.

        Raises:
            FMError: the key is not there, or its file is missing or packed by an absent filter.
        """
        name = f"{self.keys[place]}/image"
        try:
            data = np.asarray(self.file[name])
        except (OSError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise FMError(
                f"{self.file.path}: {name} cannot be read ({reason}); all .h5 files belong beside "
                f"it, and packed ones need pip install hdf5plugin"
            ) from None
        return data * np.float32(self.scale) if data.dtype == np.float32 else data


def _with_filters() -> None:
    """Let h5py read what hdf5plugin's filters packed, where it is installed."""
    import importlib.util

    if importlib.util.find_spec("hdf5plugin") is not None:
        __import__("hdf5plugin")


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = ("key", "labels", "split")
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = " ".join(str(error).split())[:160]
        raise FMError(f"{path}: no table that can be read ({reason})") from None
    missing = [name for name in wanted if name not in schema.names]
    if missing:
        raise FMError(f"{path}: no column {missing[0]!r}; take the published table")
    rows: list[dict[str, Any]] = pq.read_table(path, columns=list(wanted)).to_pylist()
    return rows


def labels_of(path: Path, key: str, found: list[str]) -> NDArray[np.bool_]:
    """The words of a sample's labels.

    Raises:
        FMError: a label that is neither CORINE's nor the corpus' own.
    """
    words = np.zeros(len(WORDS), bool)
    for label in found:
        number = WORD_OF.get(label.lower())
        if number is None:
            near = suggest(label.lower(), WORD_OF)
            raise FMError(f"{path}: {key}: {label!r} is no label of the corpus; {near}")
        words[number] = True
    return words


def scan(folder: Path, kind: str, queries: int) -> Listing:
    """List the images of a sensor.

    Args:
        folder: holds the files.
        kind: `s1` or `s2`.
        queries: 0 takes the lists as they are. A number makes the corpus `train` (val is dealt from
            it), that many of the train list `test`, in the order of SHA-256(0/KEY), and leaves the
            rest of the train list out.
    """
    path = folder / "metadata.parquet"
    _with_filters()
    keys: list[str] = []
    lists: list[str] = []
    targets: list[NDArray[np.bool_]] = []
    for row in _rows(path):
        key = str(row["key"])
        if not any(word in key for word in SOURCES[kind]):
            continue
        if row["split"] not in ("train", "test"):
            raise FMError(f"{path}: {key}: its split is {row['split']!r}, expected train or test")
        keys.append(key)
        lists.append(row["split"])
        targets.append(labels_of(path, key, row["labels"] or []))
    if not keys:
        raise FMError(f"{path}: no key holds {', '.join(SOURCES[kind])}")
    split, note = lists, ""
    if queries:
        order = sorted(
            (i for i, part in enumerate(lists) if part == "train"),
            key=lambda i: hashlib.sha256(f"0/{keys[i]}".encode()).digest(),
        )
        asked = set(order[:queries])
        split = [
            "train" if part == "test" else "test" if i in asked else "unused"
            for i, part in enumerate(lists)
        ]
        note = f"{len(asked)} queries of the published train list, gallery is the corpus"
    return Listing(
        ids=keys,
        split=split,
        source=Images(folder / "crisislandmark.h5", keys, 1e-4 if kind == "s2" else 1.0),
        targets=np.stack(targets),
        notes=(note,) if note else (),
    )


def _declare(kind: str, retrieval: bool) -> Declaration:
    sensor = {"s2": "Sentinel-2", "s1": "Sentinel-1"}[kind]
    return Declaration(
        name=f"crisislandmark-{'retrieval-' if retrieval else ''}{kind}",
        version=1,
        help=(
            f"{sensor} by {sensor}, graded by shared words of 12"
            if retrieval
            else f"12 words of land cover and crises, each a query to the corpus, {sensor}"
        ),
        task="retrieval" if retrieval else "multilabel",
        primary="ndcg@1000" if retrieval else "map",
        classes=WORDS,
        arrays=(ARRAYS[kind],),
        scan=partial(scan, kind=kind, queries=QUERIES if retrieval else 0),
        published={"all": SIZES[kind]},
        split=(
            f"{QUERIES} queries of the published train list; the corpus is the gallery, as train "
            f"and val"
            if retrieval
            else "the published train list and corpus; val from train"
        ),
        layout="crisislandmark.h5, the .h5 files it links to, metadata.parquet",
        paper="Rege Cambrin et al., arXiv 2507.10403",
        witness="",
        leaks=(
            "images of one fire, flood or quake, and neighbours of BigEarthNet, are in both lists; "
            "the order of bands is not published"
        ),
        holdout=Holdout("train", {"val": 0.1, "train": 0.9}, by="sample"),
        checks=CHECKS[kind],
        verified="fixtures only (the authors' own class opens them with the same samples)",
    )


DECLARATIONS = tuple(_declare(kind, retrieval) for retrieval in (False, True) for kind in SOURCES)
