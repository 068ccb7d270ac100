"""Opening a dataset and reading single samples; `loader` streams batches (`shards.reading`)."""

import functools
import os
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fm.errors import FMError, UsageError, suggest
from fm.files import sha256_file
from shards.codecs.codec import CorruptError
from shards.format import COLUMNS, DESCRIPTION, INDEX, DatasetInfo, ModalityInfo, parse_info
from shards.index import parquet as index_file
from shards.index.columns import UNKNOWN, Columns, open_columns
from shards.ordering.order import WINDOW
from shards.sample import Sample, format_time
from shards.storage.local import LocalStorage, Storage, open_storage
from shards.where import compile_where, filter_table

if TYPE_CHECKING:
    import torch

    from shards.reading.batch import Batch

_WORD = re.compile(r"\w+")


def open(
    path: str | os.PathLike[str],
    where: str | None = None,
    *,
    split: tuple[str | os.PathLike[str], str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
) -> "Dataset":
    """Open a dataset.

    Args:
        path: its folder, or a URL that fsspec knows (`https://`, `s3://`, ...).
        where: keep the samples for which this is true, such as
            `"split == 'train' and month in (6, 7, 8)"`; the grammar is in `shards.where`.
        split: `(file, part)`: keep the samples of one part of a split that `fm shards split` or
            `shards.splits` wrote for this dataset.
        cache: folder for what is fetched from a URL; `EOFM_CACHE` when None.
        cache_bytes: bound on that folder.

    Raises:
        FMError: no such folder, no dataset, a newer format, a damaged description or index, or a
            split of another dataset.
        UsageError: `where` is no valid expression, or keeps nothing.
    """
    place = os.fspath(path)
    storage = open_storage(place, cache, cache_bytes)
    if not isinstance(storage, LocalStorage):
        place = storage.url  # without what is secret in it
    try:
        data = storage.read_bytes(DESCRIPTION)
    except (FileNotFoundError, NotADirectoryError):
        raise FMError(
            f"{place}: not a dataset (no {DESCRIPTION}); `fm shards build` makes one"
        ) from None
    info = parse_info(data, f"{place.rstrip('/')}/{DESCRIPTION}")
    if info.count == 0:
        raise FMError(f"{place}: the dataset holds no samples; build it again")
    tars = storage if info.root is None else open_storage(info.root, cache, cache_bytes)
    ds = Dataset(place, info, storage, tars)
    if split is not None:
        from shards.splits import read_part

        ds = ds.only(read_part(*split, manifest_hash=info.manifest_hash))
    return ds if where is None else ds.where(where)


class Dataset:
    """The samples of a dataset, or some of them, in the order of the index.

    Attributes:
        place: its folder or URL.
        info: its description.
        columns: what the loader needs of the index.
        rows: of the index, in order; None is all.
        storage: where the tars lie.
    """

    def __init__(
        self,
        place: str,
        info: DatasetInfo,
        beside: Storage,
        storage: Storage,
        columns: Columns | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        self.place, self.info, self.storage, self.rows = place, info, storage, rows
        self._beside = beside
        self.columns = columns or self._open_columns()

    def _open_columns(self) -> Columns:
        try:
            found = self._whole_columns()
        except FileNotFoundError:
            found = None
        if found is not None:
            return found
        from shards.index.columns_build import columns_in_memory

        return columns_in_memory(self.parquet, self.info)

    def _whole_columns(self) -> Columns | None:
        path = self._beside.local(COLUMNS)
        if isinstance(self._beside, LocalStorage):
            return open_columns(path, self.info)
        try:  # it was fetched whole, so a byte that was wrong on the way can be fetched again now
            found = open_columns(path, self.info)
            return found and found.checked()
        except FMError:
            if not self._beside.invalidate(COLUMNS, 0, path.stat().st_size):
                raise
        found = open_columns(self._beside.local(COLUMNS), self.info)
        return found and found.checked()

    def _kept(self, rows: np.ndarray) -> "Dataset":
        return Dataset(self.place, self.info, self._beside, self.storage, self.columns, rows)

    def __len__(self) -> int:
        return self.columns.count if self.rows is None else len(self.rows)

    def __repr__(self) -> str:
        names = ", ".join(self.modalities)
        return f"Dataset({self.place!r}, {len(self)} samples, {names})"

    @property
    def path(self) -> Path:
        """The folder of a local dataset."""
        return Path(self.place.removeprefix("file://"))

    @property
    def remote(self) -> bool:
        """Whether the tars are not on this machine."""
        return not isinstance(self.storage, LocalStorage)

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
        """Hash of the whole dataset's content, whatever samples are kept."""
        return self.info.manifest_hash

    @functools.cached_property
    def index(self) -> pa.Table:
        """The whole index of these samples in memory, one row a sample."""
        table = index_file.read(self.parquet, self.info, check_hash=False)
        return table if self.rows is None else table.take(pa.array(self.rows))

    @functools.cached_property
    def parquet(self) -> Path:
        """The index file, once its hash is known to fit."""
        try:
            path = self._beside.local(INDEX)
            digest = sha256_file(path)
            wrong = digest != self.info.index_sha256
            if wrong and self._beside.invalidate(INDEX, 0, path.stat().st_size):
                path = self._beside.local(INDEX)
                digest = sha256_file(path)
        except FileNotFoundError:
            raise FMError(
                f"{self.place}/{INDEX}: the index is missing; copy the whole dataset again"
            ) from None
        if digest != self.info.index_sha256:
            raise FMError(
                f"{path}: this is not the index that dataset.json describes (SHA-256 differs); "
                "copy the dataset again"
            )
        try:
            found = pq.read_schema(path)
        except (pa.ArrowException, OSError) as error:
            text = str(error).splitlines()[0]
            raise FMError(f"{path}: unreadable index ({text}); copy the dataset again") from None
        index_file.check_columns(path, found, self.info)
        return path

    def where(self, text: str) -> "Dataset":
        """Keep the samples for which an expression is true; the grammar is in `shards.where`.

        Raises:
            UsageError: no valid expression, or it keeps nothing.
        """
        schema = pq.read_schema(self.parquet)
        compile_where(text, schema, self.info.labels)  # says what is wrong, of all columns
        words = set(_WORD.findall(text)) | {"time"}
        names = [n for n in schema.names if n in words or n.removesuffix(".offset") in words]
        kept, start = [], 0
        with index_file.readable(self.parquet):
            for batch in pq.ParquetFile(self.parquet).iter_batches(1 << 18, columns=names):
                numbers = pa.array(np.arange(start, start + batch.num_rows))
                table = pa.Table.from_batches([batch]).append_column("row number", numbers)
                found = filter_table(text, table, self.info.labels).column("row number")
                kept.append(found.to_numpy())
                start += batch.num_rows
        rows = np.concatenate(kept)
        if self.rows is not None:
            rows = self.rows[np.isin(self.rows, rows)]
        if not len(rows):
            raise UsageError(f"{self.place}: no sample has {text}; widen where=")
        return self._kept(rows.astype(np.int64))

    def only(self, keys: Iterable[str]) -> "Dataset":
        """Keep the samples of these keys, in the order of the index.

        Raises:
            FMError: a key that is not here.
        """
        wanted = set(keys)
        here = [i for i, key in enumerate(self.keys) if key in wanted]
        lost = sorted(wanted - set(self.keys))
        if lost or not here:
            what = f"no sample {lost[0]} ({len(lost)} are missing)" if lost else "no keys given"
            raise FMError(f"{self.place}: {what}; the list belongs to another dataset")
        numbers = np.array(here, np.int64)
        return self._kept(numbers if self.rows is None else self.rows[numbers])

    @property
    def _every(self) -> np.ndarray:
        return np.arange(self.columns.count) if self.rows is None else self.rows

    @functools.cached_property
    def keys(self) -> list[str]:
        """Sample keys in order."""
        return [str(key) for key in self.columns.text("key", self._every)]

    @functools.cached_property
    def lonlat(self) -> np.ndarray:
        """Centres, degrees, float64 [N, 2]; NaN where unknown."""
        parts = [self.columns.take(name, self._every) for name in ("lon", "lat")]
        return np.stack(parts, axis=1)

    @functools.cached_property
    def time(self) -> np.ndarray:
        """Seconds since 1970 UTC, float64 [N]; NaN where unknown."""
        found = self.columns.take("time", self._every)
        return np.where(found == UNKNOWN, np.nan, found / 1e6)

    def shapes(
        self, modalities: Sequence[str] | None = None, crop: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of each modality in a batch, without the batch axis.

        Raises:
            FMError: sizes differ and no crop was given, or a modality is absent in a sample.
            UsageError: an unknown name, or a crop that does not fit.
        """
        from shards.reading.source import Choice, Source

        source = Source(self, Choice(modalities, labels=(), crop=crop))
        return {name: source.shapes[name] for name in source.modalities}

    def statistics(self, modality: str) -> dict[str, list[float]]:
        """Return per-band statistics in physical units: mean, std, min, max, percentiles, count."""
        if modality not in self.modalities:
            raise UsageError(f"no modality {modality!r}; {suggest(modality, self.modalities)}")
        return self.modalities[modality].statistics

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
        at = np.array([row])
        has = [m for m in self.info.members if self.columns.take(f"{m}.shape", at)[0]]
        wanted = has if members is None else list(members)
        key = self.columns.text("key", at)[0]
        for member in wanted:
            if member not in has:
                raise UsageError(f"sample {key} has no {member}; it has {has}")
        try:
            return {member: self._store.read(row, member) for member in wanted}
        except CorruptError as error:
            raise FMError(f"{self.place}: sample {key}: {error}; see `fm shards verify`") from None

    def close(self) -> None:
        """End what reads ahead from a URL; datasets made from this one by filters end with it."""
        self.storage.close()
        self._beside.close()

    @functools.cached_property
    def _store(self) -> Any:
        from shards.reading.store import Store

        return Store(self.storage, self.info, self.columns, self.info.members)

    def __getitem__(self, i: int) -> Sample:
        row = self._rows_of_index(self._row(i))
        window = tuple(row[name] for name in ("row", "col", "height", "width"))
        labels = {
            name: row[name]
            for name, label in self.info.labels.items()
            if label.kind != "mask" and row[name] is not None
        }
        times, transform = row.get("times"), row.get("transform")
        return Sample(
            key=row["key"],
            arrays=self.read(i),
            lonlat=None if row["lon"] is None else (row["lon"], row["lat"]),
            time=None if row["time"] is None else format_time(row["time"]),
            split=row["split"],
            labels=labels,
            window=None if None in window else window,
            valid_fraction=row["valid_fraction"],
            times=None if times is None else [format_time(moment) for moment in times],
            crs=row.get("crs"),
            transform=None if transform is None else tuple(transform),
        )

    @functools.cached_property
    def _rows_of_index(self) -> Callable[[int], dict[str, Any]]:
        return index_file.RowReader(self.parquet)

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
        bands: Mapping[str, Sequence[str]] | None = None,
        threads: int = 2,
        steps: int | None = None,
        shuffle: bool = True,
        window: int = WINDOW,
        replacement: bool = False,
        pad: bool = False,
        crop: int | None = None,
        random_crop: bool = False,
        device: "torch.device | str | None" = None,
        on_quarantine: Callable[[str, str], None] | None = None,
        max_bad: float = 0.05,
        report: str | os.PathLike[str] | None = None,
    ) -> "Generator[Batch, None, None]":
        """Stream batches.

        Step k holds the positions `[position + k*batch_size, position + (k+1)*batch_size)` of the
        stream of all epochs, in an order that depends on (dataset, seed, epoch) only. The stream
        is endless unless `steps` or `pad` is given; closing the generator ends its threads.

        Args:
            batch_size: the global batch, over all ranks.
            seed: of the order.
            epoch: of position 0.
            rank: this process; it gets `[rank*B//world_size, (rank+1)*B//world_size)` of a batch.
            world_size: number of processes.
            position: where to begin, in samples of the stream; to resume after k steps give
                `k * batch_size`.
            modalities: those to read; None reads all, or those that `bands` names.
            labels: those to read; None reads all.
            bands: by modality, the bands to give in that order; a modality without an entry is
                given whole. Members of other modalities are not read.
            threads: that read and decode; 0 reads in the caller's thread.
            steps: number of batches; None goes on without end (or to the end of a padded pass).
            shuffle: false gives the order of the index.
            window: positions that are shuffled among each other; larger ones mix more shards into
                a batch and travel further on disk (`docs/order.md`).
            replacement: draw every position from all samples.
            pad: one pass over the samples, the last batch filled with weight 0.
            crop: side of a crop in pixels of the finest grid, the same ground on every grid; None
                takes samples whole, which must then be of one size.
            random_crop: place crops by a hash of (seed, position) instead of in the centre.
            device: where the tensors go, copied while the batch before is in use.
            on_quarantine: called as `(key, reason)` once for each sample that cannot be read; None
                prints a line.
            max_bad: this share of the dataset (at least one sample) may be quarantined; see
                `shards.reading.quarantine`.
            report: JSON-lines file for what was quarantined, one a rank; what it lists of this
                dataset counts from the start.

        Raises:
            FMError: sizes differ and no crop was given, a modality is absent in a sample; later,
                more samples cannot be read than `max_bad` allows (the keys are listed).
            UsageError: an argument out of range or an unknown name.
        """
        from shards.ordering.order import Order
        from shards.reading import plan, reader
        from shards.reading.quarantine import Quarantine
        from shards.reading.source import Choice, Source

        share = plan.Share(batch_size, rank, world_size, position)
        plan.whole("epoch", epoch, 0)
        plan.whole("window", window, 1)
        if pad and (replacement or position > len(self)):
            raise UsageError(
                f"pad=True is one pass over the {len(self)} samples: it goes neither with "
                f"replacement=True nor with position={position} beyond them"
            )
        order = Order(
            len(self), seed, window=window, epoch=epoch, shuffle=shuffle, replacement=replacement
        )
        schedule = (plan.one_pass if pad else plan.stream)(order, share)
        choice = Choice(modalities, labels, bands, crop, random_crop, seed)
        quarantine = Quarantine(
            len(self), max_bad, report=report, on_quarantine=on_quarantine, dataset=self.place
        )
        return reader.load(
            [Source(self, choice)],
            plan.until(schedule, steps),
            [quarantine],
            threads=threads,
            device=device,
        )

    def _row(self, i: int) -> int:
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        i = int(i) % len(self)
        return i if self.rows is None else int(self.rows[i])
