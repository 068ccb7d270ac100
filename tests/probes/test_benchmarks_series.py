"""PASTIS and BioMassters: our readers against torchgeo's classes on the same folders."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks import biomassters, pastis
from probes.benchmarks.biomassters import MIDDLES
from tests.probes.layouts import series
from tests.probes.layouts.witness import torchgeo_class

(PASTIS,), (BIOMASS,) = pastis.DECLARATIONS, biomassters.DECLARATIONS
FEW_PATCHES = replace(PASTIS, published=series.PASTIS_COUNTS)
FEW_CHIPS = replace(BIOMASS, published={"all": series.CHIPS})


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return series.write_pastis(tmp_path_factory.mktemp("pastis"))


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return series.write_biomassters(tmp_path_factory.mktemp("biomassters"))


def images(data, sample: int):
    """The images of a sample in the order of time, and where they hold data."""
    numbers = np.arange(*data.dates.starts[sample : sample + 2])
    inputs = data.dates.images(numbers)
    pixels = inputs.pixels["s2l2a_10"]
    valid = inputs.valid["s2l2a_10"] if inputs.valid else np.ones_like(pixels[:, 0], bool)
    return pixels, valid, inputs.times


def test_pastis_as_torchgeo_reads_it(crops):
    data = FEW_PATCHES.load(crops / "PASTIS-R")
    kind = torchgeo_class("PASTIS")
    assert data.bands == {"s2l2a_10": series.PASTIS_BANDS}
    for part, folds in (("train", (1, 2, 3)), ("val", (4,)), ("test", (5,))):
        theirs = kind(root=str(crops), folds=folds)
        rows = data.of(part)
        assert data.shards[rows].tolist() == [str(name) for name in theirs.idxs]
        for row, place in zip(rows.tolist(), range(len(theirs)), strict=True):
            sample = theirs[place]
            pixels, valid, times = images(data, row)
            whole = sample["image"].numpy()
            if data.shards[row] == "10002":  # its dates are listed backwards
                whole = whole[::-1]
            assert pixels.dtype == np.int16
            np.testing.assert_array_equal(pixels, np.where(whole == -10_000, 0, whole))
            np.testing.assert_array_equal(valid, (whole != -10_000).all(1))
            days = [f"{datetime.fromtimestamp(t, UTC):%Y%m%d}" for t in times]
            assert days == list(series.DAYS[: len(days)])
            truth = sample["mask"].numpy()
            void = len(kind.classes) - 1
            np.testing.assert_array_equal(
                data.maps(np.array([row]))[0], np.where(truth == void, -1, truth)
            )
    words = [name.replace(",", "").replace(" ", "_") for name in data.classes]
    assert words == list(kind.classes[:-1])
    lon, lat = data.lonlat(np.array([0]))[0]
    assert 1 < lon < 3
    assert 47 < lat < 49


def test_pastis_that_is_not_the_published_one_is_refused(crops, tmp_path):
    with pytest.raises(
        FMError, match="3 samples in train, the published list of pastis@1 has 1455"
    ):
        PASTIS.load(crops / "PASTIS-R")
    other = series.write_pastis(tmp_path, series.PASTIS_BANDS[::-1]) / "PASTIS-R"
    with pytest.raises(FMError, match="B8A"):
        FEW_PATCHES.load(other)
    path = crops / "PASTIS-R/metadata.geojson"
    kept = path.read_text()
    try:
        found = json.loads(kept)
        found["features"][0]["properties"]["dates-S2"] = {"0": 20180917}
        path.write_text(json.dumps(found))
        with pytest.raises(FMError, match="the metadata lists 1 dates"):
            FEW_PATCHES.load(path.parent)
        found["features"][0]["properties"]["Fold"] = 7
        path.write_text(json.dumps(found))
        with pytest.raises(FMError, match="fold 7, expected 1 to 5"):
            FEW_PATCHES.load(path.parent)
    finally:
        path.write_text(kept)


def test_dates_are_part_of_what_the_data_are(crops):
    path = crops / "PASTIS-R/metadata.geojson"
    kept, before = path.read_text(), FEW_PATCHES.load(path.parent).manifest_hash
    try:
        path.write_text(kept.replace("20190106", "20190107"))
        assert FEW_PATCHES.load(path.parent).manifest_hash != before
    finally:
        path.write_text(kept)


def test_biomassters_as_torchgeo_reads_it(chips):
    data = FEW_CHIPS.load(chips)
    theirs = torchgeo_class("BioMassters")(
        root=str(chips), split="train", sensors=["S2"], as_time_series=True
    )
    listed = theirs.df.groupby("num_index")["chip_id"].first().to_dict()
    assert sorted(data.shards) == sorted(listed.values())  # the chip without an image is none
    order = [series.BIOMASS_BANDS.index(band) for band in data.bands["s2l2a_10"]]
    for place, chip in listed.items():
        (row,) = np.flatnonzero(data.shards == chip)
        sample = theirs[place]
        pixels, valid, times = images(data, row)
        np.testing.assert_array_equal(pixels, sample["image_S2"].numpy()[:, order])
        np.testing.assert_array_equal(valid, (pixels != 0).all(1))
        assert data.targets[row, 0] == pytest.approx(float(sample["label"].double().mean()))
        assert np.isnan(times).all()  # no model is told a year that nobody knows
        own = slice(*data.dates.starts[row : row + 2])
        months = series.months_of(int(chip[:7], 16))
        assert data.dates.times[own].tolist() == [MIDDLES[m] for m in months]
    assert data.dates.days[0] == 258 + 30  # chip 0 begins in October, on the 15th
    assert not data.dates.sure
    assert {len(data.of(part)) for part in ("train", "val", "test")} == {3, 1}


def test_biomass_that_cannot_be_is_refused(chips):
    from tests.probes.layouts.scene import write_tif

    path = chips / "train_agbm/0000000c_agbm.tif"
    kept = path.read_bytes()
    try:
        write_tif(path, np.full((256, 256), -9999, np.float32), crs=None)
        with pytest.raises(FMError, match="biomass below 0"):
            FEW_CHIPS.load(chips)
    finally:
        path.write_bytes(kept)
    with pytest.raises(FMError, match="6 samples in all"):
        BIOMASS.load(chips)
