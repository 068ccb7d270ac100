"""Colour pictures named in a table with their places."""

from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import shards
from fm.errors import FMError, UsageError
from shards.sources import get_source, pictures
from tests.shards.makers import written


def parsed(*words: object):
    parser = ArgumentParser()
    pictures.configure(parser)
    return parser.parse_args([str(word) for word in words])


def folder_of(folder: Path, text: str) -> Path:
    """Three pictures: a wide one whose middle is red, a tall grey one, one turned by EXIF."""
    (folder / "a").mkdir(parents=True)
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40, 0] = 200
    Image.fromarray(wide).save(folder / "a" / "wide.png")
    Image.fromarray(np.full((50, 30), 90, np.uint8)).save(folder / "tall.1.jpg", quality=95)
    turned = np.zeros((16, 16, 3), np.uint8)
    turned[:8] = 255  # white above; shown after a quarter turn to the right, white is on the right
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(turned).save(folder / "turned.png", exif=exif)
    table = folder / "places.csv"
    table.write_text(text)
    return table


PLACES = """IMG,LAT,LON,split
a/wide.png,48.5,2.25,train
tall.1.jpg,-33.0,151.0,test
turned.png,,,
"""
NAMED = ("--column", "path=IMG", "--column", "lat=LAT", "--column", "lon=LON")


def test_pictures_become_squares_with_places(tmp_path: Path) -> None:
    table = folder_of(tmp_path / "in", PLACES)
    content = get_source("pictures").read(parsed("--table", table, *NAMED, "--size", 16))
    ds = written(content, tmp_path / "out")
    assert ds.keys == ["a_wide", "tall_1", "turned"]
    assert ds.lonlat[:2].tolist() == [[2.25, 48.5], [151.0, -33.0]]
    assert np.isnan(ds.lonlat[2]).all()
    assert ds.index.column("split").to_pylist() == ["train", "test", None]
    wide, tall, turned = (ds.read(i, ["rgb_0"])["rgb_0"] for i in range(3))
    assert wide.shape == (3, 16, 16)
    assert wide.dtype == np.uint8
    assert (wide[0] == 200).all()  # the middle square, nothing of the black sides
    assert (wide[1:] == 0).all()
    assert np.abs(tall.astype(int) - 90).max() <= 2
    assert (turned[:, :, 8:] == 255).all()  # as large as it was stored: not resized
    assert (turned[:, :, :8] == 0).all()


def test_what_is_wrong_is_told_before_anything_is_read(tmp_path: Path) -> None:
    table = folder_of(tmp_path / "in", PLACES.replace("48.5", "148.5").replace("tall.1", "none"))
    with pytest.raises(FMError, match=r"row 1: \(2.25, 148.5\) is not \(lon, lat\)"):
        pictures.read(parsed("--table", table, *NAMED))
    table.write_text(PLACES.replace("tall.1", "none"))
    with pytest.raises(FMError, match=r"none.jpg is missing.*--skip-missing"):
        pictures.read(parsed("--table", table, *NAMED))
    found = pictures.read(parsed("--table", table, *NAMED, "--skip-missing"))
    assert (len(found.tasks), found.provenance["left_out"]) == (2, 1)
    with pytest.raises(FMError, match="no column 'path'"):
        pictures.read(parsed("--table", table))
    with pytest.raises(FMError, match=r"no column 'lon'.*LON.*--column lon=COLUMN"):
        pictures.read(parsed("--table", table, *NAMED[:2]))  # all pictures without a place
    with pytest.raises(UsageError, match="--column place="):
        pictures.read(parsed("--table", table, "--column", "place=IMG"))
    with pytest.raises(UsageError, match="8 to 4096"):
        pictures.read(parsed("--table", table, *NAMED, "--size", 4))
    table.write_text("path,lon,lat\nturned.png,1,2\nturned.jpg,1,2\n")
    with pytest.raises(FMError, match=r"row 2: turned\.jpg comes twice"):
        pictures.read(parsed("--table", table))


def test_a_damaged_picture_is_left_out_and_counted(tmp_path: Path) -> None:
    table = folder_of(tmp_path / "in", PLACES)
    (tmp_path / "in" / "turned.png").write_bytes(b"no picture")
    from shards.building.build import build

    content = pictures.read(parsed("--table", table, *NAMED, "--size", 16))
    info = build(tmp_path / "out", content, workers=0)
    assert len(shards.open(tmp_path / "out")) == 2
    assert info.provenance["quality"]["skipped"]["unreadable picture"]["count"] == 1
