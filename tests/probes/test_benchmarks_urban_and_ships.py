"""FUSU and CloudTracks by their folders; no other reader is at hand, so the truth is computed."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fm.errors import FMError
from probes.benchmarks import cloudtracks, fusu
from tests.probes.layouts import urban_and_ships as made
from tests.probes.layouts.scene import write_picture
from tests.probes.layouts.witness import declared

PAIRS = sum(made.FUSU_PAIRS.values())


def picture(path):
    with Image.open(path) as file:
        return np.array(file)


@pytest.mark.parametrize("labels", fusu.LABELS)
def test_fusu_has_both_dates(tmp_path, labels):
    root = made.write_fusu(tmp_path, labels)
    data = declared(fusu.DECLARATIONS, "fusu", all=2 * PAIRS).load(root)
    assert len(data.shards) == 2 * PAIRS
    for n, key in enumerate(data.shards.tolist()):
        place, date = key.rsplit("@", 1)
        part, name = place.split("/")
        assert data.split[n] == part
        stored = picture(root / part / f"im{date}" / name)
        np.testing.assert_array_equal(
            data.read(np.array([n])).pixels["rgb_0"][0], np.moveaxis(stored, -1, 0)
        )
        truth = picture(root / part / labels[int(date) - 1] / name).astype(int)
        np.testing.assert_array_equal(data.maps(np.array([n]))[0], truth - 1)
    assert (data.unit[::2] == data.unit[1::2]).all()
    assert data.classes[3] == "cropland"  # stored as 4


def test_fusu_change_is_where_two_classes_differ(tmp_path):
    root = made.write_fusu(tmp_path)
    data = declared(fusu.DECLARATIONS, "fusu-change", all=PAIRS).load(root)
    inputs = data.read(np.arange(PAIRS))
    for n, key in enumerate(data.shards.tolist()):
        part, name = key.split("/")
        before, after = (picture(root / part / f"label{d}" / name) for d in (1, 2))
        truth = data.maps(np.array([n]))[0]
        assert (truth[(before == 0) | (after == 0)] == -1).all()
        both = (before > 0) & (after > 0)
        np.testing.assert_array_equal(truth[both], before[both] != after[both])
        assert 0 < truth[both].mean() < 1
        second = np.moveaxis(picture(root / part / "im2" / name), -1, 0)
        np.testing.assert_array_equal(inputs.after.pixels["rgb_0"][n], second)


def test_fusu_names_what_is_wrong(tmp_path):
    first = declared(fusu.DECLARATIONS, "fusu", all=2 * PAIRS)
    root = made.write_fusu(tmp_path)
    with pytest.raises(FMError, match=r"12 samples in all, the published list .* has 125504"):
        declared(fusu.DECLARATIONS, "fusu").load(root)
    path = root / "train/label1/1_251.png"
    write_picture(path, np.full((512, 512), 18, np.uint8))
    with pytest.raises(FMError, match=r"1_251\.png: its map holds 18, there are 17 classes"):
        first.load(root)
    write_picture(path, np.zeros((3, 512, 512), np.uint8))
    with pytest.raises(FMError, match=r"1_251\.png: 3 bands, .* labels that are not coloured"):
        first.load(root)
    path.unlink()
    with pytest.raises(FMError, match=r"train/label1: no 1_251\.png; the download"):
        first.load(root)


def near(lines, height: int, width: int) -> np.ndarray:
    """Pixels [H, W] within 5 of a polyline: discs of radius 5 at 2,000 points of each piece."""
    rows, columns = np.mgrid[:height, :width].astype(float)
    found = np.zeros((height, width), bool)
    for line in lines:
        for first, last in itertools.pairwise(np.array(line)):
            for share in np.linspace(0, 1, 2000):
                x, y = first + share * (last - first)
                found |= (columns - x) ** 2 + (rows - y) ** 2 <= 25.01
    return found


def test_cloudtracks_draws_what_is_near_a_line(tmp_path):
    root = made.write_cloudtracks(tmp_path)
    data = replace(cloudtracks.DECLARATIONS[0], crop=40).load(root)
    assert set(data.shards.tolist()) == set(made.LINES)
    for name, lines in made.LINES.items():
        rows = np.flatnonzero(data.shards == name)
        assert len(rows) == 6
        maps = data.maps(rows).reshape(2, 3, 40, 40).transpose(0, 2, 1, 3).reshape(80, 120)
        assert np.abs(maps - near(lines, 80, 120)).sum() <= 2
        pixels = data.read(rows).pixels["modisbyte_1000"]
        stored = np.moveaxis(picture(root / f"images/{name}.png"), -1, 0)
        np.testing.assert_array_equal(pixels[1], stored[:, :40, 40:80])
    day = [n for n, key in enumerate(data.shards.tolist()) if "2002121" in key]
    assert len(day) == 12
    assert len(set(data.split[day])) == len(set(data.unit[day])) == 1
    assert "1 images without a JSON are left out" in data.notes
    assert any("1 names hold no date, such as undated" in note for note in data.notes)


def test_cloudtracks_names_what_is_wrong(tmp_path):
    (declaration,) = cloudtracks.DECLARATIONS
    with pytest.raises(FMError, match="jsons: no such folder"):
        declaration.load(tmp_path)
    root = made.write_cloudtracks(tmp_path)
    path = root / "jsons/undated.json"
    path.write_text('{"shapes": [{"label": "shiptrack", "points": [1, 2]}]}')
    with pytest.raises(FMError, match=r"undated\.json: no LabelMe file"):
        cloudtracks.lines_of(path)
    (root / "images/undated.png").unlink()
    with pytest.raises(FMError, match=r"images: no undated\.png; the download is incomplete"):
        declaration.load(root)
