"""SSL4EO-L's benchmark and the cloud masks: our readers against torchgeo's classes."""

from dataclasses import replace

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks import landsat_clouds, landsat_cover, legends
from tests.probes.layouts import landsat
from tests.probes.layouts.witness import declared, same_pixels, torchgeo_class

LEGEND = {"cdl": (0, 1, 5, 195, 204, 61), "nlcd": (0, 11, 95, 12, 82, 24)}
"""Codes in the maps: some count, some do not."""


@pytest.mark.parametrize("variant", list(landsat.LEVELS))
def test_ssl4eo_as_torchgeo_reads_it(tmp_path, variant):
    product = "cdl" if variant in ("tm_toa", "oli_sr", "etm_sr") else "nlcd"
    root = landsat.write_ssl4eo(tmp_path, variant, product, LEGEND[product])
    name = f"ssl4eo-l-{variant.replace('_', '-')}-{product}"
    data = declared(landsat_cover.DECLARATIONS, name, **landsat.SSL4EO_COUNTS).load(root)
    ((modality, bands),) = data.bands.items()
    place = {key: n for n, key in enumerate(data.shards.tolist())}
    kind = torchgeo_class("SSL4EOLBenchmark")
    asked = [0, *landsat_cover.CODES[product]]
    for part, count in landsat.SSL4EO_COUNTS.items():
        theirs = kind(str(root), sensor=variant, product=product, split=part, classes=list(asked))
        keys = ["/".join(image.split("/")[-3:-1]) for image, _ in theirs.sample_collection]
        rows = np.array([place[key] for key in keys])
        assert sorted(rows.tolist()) == data.of(part).tolist()
        assert len(rows) == count
        samples = [theirs[n] for n in range(count)]
        same_pixels(data, rows, [s["image"].numpy() for s in samples], bands, modality)
        maps = data.maps(rows)
        for ours, sample in zip(maps, samples, strict=True):
            np.testing.assert_array_equal(ours + 1, sample["mask"].numpy())
    assert data.scaling == {modality: (1.0, 0.0)}
    legend = getattr(legends, product.upper())
    assert data.classes == tuple(legend[code] for code in asked[1:])


def test_the_published_split_has_the_published_sizes():
    split = landsat_cover.draw(25_000)
    assert [split.count(part) for part in ("train", "val", "test")] == [17500, 3750, 3750]


@pytest.mark.parametrize(
    ("variant", "moved", "words"),
    [
        ("oli_tirs_toa", (-1,), r"mean\(B5\) is 0\.\d+ x mean\(B4\)"),
        ("tm_toa", (5, 6), r"mean\(B6\) is 0\.\d+ x mean\(B7\)"),
    ],
)
def test_ssl4eo_bands_of_another_order_are_refused(tmp_path, variant, moved, words):
    levels = list(landsat.LEVELS[variant][1])
    if len(moved) == 1:
        levels = levels[moved[0] :] + levels[: moved[0]]
    else:
        a, b = moved
        levels[a], levels[b] = levels[b], levels[a]
    landsat.write_ssl4eo(tmp_path, variant, "cdl", LEGEND["cdl"], tuple(levels))
    name = f"ssl4eo-l-{variant.replace('_', '-')}-cdl"
    with pytest.raises(FMError, match=words):
        declared(landsat_cover.DECLARATIONS, name, **landsat.SSL4EO_COUNTS).load(tmp_path)


def test_ssl4eo_names_what_is_missing(tmp_path):
    first = declared(landsat_cover.DECLARATIONS, "ssl4eo-l-oli-sr-nlcd", **landsat.SSL4EO_COUNTS)
    with pytest.raises(FMError, match="ssl4eo_l_oli_sr_benchmark: no such folder"):
        first.load(tmp_path)
    root = landsat.write_ssl4eo(tmp_path, "oli_sr", "nlcd", (0, 133, 134))
    with pytest.raises(FMError, match=r"66% of the pixels of 9 maps hold numbers .* as 13[34]"):
        first.load(root)
    next(root.glob("ssl4eo_l_oli_nlcd/*/*/nlcd_2019.tif")).unlink()
    with pytest.raises(FMError, match=r"ssl4eo_l_oli_nlcd: no \S+/nlcd_2019\.tif; the download"):
        first.load(root)
    landsat.write_ssl4eo(root, "oli_sr", "nlcd", LEGEND["nlcd"])
    with pytest.raises(FMError, match=r"6 samples in train, the published list .* has 17500"):
        declared(landsat_cover.DECLARATIONS, "ssl4eo-l-oli-sr-nlcd").load(root)


def joined(data, key: str, height: int, width: int, side: int):
    """Pixels, map and validity of a scene, put together from its windows."""
    rows = np.flatnonzero(data.shards == key)
    inputs, maps = data.read(rows), data.maps(rows)
    ((modality, pixels),) = inputs.pixels.items()
    across = -(-width // side)
    assert len(rows) == across * -(-height // side)

    def join(windows):
        lines = [np.concatenate(windows[n : n + across], -1) for n in range(0, len(rows), across)]
        return np.concatenate(lines, -2)[..., :height, :width]

    return join(list(pixels)), join(list(maps)), join(list(inputs.valid[modality]))


@pytest.mark.parametrize("name", ["l7irish", "l8biome"])
def test_clouds_as_torchgeo_reads_them(tmp_path, name):
    root = (landsat.write_irish if name == "l7irish" else landsat.write_biome)(tmp_path)
    declaration = declared(landsat_clouds.DECLARATIONS, name, all=5)
    data = replace(declaration, crop=16).load(root)
    pyproj = pytest.importorskip("pyproj")
    theirs = torchgeo_class(declaration.witness)(str(root), crs=pyproj.CRS.from_epsg(32619))
    bands = next(iter(data.bands.values()))
    spelt = [b.replace("B6_VCID_", "B6").ljust(3, "0") if name == "l7irish" else b for b in bands]
    assert tuple(spelt) == theirs.image.all_bands
    seen = set()
    for span, row in theirs.image.index.iterrows():
        key = row.filepath.removeprefix(f"{root}/")
        seen.add(key)
        left, bottom, right, top = row.geometry.bounds
        sample = theirs[left:right, bottom:top, span.left : span.right]
        stored = sample["image"].numpy()
        pixels, maps, valid = joined(data, key, *stored.shape[1:], 16)
        np.testing.assert_array_equal(pixels, stored)
        np.testing.assert_array_equal(maps, sample["mask"].numpy() - 1)
        np.testing.assert_array_equal(valid, (stored != 0).all(0))
        assert not valid[:, :5].any()
    assert seen == set(data.shards.tolist())


def test_paths_and_rows_are_dealt_whole_and_thin_cloud_has_two_numbers(tmp_path):
    root = landsat.write_biome(tmp_path / "biome")
    data = declared(landsat_clouds.DECLARATIONS, "l8biome", all=5).load(root)
    same = [n for n, key in enumerate(data.shards.tolist()) if "LC8007066" in key]
    assert len(same) == 2
    assert len(set(data.split[same])) == len(set(data.unit[same])) == 1
    old = landsat.write_irish(tmp_path / "irish", thin=191)
    data = declared(landsat_clouds.DECLARATIONS, "l7irish", all=5).load(old)
    assert set(np.unique(data.maps(np.arange(5))).tolist()) == {-1, 0, 1, 2, 3}


def test_clouds_name_what_is_wrong(tmp_path):
    first = declared(landsat_clouds.DECLARATIONS, "l8biome", all=5)
    with pytest.raises(FMError, match=r"no BIOME/SCENE/LC80420082013220LGN00\.TIF or the like"):
        first.load(tmp_path)
    root = landsat.write_biome(tmp_path, factor=1)
    with pytest.raises(FMError, match="no number is above 250; take the product's own numbers"):
        first.load(root)
    path = root / landsat.BIOME[0] / "LC80420082013220LGN00_fixedmask.TIF"
    path.unlink()
    with pytest.raises(FMError, match=r"LGN00_fixedmask\.TIF: no such file; the download"):
        first.load(root)
    with pytest.raises(FMError, match=r"samples in all, the published list .* has 206"):
        declared(landsat_clouds.DECLARATIONS, "l7irish").load(
            landsat.write_irish(tmp_path / "irish")
        )
