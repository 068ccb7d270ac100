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

TRUE_COLOUR = ("B04", "B03", "B02")
"""Sentinel-2 bands shown as red, green, blue."""
CURVES = 50
"""Modalities with at least so many bands also get their mean spectrum drawn."""


def contact_sheet(
    path: str | os.PathLike[str], out: Path, *, count: int = 12, where: str | None = None
) -> None:
    """Draw some samples of a dataset.

    A row a modality, a column a sample, spread evenly over the stored order; the bands shown as
    red, green, blue stand at the left. Values are stretched between the dataset's 2nd and 98th
    percentile of each band, so brightness can be compared between samples.

    Args:
        path: dataset folder.
        out: PNG file.
        count: samples to draw.
        where: index filter.

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

    ds = open_dataset(path, where=where)
    chosen = np.unique(np.linspace(0, len(ds) - 1, min(count, len(ds))).round().astype(int))
    names = list(ds.modalities)
    curves = [name for name in names if len(ds.modalities[name].bands) >= CURVES]
    figure, axes = pyplot.subplots(
        len(names) + len(curves),
        len(chosen),
        figsize=(1.7 * len(chosen), 1.75 * (len(names) + len(curves)) + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for column, i in enumerate(chosen.tolist()):
        arrays = ds.read(i)
        for row, name in zip(axes[:, column], names, strict=False):
            row.set_axis_off()
            if name in arrays:
                info = ds.modalities[name]
                row.imshow(display(arrays[name], info), interpolation="nearest", cmap="gray")
        for row, name in zip(axes[len(names) :, column], curves, strict=True):
            if name in arrays:
                _curve(row, arrays[name], ds.modalities[name])
            else:
                row.set_axis_off()
        axes[0, column].set_title(_title(ds, i), fontsize=5)
    titles = [f"{name}\n{_caption(ds.modalities[name])}" for name in names]
    titles += [f"{name}\nmean, {_unit(ds.modalities[name])}" for name in curves]
    for place, title in enumerate(titles):
        axes[place, 0].annotate(
            title,
            (-0.06 if place < len(names) else -0.3, 0.5),
            xycoords="axes fraction",
            rotation=90,
            va="center",
            ha="right",
            fontsize=6,
        )
    figure.suptitle(f"{ds.info.name}: {len(chosen)} of {len(ds)} samples", fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=130, format="png")
    pyplot.close(figure)
    write_atomic(out, stream.getvalue())


def display(array: np.ndarray, info: ModalityInfo) -> np.ndarray:
    """Turn an array into something to look at.

    Args:
        array: `[C, H, W]` or `[T, C, H, W]` (the first time is shown), as stored.
        info: its bands, scaling and statistics.

    Returns:
        `[H, W, 3]` or `[H, W]` float in 0 to 1: true colour where the bands allow it, three bands
        spread over the spectrum where there are many, else the first band in grey.
    """
    image = array[0] if array.ndim == 4 else array
    chosen = shown(info)
    physical = image[chosen].astype(np.float64)
    if image.dtype.kind in "iu":
        physical = physical * info.scale + info.offset  # floats are stored in physical units
    low = np.array([info.statistics["p2"][k] for k in chosen])[:, None, None]
    high = np.array([info.statistics["p98"][k] for k in chosen])[:, None, None]
    stretched = np.clip((physical - low) / np.maximum(high - low, 1e-12), 0, 1)
    stretched = np.nan_to_num(stretched)
    return np.moveaxis(stretched, 0, -1) if len(chosen) == 3 else stretched[0]


def shown(info: ModalityInfo) -> list[int]:
    """Choose the channels to look at: three for red, green, blue, or one for grey."""
    if all(band in info.bands for band in TRUE_COLOUR):
        return [info.bands.index(band) for band in TRUE_COLOUR]
    last = len(info.bands) - 1
    if len(info.bands) >= CURVES:  # the short-wave end is dark: stay left of the middle
        return [round(last * share) for share in (0.45, 0.2, 0.05)]
    return [last, last // 2, 0] if last >= 2 else [0]


def _caption(info: ModalityInfo) -> str:
    names = " ".join(info.bands[k] for k in shown(info))
    return names if len(shown(info)) == 3 else f"{names}, {_unit(info)}"


def _unit(info: ModalityInfo) -> str:
    from fm.sensors import sensor

    return sensor(info.sensor).band(info.bands[0]).unit


def _curve(axis: Any, array: np.ndarray, info: ModalityInfo) -> None:
    """Draw the mean spectrum of a sample over its wavelengths."""
    from fm.sensors import sensor, wavelengths

    bands = sensor(info.sensor).select(info.bands)
    scale, offset = info.scaling
    first = array[0] if array.ndim == 4 else array
    mean = first.reshape(len(bands), -1).mean(axis=1) * scale + offset
    axis.plot(wavelengths(bands), mean, linewidth=0.6)
    axis.tick_params(labelsize=4)
    axis.set_xlabel("nm", fontsize=5)


def _title(ds: Dataset, i: int) -> str:
    key = ds.keys[i]
    split = ds.index.column("split")[i].as_py()
    short = key if len(key) <= 24 else f"...{key[-20:]}"
    return f"{short}\n{split}" if split else short
