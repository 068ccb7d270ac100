"""Reading columns of an index batch by batch, so that memory is bounded whatever its length."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from shards.dataset import Dataset

_AT_ONCE = 2**17


def scan(ds: "Dataset", columns: Sequence[str]) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """Read some columns of the samples of a dataset, in their order in the index file.

    Args:
        ds: a dataset, perhaps filtered.
        columns: their names; those that the index lacks are left out.

    Yields:
        places in the dataset, int64 `[n]`, and the columns of those samples.
    """
    file = pq.ParquetFile(ds.parquet)
    names = [name for name in columns if name in file.schema_arrow.names]
    place, order = None, None
    if ds.rows is not None:
        order = np.argsort(ds.rows, kind="stable")
        place = ds.rows[order]
    start = 0
    for batch in file.iter_batches(_AT_ONCE, columns=names):
        stop = start + batch.num_rows
        if place is None or order is None:
            yield np.arange(start, stop), batch
        else:
            first, last = np.searchsorted(place, (start, stop))
            if last > first:
                yield order[first:last], batch.take(pa.array(place[first:last] - start))
        start = stop


def has_column(ds: "Dataset", name: str) -> bool:
    """Say whether the index has a column."""
    return name in pq.read_schema(ds.parquet).names
