"""A picture of a geolocation: the cells, how far off each test image was placed, and how often."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from probes.benchmarks.base import Data
from probes.geolocation.cells import NONE
from probes.statistics.places import LADDER_KM, PlaceAnswers
from probes.world_map import SEA, WIDTH, background, extent

FARTHEST = 20_000.0
"""Kilometres between opposite places."""
LOCAL = 60.0
"""Degrees; places that reach no further are drawn in a frame of their own."""


def draw(data: Data, answers: PlaceAnswers, name: str, out: str | os.PathLike[str]) -> Path:
    """Draw what was asked and how it was answered.

    Args:
        data: a benchmark of the task `geolocation`, opened.
        answers: of its test samples; the first way to answer is drawn.
        name: of what was judged, and of the file.
        out: folder.

    Returns:
        the file `NAME.png`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    assert data.cells is not None
    assert data.lonlat is not None
    km = answers.km[:, 0]
    test, train = data.of("test"), data.of("train")
    asked, seen = data.lonlat(test), data.lonlat(train)
    frame = _Frame(np.concatenate([seen, asked]))
    figure = Figure(figsize=(10, 13), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    cells, errors, shares = figure.subplots(3, 1, height_ratios=(5, 5, 3))
    figure.suptitle(f"{name}: median error {np.median(km):,.0f} km", fontsize=14)
    frame.background(cells)
    cells.imshow(frame.colours(data), extent=frame.extent, interpolation="nearest", zorder=1)
    cells.scatter(*frame.plane(seen).T, s=1.2, c="black", alpha=0.35, linewidths=0, zorder=2)
    counts = data.cells.counts
    cells.set_title(
        f"{len(counts)} cells of {counts.min()} to {counts.max()} training images (dots)"
    )
    frame.background(errors)
    order = np.argsort(-km, kind="stable")  # the near ones on top
    nearest = float(np.clip(np.quantile(km, 0.01), LADDER_KM[0], FARTHEST / 2))
    shown = errors.scatter(
        *frame.plane(asked[order]).T,
        s=9,
        c=np.clip(km[order], nearest, FARTHEST),
        cmap="plasma_r",
        norm=LogNorm(nearest, FARTHEST),
        linewidths=0,
        zorder=2,
    )
    bar = figure.colorbar(shown, ax=errors, shrink=0.8, label="km off")
    ticks = [reach for reach in (*LADDER_KM, 10_000) if reach >= nearest]
    bar.ax.set_yticks(ticks, [f"{reach:,}" for reach in ticks])
    bar.ax.minorticks_off()
    errors.set_title(
        f"{len(asked)} test images where they were taken, by how far off they were put"
    )
    for axes in (cells, errors):
        axes.set(aspect="equal", xlim=frame.extent[:2], ylim=frame.extent[2:])
        axes.set_axis_off()
    _curve(shares, km)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    canvas.print_png(path)
    return path


def _curve(axes: Any, km: np.ndarray) -> None:
    """Share of the test images within each distance, with PlaNet's five marked."""
    ranked = np.sort(km)
    axes.step(ranked, np.arange(1, len(ranked) + 1) / len(ranked), where="post", color="#3b4cc0")
    for reach in LADDER_KM:
        share = float((km <= reach).mean())
        axes.axvline(reach, color="0.85", zorder=0)
        words = f"{reach:,} km\n{share:.1%}"
        axes.text(reach, 1.02, words, ha="center", va="bottom", fontsize=9)
    axes.set(xscale="log", xlim=(0.5, FARTHEST), ylim=(0, 1), xlabel="km", ylabel="share within")
    axes.spines[["top", "right"]].set_visible(False)


class _Frame:
    """Where places are drawn: the world in Equal Earth, or longitude and latitude of a region."""

    def __init__(self, lonlat: np.ndarray) -> None:
        low, high = lonlat.min(0), lonlat.max(0)
        self.world = bool((high - low).max() > LOCAL)
        if self.world:
            self.extent = extent()
            return
        margin = 0.05 * (high - low).max() + 1e-6
        self.squeeze = float(np.cos(np.radians((low[1] + high[1]) / 2)))
        west, south = self.plane((low - margin)[None])[0].tolist()
        east, north = self.plane((high + margin)[None])[0].tolist()
        self.extent = (west, east, south, north)

    def plane(self, lonlat: np.ndarray) -> np.ndarray:
        """Places `[n, 2]` on the picture."""
        if self.world:
            from shards.seeing.land import equal_earth

            return equal_earth(lonlat)
        return lonlat * np.array([self.squeeze, 1.0])

    def background(self, axes: Any) -> None:
        """Draw land and sea, where the package with the coasts is installed."""
        if self.world:
            background(axes)
        else:
            axes.set_facecolor(SEA)

    def colours(self, data: Data) -> np.ndarray:
        """Cells as colours `[H, W, 4]`, no cell clear, the edges between cells white."""
        from matplotlib import colormaps

        assert data.cells is not None
        west, east, south, north = self.extent
        height = max(2, round(WIDTH * (north - south) / (east - west)))
        x = west + (np.arange(WIDTH) + 0.5) / WIDTH * (east - west)
        y = north - (np.arange(height) + 0.5) / height * (north - south)
        grid = np.stack(np.meshgrid(x, y), -1)
        if self.world:
            from shards.seeing.land import inverse_equal_earth

            lonlat = inverse_equal_earth(grid)
        else:
            lonlat = grid / np.array([self.squeeze, 1.0])
        number = data.cells.inside(lonlat.reshape(-1, 2)).reshape(height, WIDTH)
        # neighbouring numbers get colours far apart
        hue = np.random.Generator(np.random.PCG64(0)).permutation(len(data.cells))
        made = colormaps["turbo"](0.08 + 0.84 * hue[number] / max(1, len(hue) - 1), alpha=0.55)
        edge = np.zeros(number.shape, bool)
        edge[1:] |= number[1:] != number[:-1]
        edge[:, 1:] |= number[:, 1:] != number[:, :-1]
        made[edge] = (1, 1, 1, 0.9)
        made[(number == NONE) & ~edge] = 0
        return np.asarray(made)
