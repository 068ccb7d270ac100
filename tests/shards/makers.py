"""A tiny source for tests of the build: importable by worker processes, quick to make."""

import multiprocessing
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from shards.building.build import build
from shards.building.writer import Declared, write_dataset
from shards.dataset import Dataset
from shards.dataset import open as open_dataset
from shards.format import DatasetInfo, LabelInfo
from shards.sample import Sample
from shards.sources.base import Content, Skip

BANDS = ("B02", "B03", "B04", "B08")
NODATA = 0


def make(folder: Path | None, pause: float, task: dict[str, Any]) -> Sample:
    """Draw one sample from its seed.

    Args:
        folder: where a file is left for every sample that is made, named by process and seed.
        pause: seconds to wait.
        task: `seed`, and what is to be wrong or special.
    """
    if "torch" in sys.modules and multiprocessing.parent_process() is not None:
        raise RuntimeError("torch is loaded in a worker")
    seed = task["seed"]
    if folder is not None:
        (folder / f"{os.getpid()}-{seed}-{time.monotonic_ns()}").touch()
        if (folder / f"bad-{seed}").exists():
            raise ValueError(f"scene {seed} is unreadable")
        if (folder / f"stop-{seed}").exists():
            raise KeyboardInterrupt
        if (folder / f"die-{seed}").exists():
            os._exit(9)
    time.sleep(pause)
    if "skip" in task:
        raise Skip(task["skip"], task.get("named"))
    rng = np.random.default_rng(task.get("pixels", seed))
    cells = rng.normal(1500, 300, (4, 4, 4))
    pixels = np.kron(cells, np.ones((4, 4))) + rng.normal(0, 20, (4, 16, 16))
    pixels += np.random.default_rng(seed).uniform(0, task.get("noise", 0), pixels.shape)
    array = np.clip(pixels, 1, 9999).astype(task.get("dtype", "uint16"))
    array[:, : task.get("empty_rows", 0)] = NODATA
    return Sample(
        key=task.get("key", f"k{seed:04d}"),
        arrays={"s2l1c_10": array, "truth": (array[0] > 1500).astype(np.uint8)},
        lonlat=(10 + seed / 100, 50.0),
        time="2021-07-01T10:30:00Z",
        labels={"size": float(seed), "note": f"sample {seed}"},
    )


def files(folder: Path, task: dict[str, Any]) -> list[Path]:
    """Name the file that a task would be read from."""
    return [folder / f"scene-{task['seed']}"]


def content(
    tasks: int | list[dict[str, Any]],
    folder: Path | None = None,
    pause: float = 0.0,
    **changes: Any,
) -> Content:
    """Describe the source."""
    listed = [{"seed": k} for k in range(tasks)] if isinstance(tasks, int) else tasks
    fields: dict[str, Any] = {
        "name": "made",
        "tasks": listed,
        "make": partial(make, folder, pause),
        "modalities": {"s2l1c_10": Declared("sentinel2-l1c", BANDS, nodata=NODATA)},
        "labels": {
            "truth": LabelInfo("truth", "mask", ("dark", "bright"), member="truth"),
            "size": LabelInfo("size", "regression"),
            "note": LabelInfo("note", "text"),
        },
        "provenance": {"source": "tests"},
        "licence": "CC0-1.0",
    }
    return Content(**(fields | changes))


def main() -> None:
    """Build in a process of its own: `OUT COUNT PAUSE`."""
    from shards.building.build import build

    out, count, pause = sys.argv[1:]
    build(Path(out), content(int(count), pause=float(pause)), samples_per_shard=4, workers=2)


if __name__ == "__main__":
    main()


def written(content: Content, out: Path) -> Dataset:
    """Write what a source has read, in this process, and open it."""
    write_dataset(
        out,
        content.samples(),
        name=content.name,
        modalities=content.modalities,
        labels=content.labels,
        provenance=content.provenance,
        licence=content.licence,
    )
    return open_dataset(out)


def here(out: Path, tasks: Any, folder: Path | None = None, **options: Any) -> DatasetInfo:
    """Build in this process, four samples a shard."""
    changes = options.pop("changes", {})
    settings = {"samples_per_shard": 4, "workers": 0} | options
    return build(out, content(tasks, folder, **changes), **settings)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "index.parquet").to_pylist()


def seeds(folder: Path) -> list[int]:
    """Return the seeds of the samples that were made, and forget them."""
    found = []
    for path in folder.glob("*-*-*"):
        found.append(int(path.name.split("-")[1]))
        path.unlink()
    return sorted(found)
