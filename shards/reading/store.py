"""Reading members by byte range, checked: the only place that touches the tars of a dataset."""

import errno
import threading
from collections.abc import Sequence

import numpy as np

from fm.errors import FMError
from shards.codecs.codec import MAX_BYTES, CorruptError, array_bytes, checksum, decode_into
from shards.foreign.names import is_foreign
from shards.format import CODECS, DatasetInfo
from shards.index.columns import Columns
from shards.storage.local import Storage

_MAX_MEMBER = MAX_BYTES + 2**20
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_GAP = 4096
"""Bytes between two members of a sample (tar header, padding, `KEY.json`) worth reading along."""

Place = tuple[str, int, int, int, int]
"""`(member, shard number, offset, bytes, xxh3-64)`."""


class Failed(CorruptError):
    """A member that could not be read; the text says which and why.

    Attributes:
        member: its name.
        shard: file name of its tar.
    """

    def __init__(self, member: str, shard: str, reason: str) -> None:
        super().__init__(f"{member}: {reason}")
        self.member, self.shard = member, shard


class Store:
    """The members of the rows of an index.

    Args:
        storage: where the tars lie.
        info: description of the dataset.
        columns: its index.
        members: those that will be read.
    """

    def __init__(
        self, storage: Storage, info: DatasetInfo, columns: Columns, members: tuple[str, ...]
    ) -> None:
        self._storage, self._columns = storage, columns
        self._local = threading.local()
        self._names = [shard.name for shard in info.shards]
        self._sizes = [shard.bytes for shard in info.shards]
        self._shapes = [(), *(tuple(shape) for shape in columns.header["shapes"])]
        self.dtype: dict[str, str] = {}
        self._ending: dict[str, str] = {}
        for member in members:
            self.dtype[member], codec = info.stored(member)
            self._ending[member] = codec if is_foreign(codec) else CODECS[codec]
        self._raw = "npy" in self._ending.values()

    def shapes(self, member: str, rows: np.ndarray) -> list[tuple[int, ...]]:
        """Return the shapes of a member at some rows; `()` where it is absent."""
        return [self._shapes[n] for n in self._columns.take(f"{member}.shape", rows).tolist()]

    def places(self, member: str, rows: np.ndarray) -> list[Place]:
        """Return where a member lies at some rows (bytes 0 where it is absent)."""
        own = f"{member}.shard"
        columns = [self._columns.take(own if own in self._columns else "shard", rows)]
        for part in ("offset", "bytes", "xxh3"):
            columns.append(self._columns.take(f"{member}.{part}", rows))
        lists = (column.tolist() for column in columns)
        return [(member, *numbers) for numbers in zip(*lists, strict=True)]

    def hint(self, places: Sequence[Place]) -> None:
        """Say what will be read soon."""
        names = self._names
        self._storage.prefetch([(names[s], o, n) for _, s, o, n, _ in places if n])

    def read_into(self, places: Sequence[Place], outs: Sequence[np.ndarray]) -> None:
        """Read, check and decode members of one sample straight into C-contiguous arrays.

        Compressed members that lie next to each other are read at once.

        Raises:
            Failed: the range is impossible, the file is missing or short, the checksum does not
                fit, or the bytes do not hold such an array.
        """
        if len(places) == 1 or self._raw:
            for place, out in zip(places, outs, strict=True):
                self._decode(place, self._bytes(place), out)
            return
        first = places[0]
        start, end, total, near = first[2], 0, _GAP * len(places), True
        for place in places:
            self._check_range(place)
            _, shard, offset, size, _ = place
            start, end, total = min(start, offset), max(end, offset + size), total + size
            near = near and shard == first[1]
        if not near or end - start > total:
            for place, out in zip(places, outs, strict=True):
                self._decode(place, self._read(place, place[2], place[3]), out)
            return
        whole = self._read(first, start, end - start)
        for place, out in zip(places, outs, strict=True):
            at = place[2] - start
            self._decode(place, whole[at : at + place[3]], out)

    def read(self, row: int, member: str) -> np.ndarray:
        """Read, check and decode a member into a new array, bounded first."""
        at = np.array([row])
        (shape,), (place,) = self.shapes(member, at), self.places(member, at)
        try:
            array_bytes(shape, self.dtype[member])
        except CorruptError as error:
            raise Failed(member, self._names[place[1]], str(error)) from None
        out = np.empty(shape, self.dtype[member])
        self.read_into([place], [out])
        return out

    def release(self) -> None:
        """Let go of the files."""
        self._storage.release()

    def _check_range(self, place: Place) -> None:
        member, shard, offset, size, _ = place
        if not 0 < size <= _MAX_MEMBER or offset + size > self._sizes[shard]:
            reason = f"byte range {offset}+{size} is not inside its shard"
            raise Failed(member, self._names[shard], reason)

    def _bytes(self, place: Place) -> memoryview:
        self._check_range(place)
        member, shard, offset, size, _ = place
        if self._ending[member] == "npy":  # nothing to decode: a copy in between would cost most
            try:
                mapped = self._storage.view(self._names[shard], offset, size)
            except (OSError, CorruptError) as error:
                raise self._failed(place, error) from None
            if mapped is not None:
                return memoryview(mapped)  # type: ignore[arg-type]
        return self._read(place, offset, size)

    def _read(
        self, place: Place, offset: int, size: int, view: memoryview | None = None
    ) -> memoryview:
        """Read into a buffer; without one into this thread's, which holds until its next call."""
        if view is None:
            scratch = getattr(self._local, "scratch", None)
            if scratch is None or len(scratch) < size:
                scratch = self._local.scratch = memoryview(bytearray(size))
            view = scratch[:size]
        try:
            self._storage.read_into(self._names[place[1]], offset, view)
        except (OSError, CorruptError) as error:
            raise self._failed(place, error) from None
        return view

    def _decode(self, place: Place, view: memoryview, out: np.ndarray) -> None:
        member, shard, offset, size, digest = place
        raw = self._ending[member] == "npy"
        wrong: Failed | None = None
        if raw:  # a copy first: then its bytes are in the cache for the checksum
            try:
                self._into(place, view, out)
            except Failed as error:  # the checksum says whether to fetch it again
                wrong = error
        if checksum(view) != digest:
            name = self._names[shard]
            again = self._storage.invalidate(name, offset, size)
            if again:  # what came over the network or lay in the cache was wrong
                view = self._read(place, offset, size, memoryview(bytearray(size)))
            if not again or checksum(view) != digest:
                raise Failed(member, name, f"checksum mismatch in {name}")
            raw = False
        elif wrong is not None:
            raise wrong
        if not raw:
            self._into(place, view, out)

    def _into(self, place: Place, view: memoryview, out: np.ndarray) -> None:
        try:
            decode_into(view, self._ending[place[0]], out)
        except CorruptError as error:
            raise self._failed(place, error) from None

    def _failed(self, place: Place, error: OSError | CorruptError) -> Failed | FMError:
        reason = str(error)
        if isinstance(error, OSError) and error.errno in _OURS:
            return FMError(
                f"{self._names[place[1]]}: {error.strerror}; that is this machine, not the data: "
                "raise the limit (ulimit -n) or close what else is open"
            )
        if isinstance(error, OSError):
            reason = f"{self._names[place[1]]}: {error.strerror or error}"
        return Failed(place[0], self._names[place[1]], reason)
