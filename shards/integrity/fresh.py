"""Reading what a dataset holds where it lies, past the copies in a cache.

A verdict must be about the dataset: a block in the cache may be older than damage on the server,
or be damaged while the server's bytes are whole. What comes over a network may also be changed on
the way, so bytes that are wrong are read again before they are called wrong.
"""

from collections.abc import Callable
from pathlib import Path

from shards.storage.local import LocalStorage, Storage

READINGS = 4
"""How often bytes that come over a network are read before they are called wrong."""

ReadInto = Callable[[str, int, memoryview], None]


def reader(storage: Storage) -> ReadInto:
    """Return `read_into` of a storage, past its cache where it has one."""
    if isinstance(storage, LocalStorage):
        return storage.read_into
    from shards.storage.remote import RemoteStorage

    return storage.read_fresh if isinstance(storage, RemoteStorage) else storage.read_into


def readings(storage: Storage) -> int:
    """Return how often bytes are read before they are called wrong: a disk gives them once."""
    return 1 if isinstance(storage, LocalStorage) else READINGS


def local_copy(storage: Storage, name: str, right: Callable[[Path], bool]) -> Path:
    """Return a local file with the whole content, fetched now.

    Args:
        storage: where it lies.
        name: of the file.
        right: says whether its content is the one that was written; where it is not, it is fetched
            again as often as that may help.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read.
    """
    storage.invalidate(name, 0, storage.size(name))
    for _ in range(readings(storage) - 1):
        path = storage.local(name)
        if right(path):
            return path
        storage.invalidate(name, 0, storage.size(name))
    return storage.local(name)
