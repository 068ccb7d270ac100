"""What a run writes and shows while it goes: metrics, TensorBoard, bar, pictures."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from fm.console import Bar
from pretrain.objective import Panel


class Monitor:
    """Logs steps on the first rank.

    Args:
        metrics: open `metrics.jsonl`.
        events: folder of TensorBoard events, None for none.
        bar: the progress bar.
        every: steps between lines.
        batch_size: samples in a global batch.
        done: steps of earlier sessions.
    """

    def __init__(
        self,
        metrics: IO[str],
        events: Path | None,
        bar: Bar,
        *,
        every: int,
        batch_size: int,
        done: int = 0,
    ) -> None:
        self._metrics, self._bar = metrics, bar
        self._every, self._batch_size = every, batch_size
        self._writer: Any = None
        if events is not None:
            from torch.utils.tensorboard import SummaryWriter

            # after a kill, events of steps that are taken again are dropped
            self._writer = SummaryWriter(str(events), purge_step=done + 1)
        self._started = self._last = time.perf_counter()
        self._waited = 0.0
        self._steps = 0

    def log(
        self,
        step: int,
        values: dict[str, float],
        *,
        waited: float,
        last: bool,
        part: str | None = None,
    ) -> None:
        """Log one step.

        Args:
            step: steps done, from 1.
            values: figures of the step.
            waited: seconds spent waiting for data in this step.
            last: this is the run's last step.
            part: of a mixture that this step came from; its figures have events of their own.
        """
        now = time.perf_counter()
        self._waited += waited
        self._steps += 1
        elapsed = max(now - self._started, 1e-9)
        rate = self._steps * self._batch_size / elapsed
        share = self._waited / elapsed
        if step % self._every == 0 or last:
            row = {
                "step": step,
                "samples": step * self._batch_size,
                **({} if part is None else {"part": part}),
                **values,
                "seconds": round(now - self._last, 6),
                "data_wait": round(share, 4),
            }
            self._metrics.write(json.dumps(row) + "\n")
            if self._writer is not None:
                for name, value in row.items():
                    if name not in ("step", "part"):
                        of_part = part is not None and name in values
                        tag = f"{name}/{part}" if of_part else name
                        self._writer.add_scalar(tag, value, step)
        self._last = now
        self._bar.advance(
            loss=f"{values['loss']:.4f}", rate=f"{rate:.0f}/s", data_wait=f"{100 * share:.0f}%"
        )

    def close(self) -> None:
        """Flush and close the files."""
        self._metrics.close()
        if self._writer is not None:
            self._writer.close()


def _displayed(image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Stretch `[C, H, W]` to `[H, W, 3]` for display: three bands of many, or grey."""
    count = len(image)
    chosen = [count - 1, count // 2, 0] if count > 4 else [2, 1, 0] if count >= 3 else [0, 0, 0]
    bottom, span = low[chosen], np.maximum(high[chosen] - low[chosen], 1e-6)
    stretched = (image[chosen] - bottom[:, None, None]) / span[:, None, None]
    return np.clip(np.moveaxis(stretched, 0, -1), 0, 1)


def save_panels(
    folder: Path, samples: Sequence[Sequence[Panel]], keys: Sequence[str]
) -> list[Path]:
    """Write one PNG a sample: input, what the encoder saw, reconstruction, and spectra.

    Args:
        folder: made if need be.
        samples: panels of each sample.
        keys: the samples' keys, for the titles.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (panels, key) in enumerate(zip(samples, keys, strict=True)):
        figure, axes = pyplot.subplots(
            len(panels), 4, figsize=(9.6, 2.5 * len(panels)), squeeze=False, layout="constrained"
        )
        for row, panel in zip(axes, panels, strict=True):
            low, high = np.percentile(panel.image, [2, 98], axis=(1, 2))
            seen = np.where(panel.shown, panel.image, low[:, None, None])
            for axis, image, title in zip(
                row,
                (panel.image, seen, panel.predicted),
                ("input", "seen", "predicted"),
                strict=False,
            ):
                axis.imshow(_displayed(image, low, high), interpolation="nearest")
                axis.set_title(title, fontsize=8)
                axis.set_axis_off()
            hidden = ~panel.shown
            for image, title in ((panel.image, "true"), (panel.predicted, "predicted")):
                row[3].plot(image[:, hidden].mean(axis=1), label=title, linewidth=1)
            row[3].set_title(f"{panel.modality}: mean of hidden pixels by band", fontsize=7)
            row[3].tick_params(labelsize=6)
            row[3].legend(fontsize=6)
        figure.suptitle(key, fontsize=8)
        path = folder / f"panel-{number:02d}.png"
        figure.savefig(path, dpi=100)
        pyplot.close(figure)
        paths.append(path)
    return paths
