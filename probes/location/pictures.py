"""Maps of what an encoder's head answers and where it errs, as PNG."""

import os
from pathlib import Path

import numpy as np

from probes.location.judge import Cell
from probes.location.points import Places


def draw(cell: Cell, places: Places, name: str, out: str | os.PathLike[str]) -> Path:
    """Draw the test places three times: truth, answer, error; train places are grey.

    Args:
        cell: what was answered.
        places: of the task.
        name: of the encoder.
        out: folder.

    Returns:
        the file `TASK--SPLIT--NAME--sSEED.png`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 11), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    test, truth = cell.parts.test, places.values[cell.task.name][cell.parts.test]
    seen, asked = places.lonlat[cell.parts.train], places.lonlat[test]
    title = f"{name}, {cell.task.name}, {cell.split}, seed {cell.seed}: "
    figure.suptitle(f"{title}{cell.task.primary} {cell.value:.3f}\n{cell.parts.words}")
    for axes, (what, values, settings) in zip(
        figure.subplots(3, 1), _panels(cell, truth), strict=True
    ):
        axes.scatter(*seen.T, s=1, c="0.85", linewidths=0)
        shown = axes.scatter(*asked.T, s=5, c=values, linewidths=0, **settings)
        axes.set(title=what, xlim=(-180, 180), ylim=(-90, 90), aspect="equal")
        axes.set_xticks([]), axes.set_yticks([])
        if cell.task.kind == "regression":
            figure.colorbar(shown, ax=axes, shrink=0.8)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{cell.task.name}--{cell.split}--{name}--s{cell.seed}.png"
    canvas.print_png(path)
    return path


def _panels(cell: Cell, truth: np.ndarray) -> list[tuple[str, np.ndarray, dict]]:
    """Title, values and colours of the three maps."""
    if cell.task.kind == "class":
        # neighbouring class numbers get colours far apart
        count = int(max(truth.max(), cell.predicted.max())) + 1
        hue = np.random.Generator(np.random.PCG64(count)).permutation(count)
        colours = {"cmap": "hsv", "vmin": 0, "vmax": max(1, count)}
        wrong = (cell.predicted != truth).astype(int)
        share = f"wrong ({wrong.mean():.0%}, red)"
        return [
            ("truth", hue[truth], colours),
            ("answer", hue[cell.predicted], colours),
            (share, wrong, {"cmap": "coolwarm", "vmin": 0, "vmax": 1}),
        ]
    low, high = np.quantile(truth, [0.01, 0.99]).tolist()
    colours = {"cmap": "viridis", "vmin": low, "vmax": high}
    error = cell.predicted - truth
    reach = float(np.quantile(np.abs(error), 0.98)) or 1.0
    return [
        (f"truth: {cell.task.help}", truth, colours),
        ("answer, on the scale of the truth", cell.predicted, colours),
        ("answer - truth", error, {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}),
    ]
