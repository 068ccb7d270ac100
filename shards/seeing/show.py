"""Contact sheets: what the pixels of a dataset look like, for a person."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from fm.errors import UsageError
from fm.files import write_atomic
from shards.dataset import Dataset
from shards.dataset import open as open_dataset
from shards.format import ModalityInfo
from shards.index.columns import UNKNOWN
from shards.seeing.panels import Panel, panels, picture, spectrum


def contact_sheet(
    path: str | os.PathLike[str],
    out: Path,
    *,
    count: int = 12,
    where: str | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> None:
    """Draw some samples of a dataset.

    A column a sample, spread evenly over the stored order; a row a picture that the bands allow:
    true colour, a short-wave infrared composite, radar in false colour, the mean spectrum of many
    bands (`shards.seeing.panels`). What a row shows stands at its left. Brightness can be compared
    between samples. Of a series the first time is drawn; pixels without data are blank.

    Args:
        path: dataset folder or URL.
        out: PNG file.
        count: samples to draw.
        where: index filter.
        cache: folder for what is fetched from a URL; `EOFM_CACHE` when None.

    Raises:
        UsageError: `count` is below 1, or `out` is no PNG name.
    """
    if count < 1:
        raise UsageError(f"--count {count}: give a whole number from 1")
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: a contact sheet is a PNG; name a file ending in .png")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ds = open_dataset(path, where=where, cache=cache)
    chosen = np.unique(np.linspace(0, len(ds) - 1, min(count, len(ds))).round().astype(int))
    rows = [(info, panel) for info in ds.modalities.values() for panel in panels(info)]
    figure, axes = pyplot.subplots(
        len(rows),
        len(chosen),
        figsize=(1.7 * len(chosen) + 0.3, 1.75 * len(rows) + 0.5),
        squeeze=False,
        layout="constrained",
    )
    for column, i in enumerate(chosen.tolist()):
        arrays = ds.read(i)
        for axis, (info, panel) in zip(axes[:, column], rows, strict=True):
            _draw(axis, arrays.get(info.name), info, panel)
        axes[0, column].set_title(_title(ds, i), fontsize=5)
    for place, (info, panel) in enumerate(rows):
        curve = panel.kind == "curve"
        if curve and any(axis.lines for axis in axes[place]):  # one scale for all samples
            ends = [axis.get_ylim() for axis in axes[place] if axis.lines]
            for axis in axes[place]:
                axis.set_ylim(min(end[0] for end in ends), max(end[1] for end in ends))
        unit = f", {info.table[0].unit}" if curve else ""
        axes[place, 0].annotate(
            f"{info.name}\n{panel.title}{unit}",
            (-0.3 if curve else -0.06, 0.5),
            xycoords="axes fraction",
            rotation=90,
            va="center",
            ha="right",
            fontsize=5,
        )
    figure.suptitle(f"{ds.info.name}: {len(chosen)} of {len(ds)} samples", fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=130, format="png")
    pyplot.close(figure)
    write_atomic(out, stream.getvalue())


def _draw(axis: Any, array: np.ndarray | None, info: ModalityInfo, panel: Panel) -> None:
    """Draw one panel; nothing where the sample lacks the modality."""
    if array is None or panel.kind != "curve":
        axis.set_axis_off()
    if array is None:
        return
    if panel.kind != "curve":
        axis.imshow(picture(array, info, panel), interpolation="nearest")
        return
    axis.plot(*spectrum(array, info), linewidth=0.6)
    axis.tick_params(labelsize=4)
    axis.set_xlabel("nm", fontsize=5)


def _title(ds: Dataset, i: int) -> str:
    """Key, split and day of a sample."""
    row = np.array([i if ds.rows is None else ds.rows[i]])
    key = str(ds.columns.text("key", row)[0])
    split, time = int(ds.columns.take("split", row)[0]), int(ds.columns.take("time", row)[0])
    about = [ds.columns.header["splits"][split - 1]] if split else []
    about += [] if time == UNKNOWN else [str(np.datetime64(time, "us").astype("datetime64[D]"))]
    short = key if len(key) <= 24 else f"...{key[-20:]}"
    return "\n".join([short, " ".join(about)])
