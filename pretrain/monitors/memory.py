"""How much memory a run has taken at most."""

import os
import resource
import sys
from pathlib import Path

import torch

from pretrain.loop import Loop, Moment, Watcher
from pretrain.monitors.each_rank import each_rank

GIB = 2.0**30


class Memory(Watcher):
    """Tells the largest peak of any rank, at the end of each window of steps.

    `memory_peak_gib`: the most resident memory that a rank's process has had so far, and that its
    child processes have now, shared pages counted in each; `cuda_peak_gib`: the most that tensors
    have taken on its device.
    """

    def begin(self, loop: Loop) -> None:
        """Remember the device."""
        self._device, self._window = loop.device, loop.config.monitor.window
        self._children = 0

    def after_step(self, moment: Moment) -> None:
        """Look at the memory."""
        if moment.step % self._window == 0 or moment.last:
            self._tell(moment)

    def passed_over(self, moment: Moment) -> None:
        """Look at it at the run's end."""
        if moment.last:
            self._tell(moment)

    def _tell(self, moment: Moment) -> None:
        self._children = max(self._children, children_bytes())
        peaks = [own_peak_bytes() + self._children]
        if self._device.type == "cuda":
            peaks.append(torch.cuda.max_memory_allocated(self._device))
        ranks = each_rank([peak / GIB for peak in peaks], self._device)
        names = ("memory_peak_gib", "cuda_peak_gib")
        moment.events |= {n: round(max(x), 4) for n, x in zip(names, ranks, strict=False)}


def own_peak_bytes() -> int:
    """Return the most resident memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def children_bytes() -> int:
    """Return the resident memory of all processes under this one; 0 where there is no `/proc`."""
    total, left = 0, [os.getpid()]
    while left:
        for listed in Path(f"/proc/{left.pop()}/task").glob("*/children"):
            try:
                found = [int(word) for word in listed.read_text().split()]
                pages = [int(Path(f"/proc/{n}/statm").read_text().split()[1]) for n in found]
            except OSError:  # one of them has ended meanwhile
                continue
            total += sum(pages) * os.sysconf("SC_PAGE_SIZE")
            left += found
    return total
