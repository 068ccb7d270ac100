import numpy as np
import pytest

import shards
from fm.errors import FMError
from probes.benchmarks import get_benchmark, indian_pines
from probes.benchmarks.windows import NOWHERE, Scene, cut
from tests.probes import standin


def _scene(seed=0, side=20):
    rng = np.random.default_rng(seed)
    split = np.zeros((side, side), np.int8)
    split[:, 8:14], split[:, 14:] = 1, 2
    split[:3] = NOWHERE
    return Scene(
        rng.integers(1, 5000, (4, side, side)).astype(np.uint16),
        rng.integers(1, 5, (side, side)),
        split,
        np.arange(side * side, dtype=np.int32).reshape(side, side),
    )


def test_windows_hold_the_pixels_around_their_centre():
    scene = _scene()
    rows, cols = np.array([10, 3, 19]), np.array([4, 0, 19])
    pixels, valid = cut(scene, rows, cols, 5)
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels[0], scene.pixels[:, 8:13, 2:7])
    assert valid[0].all()
    np.testing.assert_array_equal(pixels[:, :, 2, 2], scene.pixels[:, rows, cols].T)
    # the corner: two rows above are nowhere, two columns to the left are outside
    np.testing.assert_array_equal(valid[1], [[False] * 5] * 2 + [[False] * 2 + [True] * 3] * 3)
    assert (pixels[1][:, ~valid[1]] == 0).all()


def test_pixels_of_another_split_are_invalid_and_zero():
    scene = _scene()
    rows, cols = np.nonzero(scene.split == 0)
    pixels, valid = cut(scene, rows, cols, 9)
    assert (pixels.transpose(0, 2, 3, 1)[~valid] == 0).all()
    crossing = cols >= 4
    assert not valid[crossing].all((1, 2)).any()


def test_even_windows_are_refused():
    with pytest.raises(FMError, match="even"):
        cut(_scene(), np.array([5]), np.array([5]), 8)


@pytest.mark.parametrize("split", indian_pines.SPLITS)
def test_no_foreign_pixel_enters_a_window(tmp_path, split):
    """Change every pixel of the other splits: not one byte of this split's windows may change."""
    pixels, label = standin.scene()
    first = get_benchmark("indian-pines").load(standin.write_scene(tmp_path / "a", pixels, label))
    other = pixels.copy()
    for sample in shards.open(tmp_path / "a"):
        if sample.split != split:
            row, col, h, w = sample.window
            other[:, row : row + h, col : col + w] += 7
    second = get_benchmark("indian-pines").load(standin.write_scene(tmp_path / "b", other, label))
    own = first.of(split)
    before, after = first.read(own), second.read(own)
    np.testing.assert_array_equal(before.pixels["aviris_20"], after.pixels["aviris_20"])
    np.testing.assert_array_equal(before.valid["aviris_20"], after.valid["aviris_20"])
    foreign = first.of(next(s for s in indian_pines.SPLITS if s != split))
    changed = first.read(foreign).pixels["aviris_20"] != second.read(foreign).pixels["aviris_20"]
    assert changed.any((1, 2, 3)).all()


def test_pixels_without_data_are_invalid_and_zero():
    scene = _scene()
    known = np.ones(scene.label.shape, bool)
    known[10, 4] = False
    holed = Scene(scene.pixels, scene.label, scene.split, scene.block, known)
    rows, cols = np.array([10]), np.array([5])
    pixels, valid = cut(holed, rows, cols, 3)
    want = cut(scene, rows, cols, 3)[1]
    want[0, 1, 0] = False
    np.testing.assert_array_equal(valid, want)
    assert (pixels[0, :, 1, 0] == 0).all()
