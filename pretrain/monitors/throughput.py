"""How fast a run goes, how much of its time it waits for data, and how much of a device it uses."""

import statistics
import time
from collections import deque
from collections.abc import Callable

import torch

from fm.console import note
from pretrain.build import token_grids
from pretrain.loop import Loop, Moment, Watcher
from pretrain.monitors.each_rank import each_rank
from pretrain.monitors.peak import peak_flops
from pretrain.plan.flops import flops_by_part
from pretrain.ranks import collective


class Throughput(Watcher):
    """Tells the rates of a run; all are of the last `monitor.window` steps.

    `samples_per_s`, `tokens_per_s` (tokens of whole samples, hidden ones too), `step_seconds` (the
    median), `data_wait` (share of the time that the rank that waited most waited for data), its
    share of the whole session `run_wait_share`, and `mfu` where the device's peak is known: counted
    operations of forward and backward pass (`pretrain.plan.flops`) over what all devices could
    have done. Time between steps (checkpoints, probes) is time of the step that follows.

    Args:
        clock: seconds, rising.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock

    def begin(self, loop: Loop) -> None:
        """Count what a sample costs, where it is asked for, and start the clock."""
        config, layout = loop.config, loop.data.layout
        self._size, self._every = config.data.batch_size, config.monitor.every
        self._device = loop.device
        grids = token_grids(layout, loop.engine.objective)
        self._tokens = {
            part: sum(rows * columns for rows, columns in of.values()) for part, of in grids.items()
        }
        dtype = torch.float32 if config.engine.precision == "fp32" else torch.bfloat16
        own = peak_flops(loop.device, config.monitor.peak_tflops, dtype)
        peaks = each_rank([own or 0.0], loop.device)[0]
        self._peak = peaks if all(peaks) else None
        self._flops: dict[str, float] = {}
        if self._peak is not None:
            self._count(loop)
        # seconds, seconds waited and part of each of the last steps
        self._steps: deque[tuple[float, float, str]] = deque(maxlen=config.monitor.window)
        self._started = self._last = self._clock()
        self._waited = 0.0

    def _count(self, loop: Loop) -> None:
        """Count what a sample costs; without it there is no utilisation, and the run goes on."""
        assert self._peak is not None
        try:
            counted = flops_by_part(loop.config, loop.data.layout)
        except (RuntimeError, NotImplementedError) as error:  # asks for values, or for other ranks
            self._peak = None
            if collective.rank() == 0:
                first = str(error).partition("\n")[0]
                note(f"no MFU: the objective cannot be counted without its data ({first})")
            return
        self._flops = {part: found.total for part, found in counted.items()}
        if collective.rank() == 0:
            each = sum(self._peak) / len(self._peak) / 1e12
            names = {part: f" of {part}" if part else "" for part in self._flops}
            told = ", ".join(f"{f / 1e9:.3g}{names[p]}" for p, f in self._flops.items())
            note(f"MFU: {told} GFLOP a sample counted, {each:.4g} TFLOP/s a device can do")

    def after_step(self, moment: Moment) -> None:
        """Note the step; add the rates where it is logged."""
        now = self._clock()
        self._steps.append((now - self._last, moment.waited, moment.batch.part or ""))
        self._last = now
        self._waited += moment.waited
        if moment.step % self._every == 0 or moment.last:
            self._tell(moment, now)

    def passed_over(self, moment: Moment) -> None:
        """Tell the rates of the steps before, at the run's end; its time is of the next step."""
        if moment.last and self._steps:
            self._tell(moment, self._clock())

    def _tell(self, moment: Moment, now: float) -> None:
        seconds = [step[0] for step in self._steps]
        elapsed = max(sum(seconds), 1e-9)
        of_window = sum(step[1] for step in self._steps) / elapsed
        of_session = self._waited / max(now - self._started, 1e-9)
        shares, whole = each_rank([of_window, of_session], self._device)
        figures = {
            "samples_per_s": self._size * len(seconds) / elapsed,
            "tokens_per_s": self._size * sum(self._tokens[s[2]] for s in self._steps) / elapsed,
            "step_seconds": statistics.median(seconds),
            "data_wait": max(shares),
            "run_wait_share": max(whole),
        }
        if self._peak is not None:
            work = self._size * sum(self._flops[step[2]] for step in self._steps)
            figures["mfu"] = work / elapsed / sum(self._peak)
        moment.events |= {name: float(f"{value:.6g}") for name, value in figures.items()}
