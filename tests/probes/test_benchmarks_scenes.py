"""UC Merced and RESISC45: our reader against torchgeo's classes on the same folder."""

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.scenes import DECLARATIONS
from tests.probes.layouts import scenes
from tests.probes.layouts.scene import colour, write_tif
from tests.probes.layouts.witness import declared, same_pixels, torchgeo_class

COUNTS = {"ucmerced": scenes.UCM_COUNTS, "resisc45": scenes.RESISC_COUNTS}


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    return {
        "ucmerced": scenes.write_ucmerced(tmp_path_factory.mktemp("ucm")),
        "resisc45": scenes.write_resisc45(tmp_path_factory.mktemp("resisc")),
    }


@pytest.mark.parametrize("name", list(COUNTS))
def test_the_same_samples_as_torchgeo(releases, name):
    declaration = declared(DECLARATIONS, name, **COUNTS[name])
    data = declaration.load(releases[name])
    kind = torchgeo_class(declaration.witness)
    place = {key: i for i, key in enumerate(data.shards.tolist())}
    for part in ("train", "val", "test"):
        theirs = kind(root=str(releases[name]), split=part)
        rows = np.array([place[path.rsplit("/", 1)[1]] for path, _ in theirs.imgs])
        assert sorted(rows) == data.of(part).tolist()
        assert [theirs.classes[label] for _, label in theirs.imgs] == [
            data.classes[t] for t in data.targets[rows]
        ]
        some = [0, 3, 16, len(theirs) - 1]  # 3 and 16: beach and river, of odd sizes
        images = [theirs[i]["image"].numpy() for i in some]
        # a resized picture is rounded here, where torchvision keeps fractions
        same_pixels(data, rows[some], images, ("R", "G", "B"), "rgb_0", tolerance=0.51)
    assert data.bands == {"rgb_0": ("R", "G", "B")}
    assert data.scaling == {"rgb_0": (1.0, 0.0)}
    assert data.gsd_m["rgb_0"] == {"ucmerced": 0.3, "resisc45": 0.5}[name]


def test_a_picture_of_another_set_and_a_missing_one_are_refused(tmp_path):
    root = scenes.write_ucmerced(tmp_path)
    declaration = declared(DECLARATIONS, "ucmerced", **scenes.UCM_COUNTS)
    path = root / "UCMerced_LandUse/Images/agricultural/agricultural00.tif"
    write_tif(path, colour(3, 128, 256, 0), crs=None)
    data = declaration.load(root)
    row = np.flatnonzero(data.shards == path.name)
    with pytest.raises(FMError, match="uint8 3 x 128 x 256 for rgb_0, expected uint8 3 x 256 x 25"):
        data.read(row)
    path.unlink()
    with pytest.raises(FMError, match=r"no agricultural00\.tif; the download is incomplete"):
        declaration.load(root)


def test_pictures_scaled_to_one_are_refused(tmp_path):
    root = scenes.write_ucmerced(tmp_path)
    for path in root.rglob("*.tif"):
        write_tif(path, colour(3, 256, 256, 0) // 200, crs=None)
    with pytest.raises(FMError, match="no number is above 1"):
        declared(DECLARATIONS, "ucmerced", **scenes.UCM_COUNTS).load(root)
