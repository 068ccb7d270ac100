"""Maps of what an encoder's head answers and where it errs, as PNG."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probes.location.judge import Cell
from probes.location.points import Places
from probes.world_map import background, extent

_OWN = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C8", "C9")
"""Colours of the most frequent classes; the others are grey."""
_REST = "#808080"
_RIGHT, _WRONG, _UNKNOWN = "#8fb8de", "#d7191c", "#222222"


@dataclass(frozen=True)
class _Panel:
    """One map.

    Attributes:
        title: above it.
        colour: `[n]` of the places, numbers or colours.
        settings: of `scatter`.
        legend: words and colours; empty for a scale.
        words: at the scale.
    """

    title: str
    colour: Any
    settings: dict[str, Any]
    legend: list[tuple[str, Any]]
    words: str = ""


def draw(cell: Cell, places: Places, name: str, out: str | os.PathLike[str]) -> Path:
    """Draw the test places three times: truth, answer, error; train places are small dots.

    Args:
        cell: what was answered.
        places: of the task.
        name: of the encoder.
        out: folder.

    Returns:
        the file `TASK--SPLIT--PROTOCOL--NAME--sSEED.png`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from shards.seeing.land import equal_earth

    figure = Figure(figsize=(10, 14), layout="constrained")
    FigureCanvasAgg(figure)
    test, train = cell.parts.test, cell.parts.train
    seen, asked = equal_earth(places.lonlat[train]), equal_earth(places.lonlat[test])
    protocol = cell.protocol.partition("@")[0]
    score = f"{cell.task.primary} {cell.value:.3f} of {len(test):,} test places"
    figure.suptitle(
        f"{name}, {protocol}: {cell.task.help}, {score}\n"
        f"{cell.split}, seed {cell.seed}: {cell.parts.words} (dots: {len(train):,} of train)"
    )
    for axes, panel in zip(figure.subplots(3, 1), _panels(cell, places), strict=True):
        background(axes)
        axes.scatter(*seen.T, s=0.8, c="black", alpha=0.3, linewidths=0, zorder=1)
        shown = axes.scatter(
            *asked.T, s=7, c=panel.colour, linewidths=0, zorder=2, **panel.settings
        )
        west, east, south, north = extent()
        axes.set(title=panel.title, aspect="equal", xlim=(west, east), ylim=(south, north))
        axes.set_axis_off()
        if panel.legend:
            marks = [Line2D([], [], marker="o", ls="", c=c, label=w) for w, c in panel.legend]
            where = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False}
            axes.legend(handles=marks, fontsize=8, **where)
        else:
            figure.colorbar(shown, ax=axes, shrink=0.8, label=panel.words, extend="both")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{cell.task.name}--{cell.split}--{protocol}--{name}--s{cell.seed}.png"
    figure.savefig(path, bbox_inches="tight")
    return path


def _panels(cell: Cell, places: Places) -> list[_Panel]:
    """Truth, answer and error."""
    values = places.values[cell.task.name]
    truth = values[cell.parts.test]
    if cell.task.kind == "class":
        return _of_classes(cell, truth, places.classes[cell.task.name], values[cell.parts.train])
    low, high = np.quantile(truth, [0.01, 0.99]).tolist()
    colours = {"cmap": "viridis", "vmin": low, "vmax": high}
    error = cell.predicted - truth
    reach = float(np.quantile(np.abs(error), 0.98)) or 1.0
    signed = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    words = cell.task.help
    return [
        _Panel("truth", truth, colours, [], words),
        _Panel("answer, on the scale of the truth", cell.predicted, colours, [], words),
        _Panel(
            f"answer - truth; half of the answers are off by less than "
            f"{np.median(np.abs(error)):.3g}",
            *(error, signed, []),
            "red: too high, blue: too low",
        ),
    ]


def _of_classes(
    cell: Cell, truth: np.ndarray, names: tuple[str, ...], train: np.ndarray
) -> list[_Panel]:
    counts = np.bincount(truth, minlength=len(names))
    order = np.argsort(-counts, kind="stable")[: min(len(_OWN), int((counts > 0).sum()))]
    palette = np.full(len(names), _REST)
    palette[order] = _OWN[: len(order)]
    legend = [(names[i], str(palette[i])) for i in order.tolist()]
    rest = len(names) - len(order)
    legend += [(f"{rest} other classes", _REST)] if rest else []
    right = cell.predicted == truth
    unknown = ~np.isin(truth, train)
    kinds = [(right, _RIGHT, "right"), (~right & ~unknown, _WRONG, "wrong")]
    kinds += [(unknown, _UNKNOWN, "wrong: no such class in train")]
    marks = np.select([one for one, _, _ in kinds], [c for _, c, _ in kinds], _RIGHT)
    shares = [(f"{words} ({own.mean():.1%})", c) for own, c, words in kinds if own.any()]
    return [
        _Panel("truth", palette[truth], {}, legend),
        _Panel("answer", palette[cell.predicted], {}, legend),
        _Panel("error", marks, {}, shares),
    ]
