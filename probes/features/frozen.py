"""Outputs of a frozen model beyond one vector a sample: its last blocks, and its tokens."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fm.console import progress
from fm.errors import FMError, UsageError
from fm.files import write_atomic
from fm.models.features import pool
from probes.benchmarks.base import Data
from probes.features.extraction import model_hash, prepare

VERSION = 2
"""Raised when the same inputs would give other outputs."""
BATCH = 256


@dataclass(frozen=True)
class Blocks:
    """Vectors of the last blocks of a model.

    Attributes:
        last: [N, D_i], one array a block, the last block last.
        average: [N, D], the mean of the last block's valid tokens.
        own: the block's vector is its class token; else the mean of its valid tokens.
    """

    last: tuple[np.ndarray, ...]
    average: np.ndarray
    own: bool


def blocks(
    model: Any, data: Data, count: int, *, benchmark: str, cache: Path | None, precision: str
) -> Blocks | None:
    """Encode every sample once and read the last `count` blocks; None if the model gives fewer.

    A block's vector is its class token through the model's last norm (DINOv2, Oquab et al.,
    arXiv 2304.07193, appendix B.3), or, in a model that has none, the mean of its valid tokens.

    Raises:
        FMError: an output is not finite.
    """
    first = _encode(model, data, np.arange(1), precision, hidden=True)
    if len(getattr(first, "hidden", ())) < count:
        return None
    own = bool(getattr(first, "cls", ()))
    norm = getattr(model, "norm", None) if own else None

    def read(index: np.ndarray) -> list[Tensor]:
        made = _encode(model, data, index, precision, hidden=True)
        average = pool(made.tokens, made.mask)
        if own:
            parts = [norm(x) if norm is not None else x for x in made.cls[-count:]]
        else:
            parts = [pool(x, made.mask) if _fits(x, made) else x.mean(1) for x in made.hidden]
            parts = parts[-count:]
        return [*(p.float() for p in parts), average]

    settings = {"what": f"last {count} blocks", "precision": precision}
    found = _kept(model, data, settings, benchmark, cache, read)
    return Blocks(tuple(found[:-1]), found[-1], own)


def _fits(tokens: Tensor, made: Any) -> bool:
    """Whether the mask of the tokens belongs to those of a block (stages have other grids)."""
    return made.mask is None or made.mask.shape[1] == tokens.shape[1]


class Tokens:
    """Tokens of every sample: in memory when they fit, encoded anew for each batch when not.

    Attributes:
        width: D of a token.
        stored: whether they are in memory.
    """

    def __init__(
        self,
        model: Any,
        data: Data,
        *,
        benchmark: str,
        cache: Path | None,
        precision: str,
        memory_mb: int,
    ) -> None:
        self._model, self._data, self._precision = model, data, precision
        tokens = _encode(model, data, np.arange(1), precision).tokens
        if tokens is None:
            raise UsageError(f"{benchmark}: the model gives no tokens; choose another protocol")
        self.width = int(tokens.shape[2])
        size = 4 * tokens[0].numel() * len(data.targets)
        self.stored = size <= memory_mb * 2**20
        self._arrays: list[np.ndarray] = []
        if self.stored:
            settings = {"what": "tokens", "precision": precision}
            self._arrays = _kept(model, data, settings, benchmark, cache, self._read)

    def batch(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return tokens [B, N, D] float32 and which of them are valid, [B, N] bool."""
        if self.stored:
            tokens, mask = (torch.from_numpy(array[index]) for array in self._arrays)
            return tokens, mask
        tokens, mask = self._read(index)
        if not bool(torch.isfinite(tokens).all()):
            raise FMError("the model gives NaN or infinite tokens; it cannot be scored")
        return tokens, mask

    def _read(self, index: np.ndarray) -> list[Tensor]:
        made = _encode(self._model, self._data, index, self._precision)
        mask = made.mask
        if mask is None:
            mask = torch.ones(made.tokens.shape[:2], dtype=torch.bool)
        return [made.tokens.float(), mask]


@torch.no_grad()
def _encode(model: Any, data: Data, index: np.ndarray, precision: str, **options: Any) -> Any:
    """Encode some samples with the model in `eval()`: BatchNorm keeps its running statistics."""
    model.eval()
    pixels, valid = prepare(model, data.read(index))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        return model.encode(pixels, bands=data.bands, valid=valid, scaling=data.scaling, **options)


def _kept(
    model: Any,
    data: Data,
    settings: dict[str, Any],
    benchmark: str,
    cache: Path | None,
    read: Callable[[np.ndarray], Sequence[Tensor]],
) -> list[np.ndarray]:
    """Outputs of all samples, from the cache when it has them by the hash of what made them."""
    about = {
        **settings,
        "version": VERSION,
        "weights": model_hash(model),
        "benchmark": benchmark,
        "manifest": data.manifest_hash,
        # how pixels come to a backbone of others
        "feed": getattr(getattr(model, "feed", None), "record", None),
    }
    total = len(data.targets)
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = cache / f"outputs-{name[:32]}.npz" if cache is not None else None
    if path is not None:
        kept = _open(path, about, total)
        if kept is not None:
            return kept
    parts: list[list[np.ndarray]] = []
    with torch.no_grad(), progress("encoding", total) as bar:
        for start in range(0, total, BATCH):
            index = np.arange(start, min(start + BATCH, total))
            parts.append([part.cpu().numpy() for part in read(index)])
            bar.advance(len(index))
    found = [np.concatenate(column) for column in zip(*parts, strict=True)]
    if not all(np.isfinite(array).all() for array in found):
        raise FMError(f"{benchmark}: the model gives NaN or infinite outputs; it cannot be scored")
    if path is not None:
        stream = io.BytesIO()
        np.savez(stream, *found, settings=np.array(json.dumps(about)))
        write_atomic(path, stream.getvalue())
    return found


def _open(path: Path, about: dict[str, Any], total: int) -> list[np.ndarray] | None:
    """Read a cache entry; None when it is absent, damaged or of something else."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if json.loads(str(stored["settings"])) != about:
                return None
            found = [stored[f"arr_{i}"] for i in range(len(stored.files) - 1)]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return found if all(len(array) == total for array in found) else None
