"""CloudTracks (Chaudhry et al., arXiv 2401.14486; Zenodo 10042922): tracks of ships in clouds.

MODIS pictures of 1354 by 2030 pixels whose tracks are drawn as polylines: `images/NAME.png` beside
`jsons/NAME.json` of LabelMe, whose shapes called `shiptrack` hold `points` (column, row). A pixel
is track within 5 of a line, the width of 10 that the paper's masks have.

What is known of the files comes from the paper's abstract and from code that reads them, so little
is asserted: the number of images is told as 3,560 and as 1,780, and no split is published. Images
whose names hold one date (YYYYDDD or YYYYMMDD) stay together. An image without a JSON is left out:
no file says that it is clear of tracks.
"""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Holdout, Listing, Window
from probes.benchmarks.files import Files, all_there, names_in, picture_size

WIDTH = 10
LABEL = "shiptrack"
DATE = re.compile(r"(?<!\d)\d{7,8}(?!\d)")


def lines_of(path: Path) -> list[list[tuple[float, float]]]:
    """Polylines of a LabelMe file, each as (column, row).

    Raises:
        FMError: not JSON, no `shapes`, or a track whose points are no pairs of numbers.
    """
    try:
        shapes: Any = json.loads(path.read_text(encoding="utf-8"))["shapes"]
        tracks = [shape["points"] for shape in shapes if shape["label"] == LABEL]
        found = [[(float(x), float(y)) for x, y in points] for points in tracks]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__} {error}".split())[:120]
        raise FMError(
            f"{path}: no LabelMe file whose `shapes` have a `label` and `points` ({reason})"
        ) from None
    return [line for line in found if len(line) > 1]


class Tracks:
    """Maps drawn from polylines: 1 within half of `WIDTH` of a line, else 0."""

    def __init__(self, paths: list[Path], sizes: list[tuple[int, int]]) -> None:
        self.paths, self.sizes = paths, sizes

    def __call__(self, place: int, window: Window | None) -> NDArray[np.int64]:
        """Draw the map of an image, or a window of it; windows fit together."""
        row, column, height, width = window or (0, 0, *self.sizes[place])
        drawn = np.zeros((height, width), np.int64)
        for line in lines_of(self.paths[place]):
            for (x0, y0), (x1, y1) in pairwise((x - column, y - row) for x, y in line):
                near = _box((x0, x1), width), _box((y0, y1), height)
                at_x, at_y = (np.arange(part.start, part.stop, dtype=float) for part in near)
                part = drawn[near[1], near[0]]
                part[_away(at_x[None], at_y[:, None], (x0, y0), (x1, y1)) <= WIDTH / 2] = 1
        return drawn


def _box(ends: tuple[float, float], size: int) -> slice:
    """Pixels along one axis that may be near a piece of a line."""
    low, high = int(np.floor(min(ends) - WIDTH)), int(np.ceil(max(ends) + WIDTH)) + 1
    return slice(min(max(low, 0), size), min(max(high, 0), size))


def _away(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    first: tuple[float, float],
    last: tuple[float, float],
) -> NDArray[np.float64]:
    """Distance of points to a piece of a line."""
    dx, dy = last[0] - first[0], last[1] - first[1]
    along = ((x - first[0]) * dx + (y - first[1]) * dy) / max(dx * dx + dy * dy, 1e-12)
    along = np.clip(along, 0.0, 1.0)
    found: NDArray[np.float64] = np.hypot(x - first[0] - along * dx, y - first[1] - along * dy)
    return found


def scan(folder: Path) -> Listing:
    """List the images that have a JSON."""
    images, jsons = folder / "images", folder / "jsons"
    stems = [name[: -len(".json")] for name in names_in(jsons, ".json")]
    if not stems:
        raise FMError(f"{jsons}: no NAME.json; take the published layout")
    pictures = set(names_in(images, ".png"))
    all_there(images, [f"{stem}.png" for stem in stems], pictures)
    alone = len(pictures) - len(stems)
    undated = [stem for stem in stems if DATE.search(stem) is None]
    notes = []
    if alone:
        notes.append(f"{alone} images without a JSON are left out")
    if undated:
        notes.append(f"{len(undated)} names hold no date, such as {undated[0]}: each is by itself")
    sizes = [picture_size(images / f"{stem}.png") for stem in stems]
    groups = [found[0] if (found := DATE.search(stem)) else stem for stem in stems]
    return Listing(
        ids=stems,
        split=["all"] * len(stems),
        source=Files(lambda i, array, date: images / f"{stems[i]}.png"),
        mask=Tracks([jsons / f"{stem}.json" for stem in stems], sizes),
        groups=groups,
        sizes=sizes,
        notes=tuple(notes),
    )


DECLARATIONS = (
    Declaration(
        name="cloudtracks",
        version=1,
        help="tracks of ships in clouds, 3 bands of MODIS",
        task="segmentation",
        primary="iou_positive",
        classes=("no track", "ship track"),
        arrays=(
            Array(
                *("modisbyte_1000", "modis-shiptracks", ("B01", "B20", "B32"), "uint8"), None, 1e3
            ),
        ),
        scan=scan,
        published={},
        split="whole dates in train, val and test",
        layout="images/NAME.png and jsons/NAME.json",
        paper="Chaudhry et al., arXiv 2401.14486",
        witness="",
        leaks="the authors' lists and the order of the picture's channels are not published",
        holdout=Holdout("all", {"test": 0.2, "val": 0.1, "train": 0.7}),
        crop=256,
        unit="scene",
        checks=(signatures.eight_bits,),
        verified="fixtures only (no reader but ours)",
    ),
)
