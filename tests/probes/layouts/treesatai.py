"""TreeSatAI in miniature: three sensors under one name, a JSON of shares a genus."""

import json
from pathlib import Path

from tests.probes.layouts.scene import colour, optical, radar, write_lines, write_tif

OPTICAL = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09")
PLOTS = (
    ("Acer_pseudoplatanus_3_5758_WEFL_NLF", [("Acer", 0.61), ("Fagus", 0.39)]),
    ("Alnus_spec._5_13114_WEFL_NLF", [("Alnus", 1.0)]),
    ("Fagus_sylvatica_9_29995_WEFL_NLF", [("Fagus", 0.93), ("Quercus", 0.07)]),
    ("Picea_abies_2_46896_WEFL_NLF", [("Picea", 1.0)]),
    ("Picea_abies_3_46636_WEFL_NLF", [("Picea", 0.5), ("Cleared", 0.5)]),
    ("Quercus_rubra_1_92184_WEFL_NLF", [("Quercus", 0.8), ("Tilia", 0.2)]),
)
TESTS = 2


def write(root: Path) -> Path:
    """The last two plots are the test list; one pixel of Sentinel-1 has no data."""
    for n, (name, _) in enumerate(PLOTS):
        file = f"{name}.tif"
        write_tif(root / "aerial/60m" / file, colour(4, 304, 304, n), pixel=0.2)
        s1 = radar(3, 6, 6, n)
        if n == 1:
            s1[:, 2, 3] = -9999
        write_tif(root / "s1/60m" / file, s1, nodata=-9999.0)
        write_tif(root / "s2/60m" / file, optical(OPTICAL, 6, 6, n))
    names = [f"{name}.tif" for name, _ in PLOTS]
    write_lines(root / "train_filenames.lst", names[:-TESTS])
    write_lines(root / "test_filenames.lst", names[-TESTS:])
    labels = {f"{name}.tif": shares for name, shares in PLOTS}
    home = root / "labels"
    home.mkdir()
    (home / "TreeSatBA_v9_60m_multi_labels.json").write_text(json.dumps(labels))
    return root
