"""An approximate index beside a file of embeddings: FAISS's inverted file of whole vectors.

Directions of the rows are put into cells around centres found by k-means (Jégou et al. 2011,
"Product quantization for nearest neighbor search", section IV, without the quantiser), and a query
looks into the cells nearest to it. How many is settled when the index is made, by what exact search
finds for rows of the table itself. Cells are mapped: only those that are looked into are read.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.console import note
from fm.errors import FMError, UsageError
from fm.files import atomic_folder, read_json, sha256_file, write_json
from fm.version import WRITER, check_format

FORMAT_VERSION = 1
ENDING = ".index"
_ABOUT, _CELLS = "index.json", "cells.faiss"
_ASKED, _NEIGHBOURS = 200, 10
_ALIKE = 1e-6
"""Cosines in float32 of one pair of rows, summed in two orders, differ by less."""
_SAME = ("st_ino", "st_size", "st_mtime_ns")
"""What of a file stays while nobody writes or replaces it."""
RECALL = 0.99
"""Of the ten nearest, what the rows asked must find on average; else every cell is looked into."""


@dataclass(frozen=True)
class About:
    """What is known of an index.

    Attributes:
        table_sha256: of the file of embeddings.
        table_size: in bytes.
        table_mtime_ns: of the same file, whose hash is taken anew only where this differs.
        rows: that are in it; rows of zeros have no direction.
        features: of a row.
        cells: of the index.
        looked_into: cells for a query.
        recall: share of the ten nearest by exact search that the asked rows found.
        asked: how many rows those were.
    """

    table_sha256: str
    table_size: int
    table_mtime_ns: int
    rows: int
    features: int
    cells: int
    looked_into: int
    recall: float
    asked: int


def faiss() -> Any:
    """Return the library.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import faiss as library
    except ImportError:
        raise UsageError(
            "--approximate needs FAISS: pip install 'eofm[ann]'; without it the search is exact"
        ) from None
    return library


def place(table: Path) -> Path:
    """Return the folder of a table's index."""
    return table.with_name(table.name + ENDING)


def build(
    table: Path, read: Callable[[], NDArray[np.float32]], *, overwrite: bool = False
) -> About:
    """Make the index of a table, whole or not at all.

    Args:
        table: the file.
        read: gives `[N, D]` of it.
        overwrite: replace an index that is there.

    Raises:
        UsageError: FAISS is not installed.
        FMError: no row has a direction, an index is there, or a folder that is none, or the table
            changed meanwhile.
    """
    library = faiss()
    stat, digest = table.stat(), sha256_file(table)
    rows = read()
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    kept = np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
    if not len(kept):
        raise FMError(f"{table}: no row has a direction to search by")
    directions = np.ascontiguousarray(rows[kept] / lengths[kept, None], np.float32)
    # FAISS asks for 39 rows a centre; 4 sqrt(N) cells make centres and rows of a cell cost alike
    cells = int(max(1, min(4 * np.sqrt(len(kept)), len(kept) / 39)))
    centres = library.IndexFlatIP(rows.shape[1])
    index = library.IndexIVFFlat(centres, rows.shape[1], cells, library.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1  # cells of a small table are no reason to warn
    index.train(directions)
    index.add_with_ids(directions, kept.astype(np.int64))
    some = np.random.default_rng(0).permutation(len(kept))[:_ASKED]
    looked_into, recall = _settle(index, directions, some)
    about = About(
        table_sha256=digest,
        table_size=stat.st_size,
        table_mtime_ns=stat.st_mtime_ns,
        rows=len(kept),
        features=rows.shape[1],
        cells=cells,
        looked_into=looked_into,
        recall=round(recall, 4),
        asked=len(some),
    )
    with atomic_folder(place(table), overwrite=overwrite, ours=(_ABOUT,)) as folder:
        library.write_index(index, str(folder / _CELLS))
        told = {"format_version": FORMAT_VERSION, "written_by": WRITER, **asdict(about)}
        write_json(folder / _ABOUT, told)
        now = table.stat()
        if any(getattr(now, k) != getattr(stat, k) for k in _SAME):
            raise FMError(f"{table}: changed meanwhile, run it again")
    return about


def _settle(index: Any, directions: np.ndarray, some: np.ndarray) -> tuple[int, float]:
    """Double the cells that are looked into until the nearest are found, `RECALL` of them."""
    count = min(_NEIGHBOURS, len(directions))
    exact = np.stack(
        [-np.partition(-(directions @ directions[row]), count - 1)[:count] for row in some]
    )
    looked, cells = 1, int(index.nlist)
    while True:
        index.nprobe = looked
        found, _ = index.search(np.ascontiguousarray(directions[some]), count)
        recall = share(found, exact)
        if recall >= RECALL or looked == cells:
            return looked, recall
        looked = min(2 * looked, cells)


def share(found: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """Return the share of neighbours found that are as near as the exact ones, over all queries.

    Rows that are alike stand for each other, so cosines are compared, not the rows' numbers.

    Args:
        found: `[Q, K]` cosines; far below -1 where nothing was found.
        exact: `[Q, K]` cosines of the K nearest.
    """
    return float((found >= exact.min(axis=1, keepdims=True) - _ALIKE).mean())


class Index:
    """An index that is there and fits its table.

    Args:
        table: the file of embeddings.

    Raises:
        UsageError: FAISS is not installed.
        FMError: there is none, it is damaged or newer, or the table has changed since.
    """

    def __init__(self, table: Path) -> None:
        library, folder = faiss(), place(table)
        values = read_json(folder / _ABOUT, "index; make one with --approximate")
        try:
            check_format(values, FORMAT_VERSION, str(folder / _ABOUT))
            self.about = _about(values)
        except (AttributeError, KeyError, TypeError):
            raise FMError(
                f"{folder}: no index of fm search; remove it, or give --rebuild"
            ) from None
        _refuse_changed(table, self.about)
        flags = library.IO_FLAG_MMAP | library.IO_FLAG_READ_ONLY
        try:
            self._index = library.read_index(str(folder / _CELLS), flags)
        except (MemoryError, RuntimeError) as error:
            why = " ".join(str(error).split())[-120:]
            raise FMError(f"{folder / _CELLS}: damaged ({why}); give --rebuild") from None
        if (self._index.ntotal, self._index.d) != (self.about.rows, self.about.features):
            raise FMError(f"{folder}: the cells are not those of {_ABOUT}; give --rebuild")

    def nearest(
        self, vector: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find rows and their cosines with a vector `[D]`, the most alike first.

        More than ten are looked for in as many more cells, and in twice as many while those hold
        too few: there are always `count`, or all rows.

        Raises:
            FMError: the width differs, or the vector has no direction.
        """
        if len(vector) != self.about.features:
            raise FMError(
                f"the query has {len(vector)} features, the file's rows {self.about.features}"
            )
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if not 0 < length < np.inf:
            raise FMError("the query's embedding is zero or not finite; it is like nothing")
        direction = (vector / length).astype(np.float32)[None]
        wanted, cells = min(count, self.about.rows), self.about.cells
        # settled for ten; more neighbours lie in more cells
        looked = min(cells, math.ceil(self.about.looked_into * max(1.0, count / _NEIGHBOURS)))
        while True:
            self._index.nprobe = looked
            cosines, rows = self._index.search(direction, wanted)
            there = rows[0] >= 0  # -1 where the cells that were looked into held fewer
            if there.all() or looked == cells:
                return rows[0][there].astype(np.int64), cosines[0][there]
            looked = min(2 * looked, cells)


def _about(values: dict[str, Any]) -> About:
    """Take what `index.json` says; TypeError, KeyError where `build` wrote none such."""
    about = About(**{k: values[k] for k in About.__dataclass_fields__})
    counts = about.rows, about.features, about.cells, about.looked_into, about.asked
    whole = (*counts, about.table_size, about.table_mtime_ns)
    if any(type(number) is not int for number in whole) or min(counts) < 1:
        raise TypeError("counts are integers from 1")
    return about


def _refuse_changed(table: Path, about: About) -> None:
    stat = table.stat()
    if (stat.st_size, stat.st_mtime_ns) == (about.table_size, about.table_mtime_ns):
        return
    if stat.st_size != about.table_size or sha256_file(table) != about.table_sha256:
        raise FMError(
            f"{place(table)} was made of {table} as it was; the file has changed since: "
            f"give --rebuild"
        )


def opened(table: Path, rows: Callable[[], NDArray[np.float32]], *, rebuild: bool) -> Index:
    """Open the index of a table; make it where there is none.

    Args:
        table: the file.
        rows: gives `[N, D]` of it, when they are needed.
        rebuild: make it anew.
    """
    faiss()  # before what takes long
    if rebuild or not place(table).exists():
        note(f"making {place(table)}, once")
        made = build(table, rows, overwrite=rebuild)
        note(
            f"{made.rows} rows in {made.cells} cells; {made.looked_into} looked into find "
            f"{made.recall:.3f} of the ten nearest to {made.asked} rows"
        )
    return Index(table)
