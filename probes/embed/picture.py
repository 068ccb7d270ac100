"""A map of embeddings in colours: their first three principal components as red, green, blue."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fm.console import progress
from fm.errors import FMError

if TYPE_CHECKING:
    from probes.embed.stage import Kept
    from probes.embed.world import Grid

    Values = np.ndarray | Kept

_STRIP_BYTES = 64 << 20
_SHARE = (2.0, 98.0)
"""Percentiles of a component's area that are black and full."""
_BINS = 4096


def components(
    values: "Values", weight: np.ndarray
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find principal components strip by strip; the array is read once and never held.

    Sums are float64 around the first known cell, so large means cost no digits. The sign of a
    component is that which makes its largest entry (by size) positive.

    Args:
        values: `[Y, X, D]`, NaN where there is nothing.
        weight: `[Y]` of a row's cells.

    Returns:
        the mean `[D]`, the components `[D, D]` in rows, the first the strongest, and their shares
        of the variance `[D]`.

    Raises:
        FMError: no cell is known.
    """
    dim = values.shape[-1]
    centre: np.ndarray | None = None
    total, first, second = 0.0, np.zeros(dim), np.zeros((dim, dim))
    for rows in _strips(values):
        part = np.asarray(values[rows], np.float64).reshape(-1, dim)
        w = np.repeat(weight[rows], values.shape[1])
        known = np.isfinite(part).all(axis=1)
        part, w = part[known], w[known]
        if not len(part):
            continue
        centre = part[0] if centre is None else centre
        part = part - centre
        total += w.sum()
        first += w @ part
        second += (part * w[:, None]).T @ part
    if centre is None or total <= 0:
        raise FMError("there is no finite embedding to draw")
    mean = first / total
    spread, vectors = np.linalg.eigh(second / total - np.outer(mean, mean))
    found = vectors.T[::-1]
    largest = np.abs(found).argmax(axis=1)
    found = found * np.sign(found[np.arange(dim), largest])[:, None]
    share = np.maximum(spread[::-1], 0)
    return centre + mean, found, share / max(share.sum(), np.finfo(float).tiny)


def colours(
    values: "Values", weight: np.ndarray
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Colour cells by the first three components, each stretched to its middle 96 % by area.

    Args:
        values: `[Y, X, D]`; fewer than three features leave colours at their middle.
        weight: `[Y]` of a row's cells.

    Returns:
        `[Y, X, 3]` from 0 to 1, NaN where there is nothing; and the shares of the variance `[3]`.
    """
    mean, found, share = components(values, weight)
    count = min(3, len(found))
    height, width = values.shape[:2]
    scores = np.full((height, width, 3), np.nan, np.float32)
    for rows in _strips(values):
        part = (np.asarray(values[rows], np.float64) - mean) @ found[:count].T
        scores[rows, :, :count] = part
        scores[rows, :, count:] = np.where(np.isfinite(part[..., :1]), 0.5, np.nan)
    w = np.broadcast_to(weight[:, None], (height, width))
    known = np.isfinite(scores[..., 0])
    for n in range(count):
        low, high = _percentiles(scores[..., n][known], w[known], _SHARE)
        width_of = high - low if high > low else 1.0
        scores[..., n] = np.clip((scores[..., n] - low) / width_of, 0, 1)
    return scores, np.resize(np.append(share[:3], [0, 0, 0])[:3], 3)


def draw(values: "Values", grid: "Grid", title: str) -> bytes:
    """Draw the map with its coasts, where the extra `geo` is installed.

    Args:
        values: `[Y, X, D]`.
        grid: of the rows and columns.
        title: over it; the shares of the variance are added.

    Returns:
        a PNG.
    """
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with progress("principal components", 1) as bar:
        shown, share = colours(values, grid.area)
        bar.advance()
    ground = grid.ground
    east = ground.west + ground.width * ground.step[0]
    south = ground.north - ground.height * ground.step[1]
    extent = (ground.west, east, south, ground.north)
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor("#e9e9e6")
    picture = np.ma.masked_invalid(shown)
    alpha = np.isfinite(shown[..., 0]).astype(np.float32)
    axes.imshow(
        np.dstack([picture.filled(0), alpha]), extent=extent, interpolation="nearest", zorder=1
    )
    _coasts(axes)
    axes.set(xlim=(-180, 180), ylim=(-90, 90), aspect="equal")
    lines = range(-180, 181, 30), range(-90, 91, 30)
    axes.set_xticks(list(lines[0]), [_degrees(x, "EW") for x in lines[0]], fontsize=8)
    axes.set_yticks(list(lines[1]), [_degrees(y, "NS") for y in lines[1]], fontsize=8)
    axes.grid(color="black", alpha=0.12, linewidth=0.4, zorder=2)
    axes.set_xlabel("longitude", fontsize=9)
    axes.set_ylabel("latitude", fontsize=9)
    names = zip(("red", "green", "blue"), share.tolist(), strict=True)
    parts = ", ".join(f"{name} {value:.0%}" for name, value in names)
    axes.set_title(f"{title}\nprincipal components: {parts} of the variance", fontsize=10)
    stream = io.BytesIO()
    canvas.figure.set_dpi(150)
    canvas.print_png(stream)
    return stream.getvalue()


def _coasts(axes: object) -> None:
    from shards.seeing.land import coarse_land

    land = coarse_land()
    if land is None:
        return
    rows, columns = land.shape
    lon = (np.arange(columns) + 0.5) * 360 / columns - 180
    lat = 90 - (np.arange(rows) + 0.5) * 180 / rows
    contour = axes.contour  # type: ignore[attr-defined]
    contour(lon, lat, land, levels=[0.5], colors="black", linewidths=0.35, alpha=0.7, zorder=3)


def _strips(values: "Values") -> list[slice]:
    each = 8 * values.shape[1] * values.shape[2]
    step = max(1, _STRIP_BYTES // each)
    return [slice(a, min(a + step, len(values))) for a in range(0, len(values), step)]


def _percentiles(
    values: np.ndarray, weight: np.ndarray, share: tuple[float, float]
) -> tuple[float, float]:
    """Weighted percentiles: where the weight below reaches a share, between bins linearly."""
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return low, high
    counts, edges = np.histogram(values, _BINS, (low, high), weights=weight)
    below = np.concatenate([[0.0], np.cumsum(counts)])
    found = np.interp(np.array(share) / 100 * below[-1], below, edges)
    return float(found[0]), float(found[1])


def _degrees(value: int, sides: str) -> str:
    if value == 0 or abs(value) == 180:
        return f"{abs(value)}°"
    return f"{abs(value)}°{sides[0 if value > 0 else 1]}"
