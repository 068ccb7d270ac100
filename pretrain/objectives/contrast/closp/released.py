"""A text tower's files from a model hub: fetched once, into the folder that the config names.

They are pinned by a commit. Which one is written into the folder before the first file comes, so
that what was broken off goes on, and files of another commit are told apart from those asked for.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from fm.errors import FMError, UsageError
from fm.files import read_json, write_json

CONFIG, WORDS, CASE, WEIGHTS = FILES = (
    "config.json",
    "vocab.txt",
    "tokenizer_config.json",
    "model.safetensors",
)
RECORD = "hub.json"
ADDRESS = re.compile(r"([^/@\s]+/[^/@\s]+)@([0-9a-f]{40})")
"""OWNER/NAME@COMMIT."""
_LACKED = "answered 404"


def fetch_tower(address: str, folder: Path, *, weights: bool = True) -> None:
    """Fetch what a folder lacks of a released text tower.

    Args:
        address: matches `ADDRESS`.
        folder: made where there is none.
        weights: they too; a plan needs only the sizes.

    Raises:
        FMError: the hub does not give a file, or another than the commit's.
        UsageError: the folder holds files of another commit, or of nobody knows where.
    """
    from fm.hub import HubFile  # with what asks servers
    from fm.pull.download import Wanted, fetch, sidecar

    found = ADDRESS.fullmatch(address)
    assert found is not None  # the config has seen to that
    lacks = _claim(folder, address)
    otherwise = f"put it into {folder} and leave objective.text.hub out"
    for name in FILES if weights else (CONFIG, WORDS, CASE):
        if (folder / name).is_file() or name in lacks:
            continue
        file = HubFile(found[1], name, found[2])
        wanted = Wanted(file.url(), revision=file.revision, otherwise=otherwise)
        try:
            fetch(wanted, folder / name)
        except FMError as error:
            if name != CASE or _LACKED not in str(error):
                raise FMError(f"objective.text.hub: {error}") from None
            # as in a folder: a tower without it is uncased
            sidecar(folder / name).unlink(missing_ok=True)
            write_json(folder / RECORD, {"from": address, "lacks": [name]})


def _claim(folder: Path, address: str) -> Sequence[str]:
    """Have a folder say which address its files are of; return those that the hub does not have."""
    record = folder / RECORD
    if record.is_file():
        told = read_json(record, "record of a hub")
        if told.get("from") != address:
            raise UsageError(
                f"objective.text.folder={folder} holds files of {told.get('from')}, not of "
                f"{address}; name another folder"
            )
        lacks: list[str] = told.get("lacks", [])
        return lacks
    if here := [name for name in FILES if (folder / name).exists()]:
        raise UsageError(
            f"objective.text.folder={folder} holds a {here[0]} that did not come from a hub; leave "
            f"objective.text.hub out to take it, or name another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(record, {"from": address})
    return ()
