"""What a verification has finished, so that one that was stopped goes on where it was.

JSON lines: a header that names the dataset's manifest, then one line a tar, appended durably. A tar
is passed over when its size and modification time are those of the line.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fm.console import note
from fm.errors import FMError
from shards.integrity.shard_check import Problem

_VERSION = 1


class Journal:
    """The finished tars of one dataset.

    Args:
        path: of the file; made when it is not there.
        manifest_hash: of the dataset.

    Raises:
        FMError: the file is of another dataset or no journal, or cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], manifest_hash: str) -> None:
        self._path, self._lines = Path(path), dict[str, dict[str, Any]]()
        header = {"verify_journal": _VERSION, "manifest_hash": manifest_hash}
        try:
            whole = self._path.read_bytes() if self._path.exists() else b""
        except OSError as error:
            raise FMError(f"{path}: cannot read this journal ({error.strerror})") from None
        lines = whole.splitlines()
        if not lines:
            self._append(header)
            return
        if _parse(lines[0]) != header:
            raise FMError(
                f"{path}: no journal of this dataset as it is now; name another file or remove it"
            )
        for number, line in enumerate(lines[1:], 2):
            value = _parse(line)
            if value is None or not isinstance(value.get("shard"), str):
                note(f"{path}: line {number} is not whole and is passed over")
            else:
                self._lines[value["shard"]] = value
        if not whole.endswith(b"\n"):
            self._write(b"\n")

    def find(self, shard: str, stamp: Mapping[str, Any]) -> list[Problem] | None:
        """Return the problems that were found in a tar; None when it must be read (again).

        Args:
            shard: name of the tar.
            stamp: size, modification time and whatever else must not have changed.
        """
        line = self._lines.get(shard)
        if line is None or line.get("stamp") != dict(stamp):
            return None
        try:
            return [Problem(**item) for item in line["problems"]]
        except (KeyError, TypeError):  # not ours
            return None

    def add(
        self,
        shard: str,
        stamp: Mapping[str, Any],
        sha256: str | None,
        problems: Sequence[Problem],
    ) -> None:
        """Note that a tar is finished; its SHA-256 is None when it was not read to the end."""
        found = [dataclasses.asdict(problem) for problem in problems]
        self._append({"shard": shard, "stamp": dict(stamp), "sha256": sha256, "problems": found})

    def _append(self, value: Mapping[str, Any]) -> None:
        self._write((json.dumps(value) + "\n").encode())

    def _write(self, data: bytes) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab", buffering=0) as stream:
                stream.write(data)
                os.fsync(stream.fileno())
        except OSError as error:
            raise FMError(
                f"{self._path}: cannot write the journal ({error.strerror}); name another file"
            ) from None


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
