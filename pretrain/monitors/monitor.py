"""What a run writes and shows at each step: metrics, TensorBoard, W&B, the bar."""

import contextlib
import datetime
import json
import time
from typing import Any

from fm.console import progress
from pretrain.config import RunConfig
from pretrain.loop import Loop, Moment, Watcher
from pretrain.monitors.wandb_log import WandbLog
from pretrain.ranks import collective
from pretrain.runs.folder import METRICS, RunFolder
from pretrain.runs.lines import open_lines


class Monitor(Watcher):
    """Logs steps on the first rank; the last of the watchers, so that it sees all figures.

    Args:
        config: of the run.
        folder: where `metrics.jsonl` and `tensorboard/` are.

    Raises:
        FMError: W&B is asked for and not installed.
    """

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self._config, self._folder = config, folder
        self._stack = contextlib.ExitStack()
        self._metrics: Any = None
        self._writer: Any = None
        wanted = config.monitor.wandb
        self._wandb = None if wanted is None else WandbLog(config, folder, wanted)
        self._events: dict[str, float] = {}
        self._shown: dict[str, float] = {}

    def begin(self, loop: Loop) -> None:
        """Open the files to go on after the steps that are done."""
        self._last = time.perf_counter()
        if collective.rank() != 0:
            return
        steps = self._config.schedule.steps
        self._bar = self._stack.enter_context(progress(self._config.name, steps, done=loop.step))
        self._metrics = self._stack.enter_context(
            open_lines(self._folder.path / METRICS, loop.step)
        )
        if self._config.monitor.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            # after a kill, events of steps that are taken again are dropped
            events = str(self._folder.path / "tensorboard")
            self._writer = SummaryWriter(events, purge_step=loop.step + 1)
            self._stack.callback(self._writer.close)
        if self._wandb is not None:
            self._wandb.begin()
            self._stack.callback(self._wandb.close)

    def after_step(self, moment: Moment) -> None:
        """Log one step."""
        if self._metrics is None:
            return
        self._take(moment)
        if moment.step % self._config.monitor.every == 0 or moment.last:
            part = moment.batch.part
            self._log(moment, {} if part is None else {"part": part}, moment.figures)
        self._last = time.perf_counter()
        self._bar.advance(1, loss=f"{moment.figures['loss']:.4f}", **self._beside(moment.step))

    def passed_over(self, moment: Moment) -> None:
        """Move the bar; at the run's end, log what is of the run and not of the step."""
        if self._metrics is None:
            return
        self._take(moment)
        if moment.last and self._events:
            self._log(moment, {}, {})
        self._bar.advance(1, loss="passed over", **self._beside(moment.step))

    def _take(self, moment: Moment) -> None:
        self._events |= moment.events
        self._shown |= moment.events

    def _log(self, moment: Moment, part: dict[str, str], figures: dict[str, float]) -> None:
        """Write a line of a step's figures and of what was told since the last line."""
        row = {
            "step": moment.step,
            "samples": moment.step * self._config.data.batch_size,
            **part,
            **figures,
            **self._events,
            "seconds": round(time.perf_counter() - self._last, 6),
        }
        self._events = {}
        self._metrics.write(json.dumps(row) + "\n")
        # a part has curves of its own; what is of the whole run has one
        tags = {name: f"{name}/{part['part']}" for name in figures} if part else {}
        values = {tags.get(n, n): v for n, v in row.items() if n not in ("step", "part")}
        if self._writer is not None:
            for tag, value in values.items():
                self._writer.add_scalar(tag, value, moment.step)
        if self._wandb is not None:
            self._wandb.log(values, moment.step)

    def _beside(self, step: int) -> dict[str, str]:
        """Return what stands beside the bar, of the last logged window."""
        shown, found = self._shown, {}
        if rate := shown.get("samples_per_s"):
            found["rate"] = f"{rate:.0f}/s"
            found["data_wait"] = f"{100 * shown['data_wait']:.0f}%"
            left = (self._config.schedule.steps - step) * self._config.data.batch_size / rate
            found["eta"] = str(datetime.timedelta(seconds=round(left)))
        if "mfu" in shown:
            found["mfu"] = f"{100 * shown['mfu']:.1f}%"
        return found

    def close(self) -> None:
        """Flush and close the files."""
        self._stack.close()
