"""UC Merced and RESISC45 in miniature: every class in every list."""

from pathlib import Path

from probes.benchmarks.scenes import RESISC_CLASSES, UCM_CLASSES
from tests.probes.layouts.scene import colour, write_lines, write_picture, write_tif

UCM_COUNTS = {"train": 21, "val": 21, "test": 21}
RESISC_COUNTS = {"train": 45, "val": 45, "test": 45}
ODD = {("beach", 1): (247, 256), ("river", 2): (256, 255)}
"""Pictures of the fixture that are not of 256 pixels, as some of UC Merced are not."""


def write_ucmerced(root: Path) -> Path:
    """Uncompressed TIFFs, names with two digits."""
    lists: dict[str, list[str]] = {part: [] for part in UCM_COUNTS}
    for k, label in enumerate(UCM_CLASSES):
        for n, part in enumerate(UCM_COUNTS):
            name = f"{label}{n:02d}.tif"
            height, width = ODD.get((label, n), (256, 256))
            data = colour(3, height, width, 10 * k + n)
            write_tif(root / "UCMerced_LandUse/Images" / label / name, data, crs=None)
            lists[part].append(name)
    for part, lines in lists.items():
        write_lines(root / f"uc_merced-{part}.txt", lines[::-1])
    return root


def write_resisc45(root: Path) -> Path:
    """JPEGs, names with three digits."""
    lists: dict[str, list[str]] = {part: [] for part in RESISC_COUNTS}
    for k, label in enumerate(RESISC_CLASSES):
        flat = colour(3, 8, 8, 1000 + k).repeat(32, 1).repeat(32, 2)
        for n, part in enumerate(RESISC_COUNTS, start=1):
            name = f"{label}_{n:03d}.jpg"
            write_picture(root / "NWPU-RESISC45" / label / name, flat // n)
            lists[part].append(name)
    for part, lines in lists.items():
        write_lines(root / f"resisc45-{part}.txt", lines[::-1])
    return root
