"""FUSU and CloudTracks in miniature."""

import json
from pathlib import Path

import numpy as np

from tests.probes.layouts.scene import codes, colour, write_picture

FUSU_PAIRS = {"train": 3, "val": 1, "test": 2}


def write_fusu(root: Path, labels: tuple[str, str] = ("label1", "label2")) -> Path:
    """Pairs of 512 px; blocks of 32 have a class, some none, some change."""
    n = 0
    for part, count in FUSU_PAIRS.items():
        for _ in range(count):
            n += 1
            name = f"{n}_25{n}.png"
            for date in (1, 2):
                small = colour(3, 64, 64, 2 * n + date).repeat(8, 1).repeat(8, 2)
                write_picture(root / part / f"im{date}" / name, small)
            before = codes(17, 16, 16, n).repeat(32, 0).repeat(32, 1).astype(np.uint8)
            after = before.copy()
            after[:64, :96] = n
            write_picture(root / part / labels[0] / name, before)
            write_picture(root / part / labels[1] / name, after)
    return root


LINES = {
    "MOD2002121_1920": [[(10.0, 12.0), (60.0, 40.0), (90.0, 41.0)]],
    "MOD2002121_1925": [[(5.0, 70.0), (95.0, 5.0)], [(20.0, 20.0), (20.0, 75.0)]],
    "MYD2005044_0110": [],
    "MYD2005046_0115": [[(100.0, 79.0), (119.0, 60.0)]],
    "MYD2006001_2210": [[(0.0, 0.0), (119.0, 79.0)]],
    "undated": [[(30.0, 30.0), (31.0, 30.0)]],
}
"""Polylines of each image; two are of one day, one name holds none."""


def write_cloudtracks(root: Path) -> Path:
    """Pictures of 80 by 120 pixels, and one without a JSON."""
    for n, (name, lines) in enumerate({**LINES, "MYD2007001_0000": []}.items()):
        write_picture(root / "images" / f"{name}.png", colour(3, 80, 120, n))
        if name not in LINES:
            continue
        shapes = [
            {"label": "shiptrack", "points": [list(p) for p in line], "shape_type": "linestrip"}
            for line in lines
        ]
        shapes.append({"label": "other", "points": [[3.0, 3.0], [60.0, 3.0]]})
        shapes.append({"label": "shiptrack", "points": [[50.0, 50.0]], "shape_type": "point"})
        path = root / "jsons" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"version": "5.0", "shapes": shapes, "imageHeight": 80}))
    return root
