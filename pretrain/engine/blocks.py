"""What is done to the blocks of a model: computed again in the backward pass, compiled."""

import os
import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fm.errors import UsageError
from pretrain.ranks import collective


def recompute(blocks: Iterable[nn.Module]) -> None:
    """Keep only the inputs of blocks for the backward pass, which computes the rest again.

    Losses and gradients stay as they are: randomness is a function of the sample (`fm.rng`), and
    torch's generators are put back for a block that draws from them all the same.

    Raises:
        UsageError: there are none.
    """
    _change(blocks, _recomputed, "engine.activation_checkpointing")


def compile_blocks(blocks: Iterable[nn.Module]) -> None:
    """Compile the forward pass of blocks with `torch.compile`.

    Blocks of one kind share their code. Sizes that change between steps (the parts of a mixture)
    make torch compile once more, for any size.

    Raises:
        UsageError: there are none.
    """
    _change(blocks, _compiled, "engine.compile")


def keep_compiled(folder: Path) -> None:
    """Let what this process compiles be kept in a folder of its own below this one.

    Ranks share nothing there, so none waits for a lock of another, or of one that was killed. A
    folder that the environment names (`TORCHINDUCTOR_CACHE_DIR`) comes first.

    Linkers write a library in place, so a run that was killed may leave half of one, which torch
    would find and fail to load. Such files are removed and compiled again.
    """
    own = folder / f"rank-{collective.rank()}"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(own))
    for library in own.rglob("*.so"):
        if not _whole(library):
            library.unlink()


def _whole(library: Path) -> bool:
    """Say whether a shared library was written to its end; true of kinds other than ELF."""
    with library.open("rb") as file:
        head = file.read(64)
    if head[:4] != b"\x7fELF":  # of zeros: the linker writes the head last
        return any(head)
    if len(head) < 64 or head[4:6] != b"\x02\x01":  # not of 64 bits, lowest first
        return len(head) >= 52
    (table,) = struct.unpack_from("<Q", head, 40)
    size, count = struct.unpack_from("<HH", head, 58)
    return bool(table + size * count <= library.stat().st_size)


def _change(blocks: Iterable[nn.Module], change: Any, key: str) -> None:
    found = list(blocks)
    if not found:
        raise UsageError(f"{key}: the model says of none of its modules that it is a block; unset")
    for block in found:
        # another class with the same state: names, hooks and copies of the block stay as they were
        block.__class__ = change(type(block))


@cache
def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return kind.forward(self, *args, **kwargs)
        return checkpoint(kind.forward, self, *args, use_reentrant=False, **kwargs)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


@cache
def _compiled(kind: type[nn.Module]) -> type[nn.Module]:
    made = torch.compile(kind.forward)

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return made(self, *args, **kwargs)

    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
