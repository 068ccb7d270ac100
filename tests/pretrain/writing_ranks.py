"""A run whose ranks list what they open for writing."""

import os
import sys
from pathlib import Path
from typing import Any

import torch

from pretrain.trainer import run

opened: set[str] = set()


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if isinstance(path, str | bytes) and (writes or any(c in str(mode or "") for c in "wax+")):
            opened.add(os.fsdecode(path))
    elif event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        opened.add(os.fsdecode(arguments[0]))


def main(out: Path, config: str, words: list[str]) -> None:
    """Run, then write the list beside the run."""
    sys.addaudithook(_watch)
    save = torch.save

    def told(value: Any, place: Any, *args: Any, **kwargs: Any) -> Any:  # opens files in C++
        if isinstance(place, str | os.PathLike):
            opened.add(os.fspath(place))
        return save(value, place, *args, **kwargs)

    torch.save = told
    run(config, words)
    (out / f"opened-{os.environ['RANK']}").write_text("\n".join(sorted(opened)))
