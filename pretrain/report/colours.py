"""Pixels as small pictures inside a page: composites by wavelength, radar, errors, features.

Which bands make which colours, and how they are stretched, is what `fm shards show` does
(`shards.seeing.panels`).
"""

import base64
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fm.page.html import Markup, el
from fm.sensors import Band
from shards.format import ModalityInfo
from shards.seeing import panels as seeing

SIDE = 256
"""Longest side of a picture in its own pixels; larger arrays are thinned out."""


@dataclass(frozen=True)
class Look:
    """How the arrays of one modality become colours.

    Attributes:
        info: its bands and the stretch of each, between the 2nd and 98th percentile.
        panels: the composites its bands allow.
    """

    info: ModalityInfo
    panels: tuple[seeing.Panel, ...]

    @property
    def telling(self) -> bool:
        """It has a composite that a person can read: true colour, short-wave infrared, radar."""
        return any(not p.title.startswith(("three bands", "mean")) for p in self.panels) or (
            len(self.info.bands) == 1
        )


def look(modality: str, bands: Sequence[Band], images: Sequence[np.ndarray]) -> Look:
    """Fit a stretch to images of a modality.

    Args:
        modality: its name.
        bands: of the channels.
        images: `[C, H, W]` physical values, NaN where there is no data.
    """
    pixels = np.concatenate([image.reshape(len(bands), -1) for image in images], axis=1)
    stretch = []
    for row in pixels.astype(np.float64):
        known = row[np.isfinite(row)]
        ends = np.percentile(known, (2, 50, 98)) if len(known) else np.array([0.0, 0.5, 1.0])
        stretch.append(ends)
    columns = np.array(stretch).T
    info = ModalityInfo(
        name=modality,
        sensor="",
        bands=tuple(band.name for band in bands),
        dtype="float32",
        codec="npy",
        scale=1.0,
        offset=0.0,
        gsd_m=bands[0].gsd_m,
        statistics={
            name: column.tolist()
            for name, column in zip(("p2", "p50", "p98"), columns, strict=True)
        },
        table=tuple(bands),
    )
    return Look(info, tuple(p for p in seeing.panels(info) if p.kind != "curve"))


def colours(image: np.ndarray, how: Look, panel: seeing.Panel) -> np.ndarray:
    """Turn `[C, H, W]` physical values into `[H, W, 4]`; NaN becomes transparent."""
    step = -(-max(image.shape[-2:]) // SIDE)
    info = _alike(how.info, panel) if panel.title.startswith("true colour") else how.info
    return seeing.picture(image[:, ::step, ::step], info, panel)


def _alike(info: ModalityInfo, panel: seeing.Panel) -> ModalityInfo:
    """Give the bands of a true colour one contrast, above the haze of each: hues as eyes see them.

    A few samples of one kind of ground would have no colour left if each band filled its range.
    """
    low, high = (np.array(info.statistics[name]) for name in ("p2", "p98"))
    chosen = list(panel.channels)
    high[chosen] = low[chosen] + (high - low)[chosen].max()
    return dataclasses.replace(info, statistics={**info.statistics, "p98": high.tolist()})


def heat(values: np.ndarray, top: float) -> np.ndarray:
    """Turn `[H, W]` values from 0 to `top` into `[H, W, 4]`; NaN becomes transparent."""
    from matplotlib import colormaps

    step = -(-max(values.shape) // SIDE)
    thinned = values[::step, ::step]
    made = colormaps["inferno"](np.clip(np.nan_to_num(thinned) / max(top, 1e-12), 0, 1))
    made[..., 3] = np.isfinite(thinned)
    return made


def png(image: np.ndarray, words: str, *, class_: str = "") -> Markup:
    """Write `[H, W, 3 or 4]` colours in 0 to 1 as a picture in the page.

    Args:
        image: the colours.
        words: what it shows, for who cannot see it.
        class_: of the element.
    """
    from matplotlib.image import imsave

    stream = io.BytesIO()
    eight = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    # no version of a program in it: the same run gives the same bytes
    nameless: dict[str, Any] = {"Software": None}
    imsave(stream, np.ascontiguousarray(eight), format="png", metadata=nameless)
    uri = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    return el(
        "img", src=uri, alt=words, width=eight.shape[1], height=eight.shape[0],
        class_=class_ or None,
    )  # fmt: skip
