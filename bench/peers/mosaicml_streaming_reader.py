"""Drives mosaicml-streaming: arguments are the flat file, a folder, samples, batch, counts."""

import json
import os
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
from fm.torchvision_guard import install

install()  # streaming imports torchvision

from streaming import MDSWriter, StreamingDataset  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

SHAPE = (13, 264, 264)


def main() -> None:
    """Make the shards, choose the number of workers, answer."""
    flat, place, count, batch, counted, warm = sys.argv[1:]
    counted, warm = int(counted), int(warm)
    if not (Path(place) / "index.json").exists():
        pixels = np.memmap(flat, np.uint16, "r").reshape(-1, *SHAPE)
        kind = "ndarray:uint16:13,264,264"
        with MDSWriter(out=place, columns={"pixels": kind}, size_limit="256mb") as out:
            for number in range(int(count)):
                out.write({"pixels": np.array(pixels[number])})
    for root, _, names in os.walk(place):
        for name in names:
            (Path(root) / name).read_bytes()

    def stream(workers: int):
        dataset = StreamingDataset(local=place, batch_size=int(batch), shuffle=True)
        loader = DataLoader(
            dataset,
            batch_size=int(batch),
            num_workers=workers,
            drop_last=True,
            persistent_workers=workers > 0,
        )
        while True:
            yield from loader

    def timed(batches) -> float:
        time.sleep(0.3)
        for one in islice(batches, warm):
            del one
        start = time.perf_counter()
        for one in islice(batches, counted):
            del one
        return time.perf_counter() - start

    rates = {}
    for workers in (0, 1, 2):
        try:
            batches = stream(workers)
            timed(batches)
            rates[workers] = (timed(batches) + timed(batches)) / 2
        except (RuntimeError, OSError, ValueError) as error:
            print(f"{workers} workers: {error}", file=sys.stderr)
        del batches
    best = min(rates, key=rates.get)
    batches = stream(best)
    timed(batches)
    tried = ", ".join(f"{k}: {v:.3f} s" for k, v in rates.items())
    print(json.dumps({"workers": best, "tried": tried}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": timed(batches)}), flush=True)


if __name__ == "__main__":
    main()
