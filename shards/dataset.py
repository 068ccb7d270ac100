"""Opening a dataset and reading single samples; `loader` streams batches (`shards.reader`)."""

import functools
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fm.errors import FMError, UsageError, suggest
from shards import index as index_file
from shards.codec import CorruptError
from shards.format import INDEX, DatasetInfo, ModalityInfo, read_info
from shards.sample import Sample, format_time
from shards.store import Store
from shards.where import filter_table

if TYPE_CHECKING:
    from shards.reader import Batch


def open(path: str | os.PathLike[str], where: str | None = None) -> "Dataset":
    """Open a dataset folder.

    Args:
        path: the folder.
        where: keep the samples for which this is true, such as
            `"split == 'train' and month in (6, 7, 8)"`; the grammar is in `shards.where`.

    Raises:
        FMError: no such folder, no dataset, a newer format, a damaged description or index.
        UsageError: `where` is no valid expression, or keeps nothing.
    """
    folder = Path(path)
    info = read_info(folder)
    table = index_file.read(folder / INDEX, info)
    if len(table) == 0:
        raise FMError(f"{folder}: the dataset holds no samples; build it again")
    if where is not None:
        table = filter_table(where, table, info.labels)
        if len(table) == 0:
            raise UsageError(f"{folder}: no sample has {where}; widen where=")
    return Dataset(folder, info, table)


class Dataset:
    """The samples of a folder, or those that `where` kept, in the order of the index.

    Attributes:
        path: the folder.
        info: its description.
        index: one row a sample (`pyarrow.Table`).
    """

    def __init__(self, path: Path, info: DatasetInfo, index: pa.Table) -> None:
        self.path, self.info, self.index = path, info, index

    def __len__(self) -> int:
        return len(self.index)

    def __repr__(self) -> str:
        names = ", ".join(self.modalities)
        return f"Dataset({str(self.path)!r}, {len(self)} samples, {names})"

    @property
    def modalities(self) -> dict[str, ModalityInfo]:
        """Modalities by name."""
        return self.info.modalities

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors, each once."""
        return self.info.sensors

    @property
    def manifest_hash(self) -> str:
        """Hash of the whole dataset's content, whatever `where` kept."""
        return self.info.manifest_hash

    @functools.cached_property
    def keys(self) -> list[str]:
        """Sample keys in order."""
        return self.index.column("key").to_pylist()

    @functools.cached_property
    def lonlat(self) -> np.ndarray:
        """Centres, degrees, float64 [N, 2]; NaN where unknown."""
        columns = [_floats(self.index.column(name)) for name in ("lon", "lat")]
        return np.stack(columns, axis=1)

    @functools.cached_property
    def time(self) -> np.ndarray:
        """Seconds since 1970 UTC, float64 [N]; NaN where unknown."""
        column = self.index.column("time")
        return _floats(column.cast(pa.int64())) / 1e6

    def statistics(self, modality: str) -> dict[str, list[float]]:
        """Return per-band statistics in physical units: mean, std, min, max, percentiles, count."""
        return self._modality(modality).statistics

    def read(self, i: int, members: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Read and check the arrays of one sample.

        Args:
            i: place in this dataset; negative counts from the end.
            members: modalities and masks; None reads what the sample has.

        Returns:
            arrays of the stored dtype by member name.

        Raises:
            FMError: the bytes are damaged.
            UsageError: an unknown member, or one that this sample does not have.
        """
        row = self._row(i)
        for member in members or ():
            if member not in self.info.members:
                raise UsageError(f"no member {member!r}; {suggest(member, self.info.members)}")
        store = self._store
        has = [member for member in self.info.members if store.has(member)[row]]
        wanted = has if members is None else list(members)
        for member in wanted:
            if member not in has:
                raise UsageError(f"sample {self.keys[row]} has no {member}; it has {has}")
        try:
            return {member: store.read(row, member) for member in wanted}
        except CorruptError as error:
            raise FMError(
                f"{self.path}: sample {self.keys[row]}: {error}; see `fm shards verify`"
            ) from None

    @functools.cached_property
    def _store(self) -> Store:
        return Store(self.path, self.info, self.index, self.info.members, max_idle=0)

    def __getitem__(self, i: int) -> Sample:
        row = self.index.slice(self._row(i), 1).to_pylist()[0]
        window = tuple(row[name] for name in ("row", "col", "height", "width"))
        labels = {
            name: row[name]
            for name, label in self.info.labels.items()
            if label.kind != "mask" and row[name] is not None
        }
        return Sample(
            key=row["key"],
            arrays=self.read(i),
            lonlat=None if row["lon"] is None else (row["lon"], row["lat"]),
            time=None if row["time"] is None else format_time(row["time"]),
            split=row["split"],
            labels=labels,
            window=None if None in window else window,
            valid_fraction=row["valid_fraction"],
        )

    def loader(
        self,
        batch_size: int = 256,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        position: int = 0,
        *,
        modalities: Sequence[str] | None = None,
        labels: Sequence[str] | None = None,
        threads: int = 2,
        steps: int | None = None,
        shuffle: bool = True,
        pad: bool = False,
        crop: int | None = None,
        on_quarantine: Callable[[str, str], None] | None = None,
        max_bad: float = 0.05,
    ) -> "Generator[Batch, None, None]":
        """Stream batches.

        Step k holds the positions `[position + k*batch_size, position + (k+1)*batch_size)` of the
        stream of all epochs, in an order that depends on (dataset, seed, epoch) only.

        Args:
            batch_size: the global batch, over all ranks.
            seed: of the order.
            epoch: of position 0.
            rank: this process; it gets `[rank*B//world_size, (rank+1)*B//world_size)` of a batch.
            world_size: number of processes.
            position: where to begin, in samples of the stream; to resume after k steps give
                `k * batch_size`.
            shuffle: false gives the order of the index.
            pad: one pass over the samples, the last batch filled with weight 0.
            modalities: see `shards.reader.load`, also for the other arguments and the errors.
            labels: as there.
            threads: as there.
            steps: as there.
            crop: as there.
            on_quarantine: as there.
            max_bad: as there.
        """
        from shards import reader

        plan = reader.Plan(
            len(self), batch_size, seed, epoch, rank, world_size, position, shuffle, pad
        )
        return reader.load(
            self,
            plan,
            modalities=modalities,
            labels=labels,
            threads=threads,
            steps=steps,
            crop=crop,
            on_quarantine=on_quarantine,
            max_bad=max_bad,
        )

    def _row(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        return int(i) % len(self)

    def _modality(self, name: str) -> ModalityInfo:
        if name not in self.modalities:
            raise UsageError(f"no modality {name!r}; {suggest(name, self.modalities)}")
        return self.modalities[name]


def _floats(column: Any) -> np.ndarray:
    values = column.cast(pa.float64()).combine_chunks()
    return values.to_numpy(zero_copy_only=False).astype(np.float64)
