"""World maps of the samples of datasets: where, how many, of which season, split or dataset."""

import calendar
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import UsageError
from fm.files import write_atomic
from shards.dataset import open as open_dataset
from shards.seeing import land
from shards.seeing.tally import KINDS, MONTHS, Tally, tally
from shards.splits.buffer import all_bounds
from shards.splits.splitfile import Split

COLOURS = ("#3b75af", "#58a55c", "#d9822b", "#8b5a9f", "#9a9a9a", "#c44e52", "#17868f", "#8c6d31")
"""Of seasons, splits and datasets in their order, again from the first when there are more."""
WAYS = ("density", *KINDS)
_SEA, _LAND, _LINE = (1.0, 1.0, 1.0), (0.91, 0.91, 0.89), "#c9c9c9"
_WIDTH = 1600
_FEW = 20


def draw(
    paths: Sequence[str | os.PathLike[str]],
    out: Path,
    *,
    by: str = "density",
    km: float = 100.0,
    split: str | os.PathLike[str] | None = None,
    where: str | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> Tally:
    """Draw a map of the world (Equal Earth) with the samples counted in blocks of equal area.

    Beside it stand the months of the samples. A page (`.html`) is one file without a network; it
    lets the reader choose what is coloured and tells the counts under the pointer. Coasts are
    drawn where the extra `geo` is installed.

    Args:
        paths: datasets, folders or URLs.
        out: `.png` or `.html`.
        by: what colours mean: `density`, or the most frequent `season` (of the sample's own
            hemisphere), `split` or `dataset` of a block. A page begins with it.
        km: side of a block.
        split: a split file whose parts to show, instead of the index's own.
        where: index filter.
        cache: folder for what is fetched from URLs; `EOFM_CACHE` when None.

    Returns:
        what was counted.

    Raises:
        UsageError: another ending, an unknown `by`, a dataset named twice.
    """
    ending = out.suffix.lower()
    if ending not in (".png", ".html"):
        raise UsageError(f"--out {out}: name a file ending in .png or .html")
    if by not in WAYS:
        raise UsageError(f"--by {by}: choose {', '.join(WAYS)}")
    datasets = {}
    for path in paths:
        ds = open_dataset(path, where=where, cache=cache)
        name = ds.info.name if ds.info.name not in datasets else ds.place
        if name in datasets:
            raise UsageError(f"{path} is named twice; name each dataset once")
        datasets[name] = ds
    found = tally(datasets, km, None if split is None else Split.read(split))
    if ending == ".html":
        from shards.seeing.map_html import page

        write_atomic(out, page(found, by))
    else:
        write_atomic(out, _png(found, by))
    return found


def corners(found: Tally) -> np.ndarray:
    """Return the corners of each block in the plane, `[M, 4, 2]`, from the south-west around."""
    bounds = all_bounds(found.blocks, found.km)
    return land.equal_earth(bounds[:, [[0, 1], [2, 1], [2, 3], [0, 3]]])


def background(width: int = _WIDTH) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Return a picture `[H, W, 4]` of land and sea in the plane, and its extent there."""
    drawn = land.picture(width)
    if drawn is None:
        right, top = land.equal_earth(np.array([[180.0, 0.0], [0.0, 90.0]])).max(axis=0)
        return np.zeros((1, 1, 4)), (-right, right, -top, top)
    colours = np.array([(1, 1, 1, 0), (*_SEA, 1), (*_LAND, 1)])
    return colours[drawn[0]], drawn[1]


def graticule() -> list[np.ndarray]:
    """Return meridians and parallels of 30 degrees and the outline as lines in the plane."""
    lat, lon = np.linspace(-90, 90, 91), np.linspace(-180, 180, 2)
    lines = [np.stack([np.full(91, x), lat], axis=-1) for x in range(-180, 181, 30)]
    lines += [np.stack([lon, np.full(2, y)], axis=-1) for y in range(-90, 91, 30)]
    return [land.equal_earth(line.astype(np.float64)) for line in lines]


def _png(found: Tally, by: str) -> bytes:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (world, months) = pyplot.subplots(
        1, 2, figsize=(13, 5.2), width_ratios=(5, 1), layout="constrained"
    )
    _world(figure, world, found, by)
    _months(months, found, by)
    placed = found.samples - found.unplaced
    title = f"{', '.join(found.names['dataset'])}: {placed} samples in blocks of {found.km:g} km"
    if found.unplaced:
        title += f" ({found.unplaced} more without coordinates)"
    figure.suptitle(title, fontsize=9)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=130, format="png")
    pyplot.close(figure)
    return stream.getvalue()


def _world(figure: Any, axis: Any, found: Tally, by: str) -> None:
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.colors import LogNorm

    image, extent = background()
    axis.imshow(image, extent=extent, interpolation="bilinear", zorder=0)
    axis.add_collection(LineCollection(graticule(), colors=_LINE, linewidths=0.4, zorder=1))
    polygons = PolyCollection(list(corners(found)), zorder=2)
    if by == "density":
        total = found.counts["dataset"].sum(axis=1)
        polygons.set_array(total)
        polygons.set_cmap("viridis_r")
        least = int(total.min()) if len(total) else 1
        polygons.set_norm(LogNorm(least, max(2 * least, int(total.max(initial=1)))))
        polygons.set_edgecolor("face")
        polygons.set_linewidth(0.3)
        bar = figure.colorbar(polygons, ax=axis, shrink=0.6)
        bar.set_label("samples in a block", fontsize=7)
        bar.ax.tick_params(labelsize=6)
    else:
        most = found.counts[by].argmax(axis=1)
        polygons.set_facecolor([COLOURS[k % len(COLOURS)] for k in most])
        polygons.set_edgecolor("none")
        _legend(axis, found, by)
    axis.add_collection(polygons)
    if 0 < len(found.blocks) <= _FEW:  # a block is three pixels wide: point at it
        centres = corners(found).mean(axis=1)
        axis.plot(*centres.T, "o", ms=11, mfc="none", mec="#c44e52", mew=1.0, zorder=3)
    axis.set_xlim(extent[:2])
    axis.set_ylim(extent[2:])
    axis.set_axis_off()


def _legend(axis: Any, found: Tally, by: str) -> None:
    from matplotlib.patches import Patch

    totals = found.counts[by].sum(axis=0)
    handles = [
        Patch(color=COLOURS[k % len(COLOURS)], label=f"{name} {totals[k]}")
        for k, name in enumerate(found.names[by])
        if totals[k]
    ]
    axis.legend(handles=handles, fontsize=7, loc="lower left", frameon=False)


def _months(axis: Any, found: Tally, by: str) -> None:
    from matplotlib.ticker import MaxNLocator

    counts = found.months["dataset" if by == "density" else by]
    bottom = np.zeros(MONTHS, np.int64)
    for k in range(counts.shape[1]):
        colour = COLOURS[0] if by == "density" else COLOURS[k % len(COLOURS)]
        axis.barh(np.arange(MONTHS), counts[:, k], left=bottom, color=colour, height=0.8)
        bottom += counts[:, k]
    labels = [*(calendar.month_abbr[m] for m in range(1, 13)), "unknown"]
    shown = MONTHS if bottom[-1] else MONTHS - 1
    axis.set_yticks(np.arange(shown), labels[:shown], fontsize=7)
    axis.set_ylim(shown - 0.5, -0.5)
    axis.tick_params(axis="x", labelsize=6)
    axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.set_xlabel("samples", fontsize=7)
    axis.spines[["top", "right"]].set_visible(False)
