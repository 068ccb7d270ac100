"""Contact sheets."""

from pathlib import Path

import numpy as np
import pytest

import shards
from fm.errors import UsageError
from shards.format import ModalityInfo
from shards.show import contact_sheet, display


def test_a_sheet_is_a_png(tiny_dataset: Path, tmp_path: Path) -> None:
    contact_sheet(tiny_dataset, tmp_path / "sheet.png", count=3)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    for options, text in (({"count": 0}, "--count 0"), ({"out": tmp_path / "a.jpg"}, ".png")):
        with pytest.raises(UsageError, match=text):
            contact_sheet(tiny_dataset, **{"out": tmp_path / "b.png", **options})


def test_true_colour_is_red_green_blue_by_name(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    info: ModalityInfo = ds.modalities["s2l1c_10"]
    array = np.zeros((4, 2, 2), dtype=np.uint16)
    for channel, band in enumerate(("B04", "B03", "B02")):
        place = info.bands.index(band)
        low, high = (info.statistics[p][place] / info.scale for p in ("p2", "p98"))
        array[place] = round(low + (high - low) * (0.2 + 0.3 * channel))
    assert display(array, info)[0, 0] == pytest.approx([0.2, 0.5, 0.8], abs=0.01)
