"""Lists of sample keys in a file, each with its hash: what a split is once it is made."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fm.errors import FMError, UsageError
from fm.files import read_json, write_atomic

FORMAT = "eofm-split-1"


@dataclass(frozen=True)
class Split:
    """Disjoint lists of sample keys.

    Attributes:
        name: of the split.
        method: `block`, `continent`, `time` or `random`.
        parameters: of the method, enough to make it again.
        manifest_hash: of the dataset that it divides.
        lists: part to keys, in the order of the dataset's index.
        left_out: samples of the dataset in no part, by reason.
    """

    name: str
    method: str
    parameters: Mapping[str, Any]
    manifest_hash: str
    lists: Mapping[str, Sequence[str]]
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def sha256(self) -> dict[str, str]:
        """SHA-256 of each list: of its keys, each followed by a newline."""
        return {part: _sha256(keys) for part, keys in self.lists.items()}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the split as JSON; the file is complete or absent."""
        document = {
            "format": FORMAT,
            "name": self.name,
            "method": self.method,
            "parameters": dict(self.parameters),
            "manifest_hash": self.manifest_hash,
            "counts": {part: len(keys) for part, keys in self.lists.items()},
            "left_out": dict(self.left_out),
            "sha256": self.sha256,
            "lists": {part: list(keys) for part, keys in self.lists.items()},
        }
        write_atomic(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: str | os.PathLike[str], manifest_hash: str | None = None) -> "Split":
        """Read a split and check it.

        Args:
            path: the file.
            manifest_hash: of the dataset it is going to divide; None does not compare.

        Raises:
            FMError: no split, a list that is not the one its hash was taken of, a key in two
                parts, or the split of another dataset.
        """
        document = read_json(path, "split")
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise FMError(f"{path}: this is no split of format {FORMAT}; make one: fm shards split")
        kinds = {"name": str, "method": str, "parameters": dict, "manifest_hash": str}
        kinds |= {"left_out": dict, "sha256": dict, "lists": dict}
        for key, kind in kinds.items():
            if not isinstance(document.get(key), kind):
                raise FMError(f"{path}: {key!r} is missing or of another type; make it again")
        lists, seen = document["lists"], set[str]()
        for part, keys in lists.items():
            if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                raise FMError(f"{path}: part {part!r} is no list of keys; make the split again")
            if document["sha256"].get(part) != _sha256(keys):
                raise FMError(
                    f"{path}: part {part!r} is not the list that its SHA-256 was taken of; "
                    "the file was changed: make the split again"
                )
            if len(seen) + len(keys) != len(seen := seen.union(keys)):
                raise FMError(f"{path}: a key of part {part!r} comes twice; make the split again")
        if manifest_hash not in (None, document["manifest_hash"]):
            raise FMError(
                f"{path}: this split divides the dataset {document['manifest_hash'][:12]}, not "
                f"{str(manifest_hash)[:12]}; make one for this dataset"
            )
        return cls(**{key: document[key] for key in kinds if key != "sha256"})

    def keys(self, part: str) -> Sequence[str]:
        """Return the keys of a part.

        Raises:
            UsageError: there is no such part.
        """
        if part not in self.lists:
            raise UsageError(f"split {self.name!r} has no part {part!r}; it has {list(self.lists)}")
        return self.lists[part]


def _sha256(keys: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for key in keys:
        digest.update(key.encode() + b"\n")
    return digest.hexdigest()
