"""What a run writes and shows at each step: metrics, TensorBoard, the bar."""

import contextlib
import json
import time
from typing import Any

from fm.console import progress
from pretrain.config import RunConfig
from pretrain.loop import Loop, Moment, Watcher
from pretrain.ranks import collective
from pretrain.runs.folder import RunFolder


class Monitor(Watcher):
    """Logs steps on the first rank; the last of the watchers, so that it sees all figures.

    Args:
        config: of the run.
        folder: where `metrics.jsonl` and `tensorboard/` are.
    """

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self._config, self._folder = config, folder
        self._stack = contextlib.ExitStack()
        self._metrics: Any = None
        self._writer: Any = None
        self._waited, self._steps = 0.0, 0

    def begin(self, loop: Loop) -> None:
        """Open the files to go on after the steps that are done."""
        self._started = self._last = time.perf_counter()
        self._step = loop.step
        if collective.rank() != 0:
            return
        steps = self._config.schedule.steps
        self._bar = self._stack.enter_context(progress(self._config.name, steps, done=loop.step))
        self._metrics = self._stack.enter_context(self._folder.open_metrics(loop.step))
        if self._config.monitor.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # after a kill, events of steps that are taken again are dropped
            events = str(self._folder.path / "tensorboard")
            self._writer = SummaryWriter(events, purge_step=loop.step + 1)
            self._stack.callback(self._writer.close)

    def after_step(self, moment: Moment) -> None:
        """Log one step."""
        if self._metrics is None:
            return
        now = time.perf_counter()
        self._waited += moment.waited
        self._steps += 1
        elapsed = max(now - self._started, 1e-9)
        size = self._config.data.batch_size
        rate = self._steps * size / elapsed
        share = self._waited / elapsed
        part = moment.batch.part
        if moment.step % self._config.monitor.every == 0 or moment.last:
            row = {
                "step": moment.step,
                "samples": moment.step * size,
                **({} if part is None else {"part": part}),
                **moment.figures,
                "seconds": round(now - self._last, 6),
                "data_wait": round(share, 4),
            }
            self._metrics.write(json.dumps(row) + "\n")
            if self._writer is not None:
                for name, value in row.items():
                    if name not in ("step", "part"):
                        of_part = part is not None and name in moment.figures
                        tag = f"{name}/{part}" if of_part else name
                        self._writer.add_scalar(tag, value, moment.step)
        self._last = now
        self._bar.advance(
            moment.step - self._step,  # the guard may have passed some over
            loss=f"{moment.figures['loss']:.4f}",
            rate=f"{rate:.0f}/s",
            data_wait=f"{100 * share:.0f}%",
        )
        self._step = moment.step

    def close(self) -> None:
        """Flush and close the files."""
        self._stack.close()
