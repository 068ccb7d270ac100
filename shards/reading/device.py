"""Copying batches to a device while the one before is in use."""

from collections import deque
from collections.abc import Generator

import torch

from shards.reading.batch import Batch


def on_device(
    batches: Generator[Batch, None, None], device: torch.device
) -> Generator[Batch, None, None]:
    """Yield the same batches with their tensors on a device.

    On CUDA the next batch is copied from pinned memory in a stream of its own; the stream that
    computes waits for it, and the host memory is kept until the copy is done.

    Args:
        batches: from a loader; closed with this generator.
        device: where the tensors go.
    """
    if device.type != "cuda":
        try:
            for batch in batches:
                yield batch.to(device)
                del batch
        finally:
            batches.close()
        return
    side = torch.cuda.Stream(device)
    ahead: deque[tuple[Batch, torch.cuda.Event]] = deque()
    copying: deque[tuple[Batch, torch.cuda.Event]] = deque()
    ended = False
    try:
        while True:
            while not ended and len(ahead) < 2:
                host = next(batches, None)
                if host is None:
                    ended = True
                    break
                with torch.cuda.stream(side):
                    moved = host._moved(device, wait=False)
                    done = torch.cuda.Event()
                    done.record(side)
                copying.append((host, done))
                ahead.append((moved, done))
                del host
            while copying and copying[0][1].query():
                copying.popleft()
            if not ahead:
                return
            batch, done = ahead.popleft()
            now = torch.cuda.current_stream(device)
            now.wait_event(done)
            for tensor in batch.tensors():  # the allocator must not reuse them too early
                tensor.record_stream(now)
            yield batch
            del batch
    finally:
        torch.cuda.synchronize(device)
        batches.close()
