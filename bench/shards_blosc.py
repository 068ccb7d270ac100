"""Compressed members on native grids (10, 20 and 60 m): what does everything around decoding cost?

Page cache warm, checksums on, batches of 16. The bare loop reads, checks and decodes the same
frames in the same order into batch arrays, with everything looked up beforehand.
"""

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count as numbers
from typing import Any

import numpy as np
import torch
import xxhash
from numcodecs import blosc
from torch.utils.data import DataLoader, Dataset

import shards
from bench import scenes
from bench.runner import Bench, Fact, Ready, Target
from bench.scenes import BATCH
from bench.streams import best, stepper
from fm.errors import FMError

COUNTED, QUICK_COUNTED = 40, 4
"""Batches of a step."""
CODEC = "auto"


def _counted(quick: bool) -> int:
    return QUICK_COUNTED if quick else COUNTED


def _per_batch(step: Callable[[], float], quick: bool) -> Callable[[], float]:
    return lambda: step() / _counted(quick)


def _folder(quick: bool) -> Any:
    folder = scenes.dataset("native", CODEC, quick)
    scenes.warm(folder)
    return folder


def ours(threads: int) -> Callable[[bool], Ready]:
    """Return the set-up of our loader."""

    def prepare(quick: bool) -> Ready:
        loader = shards.open(_folder(quick)).loader(BATCH, threads=threads)
        step = stepper(loader, _counted(quick))
        return Ready(_per_batch(step, quick), {"threads": threads}, loader.close)

    return prepare


def bare(threads: int) -> Callable[[bool], Ready]:
    """Return the set-up of a loop that reads, checks and decodes, and nothing else."""

    def prepare(quick: bool) -> Ready:
        folder = _folder(quick)
        ds = shards.open(folder)
        names = sorted(path.name for path in folder.glob("*.tar"))
        files = {name: os.open(folder / name, os.O_RDONLY) for name in names}
        rows = ds.index.to_pylist()
        members = list(ds.modalities)
        table = [
            [
                (files[row["shard"]], row[f"{m}.offset"], row[f"{m}.bytes"], row[f"{m}.xxh3"])
                for m in members
            ]
            for row in rows
        ]
        shapes = [tuple(rows[0][f"{m}.shape"]) for m in members]
        largest = max(item[2] for row in table for item in row)
        buffers = [[np.empty((BATCH, *shape), np.uint16) for shape in shapes] for _ in range(5)]
        order = shards.Order(len(table), 0)
        executor = ThreadPoolExecutor(threads)
        scratch = [memoryview(bytearray(largest)) for _ in range(threads)]

        def work(batch: int, share: int) -> None:
            arrays = buffers[batch % len(buffers)]
            rows = order.indices(batch * BATCH, (batch + 1) * BATCH).tolist()
            for slot in range(share, BATCH, threads):
                for (file, offset, size, digest), array in zip(
                    table[rows[slot]], arrays, strict=True
                ):
                    view = scratch[share][:size]
                    os.preadv(file, [view], offset)
                    assert xxhash.xxh3_64_intdigest(view) == digest
                    blosc.decompress(view, array[slot])

        def stream() -> Iterator[int]:
            for batch in numbers():
                for half in [executor.submit(work, batch, share) for share in range(threads)]:
                    half.result()
                yield batch

        step = stepper(stream(), _counted(quick))

        def close() -> None:
            executor.shutdown()
            for file in files.values():
                os.close(file)

        return Ready(_per_batch(step, quick), {"threads": threads}, close)

    return prepare


def webdataset(*workers: int) -> Callable[[bool], Ready]:
    """Return the set-up of webdataset with the best of some numbers of workers."""

    def prepare(quick: bool) -> Ready:
        return _webdataset(quick, workers)

    return prepare


def _webdataset(quick: bool, workers: tuple[int, ...]) -> Ready:
    """Stock webdataset over the same tars, decoding the same frames."""
    import webdataset as wds

    folder = _folder(quick)
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    ds = shards.open(folder)
    shapes = {name: tuple(ds.index.column(f"{name}.shape")[0].as_py()) for name in ds.modalities}

    def decode(sample: dict[str, Any]) -> dict[str, np.ndarray]:
        result = {}
        for name, shape in shapes.items():
            result[name] = np.empty(shape, np.uint16)
            blosc.decompress(sample[f"{name}.blosc"], result[name])
        return result

    def opener(workers: int) -> Callable[[], tuple[Iterator[Any], Callable[[], None]]]:
        def open_() -> tuple[Iterator[Any], Callable[[], None]]:
            data = wds.WebDataset(urls, shardshuffle=False, resampled=True)
            pipeline = data.map(decode).batched(BATCH, collation_fn=_stack)
            stream = iter(DataLoader(pipeline, batch_size=None, num_workers=workers))
            return stream, lambda: getattr(stream, "_shutdown_workers", lambda: None)()

        return open_

    found = best({w: opener(w) for w in workers}, _counted(quick), "workers", _tries(quick))
    return Ready(_per_batch(found.step, quick), found.settings, found.close)


def _tries(quick: bool) -> int:
    return 1 if quick else 2


def _stack(samples: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(np.stack([sample[name] for sample in samples]))
        for name in samples[0]
        if not name.startswith("__")
    }


class _Tiffs(Dataset):
    """GeoTIFF files of 13 bands."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, i: int) -> np.ndarray:
        import rasterio

        with rasterio.open(self._paths[i]) as raster:
            return raster.read()


def geotiff(quick: bool) -> Ready:
    """Set up GeoTIFFs through rasterio and PyTorch's loader."""
    folder = scenes.geotiffs(quick)
    scenes.warm(folder)
    paths = [str(path) for path in sorted(folder.glob("*.tif"))]
    random.Random(0).shuffle(paths)

    def opener(workers: int) -> Callable[[], tuple[Iterator[Any], Callable[[], None]]]:
        def open_() -> tuple[Iterator[Any], Callable[[], None]]:
            loader = DataLoader(
                _Tiffs(paths), BATCH, num_workers=workers, drop_last=True, collate_fn=_pile,
                persistent_workers=workers > 0,
            )  # fmt: skip
            return (batch for _ in numbers() for batch in loader), lambda: None

        return open_

    found = best({w: opener(w) for w in (1, 2)}, _counted(quick), "workers", _tries(quick))
    return Ready(_per_batch(found.step, quick), found.settings, found.close)


def _pile(samples: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(samples))


def _check() -> None:
    """Our batches and the frames themselves hold the same pixels."""
    folder = scenes.dataset("native", CODEC, quick=True)
    ds = shards.open(folder)
    batch = next(ds.loader(BATCH, shuffle=False))
    for slot, key in enumerate(batch.keys):
        whole = ds.read(ds.keys.index(key))
        for name, pixels in batch.pixels.items():
            if not np.array_equal(pixels[slot].numpy(), whole[name]):
                raise FMError(f"bench shards_blosc: {key} differs")


def _sizes(quick: bool) -> list[Fact]:
    ds = shards.open(scenes.dataset("native", CODEC, quick))
    raw = sum(4 * 264**2 + 6 * 132**2 + 3 * 44**2 for _ in range(len(ds))) * 2
    stored = sum(shard.bytes for shard in ds.info.shards)
    return [
        Fact("decoded bytes of all samples", raw / 1e9, "GB"),
        Fact("decoded bytes / bytes of the tars", raw / stored, "ratio"),
        Fact(
            "13 bands on one grid / bytes of the tars", len(ds) * 13 * 264**2 * 2 / stored, "ratio"
        ),
    ]


BENCH = Bench(
    name="shards_blosc",
    question="How many compressed Sentinel-2 samples (0.78 MB on native grids) reach a batch in a "
    "second, each checked?",
    competitors={
        "ours, 2 threads": ours(2),
        "ours, 1 thread": ours(1),
        "bare loop, 2 threads": bare(2),
        "bare loop, 1 thread": bare(1),
        "webdataset, 2 workers": webdataset(2),
        "webdataset, best of 0, 1, 2": webdataset(0, 1, 2),
        "GeoTIFF, rasterio": geotiff,
    },
    targets=(
        Target(
            "ours / bare loop, 2 threads", "ours, 2 threads", "bare loop, 2 threads", at_least=0.85
        ),
        Target(
            "ours / bare loop, 1 thread", "ours, 1 thread", "bare loop, 1 thread", at_least=0.85
        ),
        Target("2 threads / 1 thread", "ours, 2 threads", "ours, 1 thread", at_least=1.6),
        Target("ours / webdataset", "ours, 2 threads", "webdataset, 2 workers", at_least=3.5),
        Target(
            "ours / best webdataset", "ours, 2 threads", "webdataset, best of 0, 1, 2", at_least=1
        ),
        Target("ours / GeoTIFF", "ours, 2 threads", "GeoTIFF, rasterio", at_least=5),
    ),
    unit="samples/s",
    amount=BATCH,
    rounds=12,
    quick_rounds=2,
    warmup=1,
    versions=("numpy", "numcodecs", "torch", "webdataset", "rasterio"),
    check=_check,
    facts=_sizes,
)
