"""Uncompressed members, 13 x 264 x 264 uint16 on one grid: how close to memory speed is a batch?

Page cache warm, checksums on, batches of 16. Every competitor gets the same pixels: the tars are
ours, read also by webdataset; the others hold them in their own form.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count as numbers
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import shards
from bench import peers, scenes
from bench.runner import Bench, Ready, Target
from bench.scenes import BATCH
from bench.streams import WARM, best, stepper

COUNTED, QUICK_COUNTED = 60, 4
"""Batches of a step."""
SHAPE = (13, scenes.SIDE, scenes.SIDE)


def _counted(quick: bool) -> int:
    return QUICK_COUNTED if quick else COUNTED


def ours(threads: int) -> Callable[[bool], Ready]:
    """Return the set-up of our loader."""

    def prepare(quick: bool) -> Ready:
        folder = scenes.dataset("one", "npy", quick)
        scenes.warm(folder)
        loader = shards.open(folder).loader(BATCH, threads=threads)
        return Ready(
            _per_batch(stepper(loader, _counted(quick)), quick), {"threads": threads}, loader.close
        )

    return prepare


def _per_batch(step: Callable[[], float], quick: bool) -> Callable[[], float]:
    """Seconds of one batch, so that quick and full runs have the same amount."""
    return lambda: step() / _counted(quick)


def webdataset(quick: bool) -> Ready:
    """Set up webdataset over the same tars, decoding `.npy` without a copy."""
    import webdataset as wds

    folder = scenes.dataset("one", "npy", quick)
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]

    def decode(sample: dict[str, Any]) -> np.ndarray:
        data = sample["s2l1c.npy"]
        return np.frombuffer(data, np.uint16, offset=128).reshape(SHAPE)

    def opener(workers: int) -> Callable[[], tuple[Iterator[Any], Callable[[], None]]]:
        def open_() -> tuple[Iterator[Any], Callable[[], None]]:
            data = wds.WebDataset(urls, shardshuffle=False, resampled=True)
            pipeline = data.map(decode).batched(BATCH, collation_fn=_stack)
            loader = DataLoader(pipeline, batch_size=None, num_workers=workers)
            stream = iter(loader)
            return stream, lambda: _end(stream)

        return open_

    found = best({w: opener(w) for w in (0, 1, 2)}, _counted(quick), "workers", _tries(quick))
    return Ready(_per_batch(found.step, quick), found.settings, found.close)


def _tries(quick: bool) -> int:
    return 1 if quick else 2


def _stack(samples: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(samples))


def _end(stream: Any) -> None:
    shutdown = getattr(stream, "_shutdown_workers", None)
    if shutdown:
        shutdown()


class _Flat(Dataset):
    """Samples of one memory-mapped file."""

    def __init__(self, path: str) -> None:
        self._path, self._pixels = path, None

    def __len__(self) -> int:
        return len(self._open())

    def _open(self) -> np.ndarray:
        if self._pixels is None:
            self._pixels = np.memmap(self._path, np.uint16, "r").reshape(-1, *SHAPE)
        return self._pixels

    def __getitem__(self, i: int) -> np.ndarray:
        return np.array(self._open()[i])


def memmap(quick: bool) -> Ready:
    """Set up `np.memmap` over one file with PyTorch's loader."""
    path = scenes.flat_file(quick)
    scenes.warm(path)

    def opener(workers: int) -> Callable[[], tuple[Iterator[Any], Callable[[], None]]]:
        def open_() -> tuple[Iterator[Any], Callable[[], None]]:
            data = _Flat(str(path))
            loader = DataLoader(
                data, BATCH, shuffle=True, num_workers=workers, drop_last=True,
                collate_fn=_stack, persistent_workers=workers > 0,
            )  # fmt: skip
            return (batch for _ in numbers() for batch in loader), lambda: None

        return open_

    found = best({w: opener(w) for w in (0, 1, 2)}, _counted(quick), "workers", _tries(quick))
    return Ready(_per_batch(found.step, quick), found.settings, found.close)


def memcpy(quick: bool) -> Ready:
    """Set up copying the same samples from memory into batch buffers with two threads."""
    pixels = np.fromfile(scenes.flat_file(quick), np.uint16).reshape(-1, *SHAPE)
    buffers = [np.empty((BATCH, *SHAPE), np.uint16) for _ in range(5)]
    executor = ThreadPoolExecutor(2)
    order = np.random.default_rng(0).permutation(len(pixels))

    def copy(batch: int, half: int) -> None:
        out = buffers[batch % len(buffers)]
        for slot in range(half * BATCH // 2, (half + 1) * BATCH // 2):
            out[slot] = pixels[order[(batch * BATCH + slot) % len(order)]]

    def stream() -> Iterator[int]:
        for batch in numbers():
            for half in [executor.submit(copy, batch, half) for half in (0, 1)]:
                half.result()
            yield batch

    step = stepper(stream(), _counted(quick))
    return Ready(_per_batch(step, quick), {"threads": 2}, executor.shutdown)


def peer(name: str) -> Callable[[bool], Ready | None]:
    """Return the set-up of a peer in an environment of its own."""

    def prepare(quick: bool) -> Ready | None:
        flat = scenes.flat_file(quick)
        place = scenes.folder(name, quick)
        samples = str(scenes.count(quick))
        found = peers.start(
            name, str(flat), str(place), samples, str(BATCH), counted=_counted(quick), warm=WARM
        )
        if found is None:
            return None
        return Ready(lambda: found.step() / _counted(quick), found.settings, found.close)

    return prepare


BENCH = Bench(
    name="shards_raw",
    question="How many raw samples of 13 x 264 x 264 uint16 (1.8 MB) reach a batch in a second, "
    "each checked?",
    competitors={
        "ours, 2 threads": ours(2),
        "ours, 1 thread": ours(1),
        "webdataset": webdataset,
        "litdata": peer("litdata"),
        "mosaicml-streaming": peer("mosaicml_streaming"),
        "np.memmap, DataLoader": memmap,
        "memcpy, 2 threads": memcpy,
    },
    targets=(
        Target("ours / webdataset", "ours, 2 threads", "webdataset", at_least=6),
        Target("ours / litdata", "ours, 2 threads", "litdata", at_least=2.5),
        Target("ours / memcpy", "ours, 2 threads", "memcpy, 2 threads", at_least=0.5),
        Target("ours / mosaicml-streaming", "ours, 2 threads", "mosaicml-streaming", at_least=1),
        Target("ours / np.memmap", "ours, 2 threads", "np.memmap, DataLoader", at_least=1),
    ),
    unit="samples/s",
    amount=BATCH,
    rounds=12,
    quick_rounds=2,
    warmup=1,
    versions=("numpy", "torch", "webdataset", "xxhash", "litdata", "mosaicml-streaming"),
)
