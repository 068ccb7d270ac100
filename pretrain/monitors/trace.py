"""A trace of a few steps, for a timeline viewer."""

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from fm.console import note
from pretrain.loop import Loop, Moment, Watcher
from pretrain.ranks import collective
from pretrain.runs.folder import RunFolder


class Trace(Watcher):
    """Writes `profile/steps-FIRST-LAST.json.gz`, a Chrome trace of these steps of rank 0.

    Only steps that this session takes are in it. Open it in Perfetto or `chrome://tracing`.

    Args:
        folder: of the run.
        steps: first and last, from 1.
    """

    def __init__(self, folder: RunFolder, steps: tuple[int, int]) -> None:
        self._path = folder.path / "profile" / f"steps-{steps[0]}-{steps[1]}.json.gz"
        self._first, self._last = steps
        self._profile: Any = None

    def begin(self, loop: Loop) -> None:
        """Start, where the next step is one of them."""
        self._start(loop.step + 1)

    def after_step(self, moment: Moment) -> None:
        """Start before the first of the steps, stop after the last."""
        if moment.step >= self._last or moment.last:
            self.close()
        elif self._profile is None:
            self._start(moment.step + 1)

    def passed_over(self, moment: Moment) -> None:
        """Start and stop all the same."""
        self.after_step(moment)

    def close(self) -> None:
        """Write what was recorded."""
        if self._profile is None:
            return
        recorded, self._profile = self._profile, None
        recorded.stop()
        self._path.parent.mkdir(exist_ok=True)
        recorded.export_chrome_trace(str(self._path))
        note(f"trace of the steps: {self._path}")

    def _start(self, step: int) -> None:
        if collective.rank() != 0 or not self._first <= step <= self._last:
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(activities=activities, record_shapes=True)
        self._profile.start()
