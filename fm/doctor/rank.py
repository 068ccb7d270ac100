"""One rank of the collective test: `rank.py BACKEND RANK RANKS FOLDER SECONDS`."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

ELEMENTS = 4 * 2**20
"""Of the tensor: 16 MiB."""


def main(backend: str, rank: int, ranks: int, folder: Path, seconds: float) -> None:
    """Join, sum, and print what was reached."""
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend,
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=30),
    )
    once = torch.full((ELEMENTS,), float(rank + 1), device=device)
    dist.all_reduce(once)  # connections are made by the first
    if float(once[-1]) != ranks * (ranks + 1) / 2:
        raise SystemExit(f"the sum is wrong: {float(once[-1])}")
    rounds, started = 0, time.perf_counter()
    more = torch.ones(1, device=device)
    while float(more):
        dist.all_reduce(once)
        rounds += 1
        more.fill_(float(time.perf_counter() - started < seconds))
        dist.broadcast(more, src=0)  # all ranks stop after the same round
    taken = time.perf_counter() - started
    sent = rounds * 2 * (ranks - 1) / ranks * ELEMENTS * 4
    print(json.dumps({"gigabytes_per_second": sent / taken / 1e9, "rounds": rounds}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), float(sys.argv[5]))
