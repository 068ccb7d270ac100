"""Deterministic USTAR writing, with the place of every byte known.

Only what `index.parquet` needs: no owner, no times, one header form, so that equal samples give
equal tars. Reading is done by byte range; anyone else's tar reader reads these files.
"""

import hashlib
import os
import tarfile
from pathlib import Path

import xxhash

from fm.errors import FMError

BLOCK = tarfile.BLOCKSIZE
NAME_LIMIT = 100
"""Bytes of a member's name in a USTAR header (longer names would need a slash to split at)."""


def header(name: str, size: int) -> bytes:
    """Return the 512-byte header of one regular file."""
    if len(name.encode()) > NAME_LIMIT:
        raise FMError(f"{name}: longer than {NAME_LIMIT} bytes; shorten the sample key")
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def padding(size: int) -> int:
    """Return how many zero bytes follow a member of `size` bytes."""
    return -size % BLOCK


def end_of_archive(size: int) -> int:
    """Return how many zero bytes end an archive whose members fill `size` bytes."""
    return 2 * BLOCK + -(size + 2 * BLOCK) % tarfile.RECORDSIZE


class TarWriter:
    """Writes one tar and keeps its size and SHA-256.

    Args:
        path: the new file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._stream = open(Path(path), "xb")  # noqa: SIM115 (closed by close or __exit__)
        self._hash = hashlib.sha256()
        self.size = 0

    def add(self, files: list[tuple[str, bytes]]) -> tuple[list[int], int, int, int]:
        """Append the files of one sample.

        Returns:
            `(offsets, start, size, xxh3)`: where each file's bytes begin, and the range of the
            whole sample with headers and padding and its xxh3-64.
        """
        start, digest = self.size, xxhash.xxh3_64()
        offsets = []
        for name, data in files:
            head = header(name, len(data))
            offsets.append(self.size + len(head))
            for piece in (head, data, bytes(padding(len(data)))):
                self._write(piece)
                digest.update(piece)
        return offsets, start, self.size - start, digest.intdigest()

    def _write(self, piece: bytes) -> None:
        self._stream.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def finish(self) -> str:
        """End the archive, close the file and return its SHA-256."""
        self._write(bytes(end_of_archive(self.size)))
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        self._stream.close()
