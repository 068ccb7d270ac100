"""One tar put together again, range by range, from whichever of two copies has each one whole."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash

from fm.errors import FMError
from fm.files import fsync_folder
from shards.codecs.codec import CorruptError
from shards.format import ShardInfo
from shards.integrity import fresh
from shards.integrity.spans import Catalogue, Spans, impossible
from shards.storage.local import Storage
from shards.tar import end_of_archive

PARTIAL = ".repair.partial"
"""How the names of files and folders end that are being made."""
_PIECE = 1 << 20
_LOST, _HERE, _THERE = -1, 0, 1


def replace(aside: Path, target: Path) -> None:
    """Move a finished file into place, durably.

    Raises:
        FMError: the target is a folder, or cannot be written.
    """
    try:
        with open(aside, "rb") as stream:
            os.fsync(stream.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, target)
        fsync_folder(target.parent)
    except OSError as error:
        raise FMError(f"{target}: cannot be replaced ({error.strerror}); remove it") from None


class Assembly:
    """Which copy has which range of a tar.

    Every range is compared with its checksum in the index: whole samples, or members in a tar that
    somebody else wrote. The bytes between them have none; the SHA-256 of the result decides. What
    is wrong in a copy at a URL is dropped from the cache and read again.

    Args:
        shard: what is said of the tar.
        catalogue: where its ranges lie; None takes the whole tar as one.
        here: the folder that is repaired.
        there: the other copy, if any.

    Attributes:
        spans: the ranges.
        source: int64 [n], for each range 0 (here), 1 (there) or -1 (whole in neither).
        unplaced: rows of the index whose range cannot be.
        ours: the ranges are whole samples, end to end.
    """

    def __init__(
        self,
        shard: ShardInfo,
        catalogue: Catalogue | None,
        here: Storage,
        there: Storage | None,
    ) -> None:
        self.shard, self._copies = shard, (here, there)
        none = np.empty(0, np.int64)
        self.spans = Spans(none, none, none, none, none)
        self.unplaced, self.ours = none, False
        if catalogue is not None:
            self.spans = catalogue.samples(shard.name)
            self.ours = len(self.spans) > 0
            if not self.ours:
                self.spans = catalogue.members(shard.name)
            bad = impossible(self.spans, shard.bytes)
            self.unplaced = self.spans.row[bad]
            self.spans = self.spans.take(~bad)
        self.source = np.full(len(self.spans), _LOST)
        for number in (_HERE, _THERE):
            self._find(number)

    def _find(self, number: int) -> None:
        """Set the source of the ranges that have none yet and are whole in a copy."""
        copy = self._copies[number]
        if copy is None:
            return
        try:
            size = copy.size(self.shard.name)
        except OSError:
            return
        for at in np.flatnonzero(self.source == _LOST).tolist():
            start, end = int(self.spans.start[at]), int(self.spans.start[at] + self.spans.size[at])
            if end > size:
                continue
            for _ in range(fresh.readings(copy)):
                digest = xxhash.xxh3_64()
                try:
                    for piece in self._pieces(number, start, end):
                        digest.update(piece)
                except (OSError, CorruptError):
                    break
                if digest.intdigest() == int(self.spans.xxh3[at]):
                    self.source[at] = number
                    break
                copy.invalidate(self.shard.name, start, end - start)

    @property
    def lost(self) -> np.ndarray:
        """Rows of the index whose range is whole in neither copy, each once."""
        lost = self.spans.row[self.source == _LOST]
        return np.unique(np.concatenate([lost, self.unplaced]))

    def mend(self, target: Path, *, dry_run: bool = False) -> bool:
        """Write the tar as it was, and put it in place when its SHA-256 is that of the description.

        Args:
            target: the file; it is replaced whole or not at all.
            dry_run: only say whether it can be done.

        Returns:
            whether the tar is (or would be) whole.
        """
        if (self.source == _LOST).any():
            return False
        for number, gaps in enumerate((_HERE, _THERE, _THERE)):
            if number == 2 and not self._may_change():
                break
            if dry_run:
                if self._write(None, gaps):
                    return True
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}{PARTIAL}")
            try:
                with open(aside, "wb") as stream:
                    whole = self._write(stream, gaps)
                if whole:
                    replace(aside, target)
                    return True
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(aside)
        return False

    def _may_change(self) -> bool:
        """Drop what a cache holds of the other copy's tar; say whether a reading may differ now."""
        there = self._copies[_THERE]
        try:
            return there is not None and there.invalidate(self.shard.name, 0, self.shard.bytes)
        except OSError:  # it has no such tar
            return False

    def _write(self, stream: BinaryIO | None, gaps: int) -> bool:
        """Write everything, the bytes between ranges from one copy; return whether it fits."""
        digest, place = hashlib.sha256(), 0

        def take(copy: int, start: int, end: int, wanted: int | None = None) -> None:
            nonlocal digest
            storage, before = self._copies[copy], digest.copy()
            assert storage is not None
            for _ in range(fresh.readings(storage)):
                check, digest = xxhash.xxh3_64(), before.copy()
                if stream is not None:
                    stream.seek(start)
                for piece in self._pieces(copy, start, end):
                    digest.update(piece)
                    check.update(piece)
                    if stream is not None:
                        stream.write(piece)
                if wanted is None or check.intdigest() == wanted:
                    break
                storage.invalidate(self.shard.name, start, end - start)

        if self._copies[gaps] is None:
            return False
        try:
            for at, source in enumerate(self.source.tolist()):
                start, size = int(self.spans.start[at]), int(self.spans.size[at])
                take(gaps, place, start)
                take(source, start, start + size, int(self.spans.xxh3[at]))
                place = start + size
            rest = self.shard.bytes - place
            if self.ours and rest == end_of_archive(place):
                digest.update(bytes(rest))
                if stream is not None:
                    stream.write(bytes(rest))
            else:
                take(gaps, place, self.shard.bytes)
        except (OSError, CorruptError):
            return False
        return digest.hexdigest() == self.shard.sha256

    def range(self, at: int) -> Iterator[memoryview]:
        """Return the bytes of a range in pieces, from the copy that has it.

        Raises:
            CorruptError: the file ends early now.
            OSError: it cannot be read now.
        """
        start = int(self.spans.start[at])
        return self._pieces(int(self.source[at]), start, start + int(self.spans.size[at]))

    def _pieces(self, number: int, start: int, end: int) -> Iterator[memoryview]:
        copy = self._copies[number]
        assert copy is not None
        room = memoryview(bytearray(min(_PIECE, max(0, end - start))))
        for place in range(start, end, _PIECE):
            piece = room[: min(_PIECE, end - place)]
            copy.read_into(self.shard.name, place, piece)
            yield piece
