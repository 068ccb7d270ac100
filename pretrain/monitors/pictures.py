"""Reconstructions as pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pretrain.objective import Panel


def _displayed(image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Stretch `[C, H, W]` to `[H, W, 3]` for display: three bands of many, or grey."""
    count = len(image)
    chosen = [count - 1, count // 2, 0] if count > 4 else [2, 1, 0] if count >= 3 else [0, 0, 0]
    bottom, span = low[chosen], np.maximum(high[chosen] - low[chosen], 1e-6)
    stretched = np.nan_to_num((image[chosen] - bottom[:, None, None]) / span[:, None, None])
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
            known = np.isfinite(panel.image)
            low, high = np.array(
                [
                    np.percentile(b[k], [2, 98]) if k.any() else [0, 1]
                    for b, k in zip(panel.image, known, strict=True)
                ]
            ).T
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
            hidden = known & ~panel.shown
            for image, title in ((panel.image, "true"), (panel.predicted, "predicted")):
                means = [
                    b[h].mean() if h.any() else np.nan for b, h in zip(image, hidden, strict=True)
                ]
                row[3].plot(means, label=title, linewidth=1)
            row[3].set_title(f"{panel.modality}: mean of hidden pixels by band", fontsize=7)
            row[3].tick_params(labelsize=6)
            row[3].legend(fontsize=6)
        figure.suptitle(key, fontsize=8)
        path = folder / f"panel-{number:02d}.png"
        figure.savefig(path, dpi=100)
        pyplot.close(figure)
        paths.append(path)
    return paths
