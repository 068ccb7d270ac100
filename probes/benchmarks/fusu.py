"""FUSU (Yuan et al., arXiv 2405.19055): land use of five Chinese cities at two dates.

62,752 pairs of Google Earth pictures of 512 px, 0.2 to 0.5 m, with 17 classes a pixel each. Folders
are those the authors' code reads (`yuanshuai0914/FUSU`): `{train,val,test}/{im1,im2}/NAME` beside
`label1` and `label2` (the release's page calls them `im1_label`, `im2_label`). 0 is background and
does not count, as in their metric. Classes 8 and 9 are orchard and park on the page and the other
way round in the code; the page's order is taken.

`fusu` asks for the classes of both dates; `fusu-change` for what differs between them, where both
have a class: the code's own `label_bin` is not used, as nothing says which of its values is change.

Two things of the release are not here: the monthly Sentinel series (14 bands in a PNG, of unstated
order and scale), and the authors' split in practice: their reader's test of its mode is always
true, so train, val and test all read `train` (seen in the code, not run).
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Listing, Window
from probes.benchmarks.files import Files, all_there, names_in, read_image

CLASSES = (
    *("traffic land", "inland water", "residential land", "cropland", "agriculture construction"),
    *("blank", "industrial land", "orchard", "park", "public management and service"),
    *("commercial land", "public construction", "special", "forest", "storage", "wetland"),
    "grass",
)
LABELS = (("label1", "label2"), ("im1_label", "im2_label"))
PAIRS = 62752
RGB = Array("rgb_0", "rgb", ("R", "G", "B"), "uint8", (512, 512), 0.5)


def read_labels(path: Path, window: Window | None) -> NDArray[np.int64]:
    """Class numbers of one date, -1 for background.

    Raises:
        FMError: not one band, or a number above 17.
    """
    stored = read_image(path, window)
    if len(stored) != 1:
        raise FMError(
            f"{path}: {len(stored)} bands, expected one of class numbers; take the labels that "
            f"are not coloured"
        )
    plane = stored[0].astype(np.int64)
    if plane.max(initial=0) > len(CLASSES):
        raise FMError(f"{path}: its map holds {int(plane.max())}, there are {len(CLASSES)} classes")
    return plane - 1


def _homes(root: Path) -> tuple[str, str]:
    found = [pair for pair in LABELS if all((root / name).is_dir() for name in pair)]
    if not found:
        raise FMError(f"{root}: neither label1 and label2 nor im1_label and im2_label")
    return found[0]


def scan(folder: Path, change: bool) -> Listing:
    """List the pairs, or each of their pictures."""
    pictures: list[tuple[Path, Path]] = []
    labels: list[tuple[Path, Path]] = []
    split: list[str] = []
    pairs: list[str] = []
    for part in ("train", "val", "test"):
        root = folder / part
        names = names_in(root / "im1", "")
        first, second = _homes(root)
        for other in ("im2", first, second):
            all_there(root / other, names, set(names_in(root / other, "")))
        pictures += [(root / "im1" / name, root / "im2" / name) for name in names]
        labels += [(root / first / name, root / second / name) for name in names]
        split += [part] * len(names)
        pairs += [f"{part}/{name}" for name in names]
    if change:

        def changed(i: int, window: Window | None) -> NDArray[np.int64]:
            before, after = (read_labels(path, window) for path in labels[i])
            known = (before >= 0) & (after >= 0)
            return np.where(known, (before != after).astype(np.int64), -1)

        return Listing(
            ids=pairs,
            split=split,
            source=Files(lambda i, array, date: pictures[i][date]),
            mask=changed,
        )
    return Listing(
        ids=[f"{pair}@{date}" for pair in pairs for date in (1, 2)],
        split=[part for part in split for _ in (1, 2)],
        source=Files(lambda i, array, date: pictures[i // 2][i % 2]),
        mask=lambda i, window: read_labels(labels[i // 2][i % 2], window),
        groups=[pair for pair in pairs for _ in (1, 2)],
    )


def _declare(change: bool) -> Declaration:
    return Declaration(
        name="fusu-change" if change else "fusu",
        version=1,
        help=(
            "changed land use in cities, colour pictures of 0.2 to 0.5 m"
            if change
            else "17 land uses in cities, colour pictures of 0.2 to 0.5 m"
        ),
        task="change" if change else "segmentation",
        primary="iou_positive" if change else "miou",
        classes=("no change", "change") if change else CLASSES,
        arrays=(RGB,),
        scan=partial(scan, change=change),
        published={"all": PAIRS if change else 2 * PAIRS},
        split="the folders train, val and test",
        layout="{train,val,test}/{im1,im2,label1,label2}/NAME",
        paper="Yuan et al., arXiv 2405.19055",
        witness="",
        leaks=(
            "sizes of the parts and their distance are not published; 0.5 m is given for pixels "
            "of 0.2 to 0.5 m"
        ),
        checks=(signatures.eight_bits,),
        verified="fixtures only (no reader but ours)",
    )


DECLARATIONS = (_declare(False), _declare(True))
