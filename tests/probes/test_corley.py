"""The seed paper's nearest neighbours on generated images, with and without its two defects."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import fm
from fm.errors import UsageError
from probes.benchmarks.base import Benchmark, Data, Inputs
from probes.checks import corley
from probes.families import knn
from probes.families.job import Job
from probes.protocols import get_protocol

SENSOR = [
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08"),
    *("B8A", "B09", "B10", "B11", "B12"),
]
EUROSAT = [*SENSOR[:8], *SENSOR[9:], "B8A"]
TWELVE = [band for band in SENSOR if band != "B10"]
MODALITY = "s2l1c"
LABELLED = 270
WIDTH = 20


class Weights(torch.nn.Module):
    """Weights for 13 places: every place has its own projection and divisor."""

    def __init__(self):
        super().__init__()
        table = {band.name: band for band in fm.sensor("sentinel2-l1c").bands}
        self.bands = {MODALITY: tuple(table[name] for name in SENSOR)}
        generator = torch.Generator().manual_seed(5)
        self.kernel = torch.nn.Parameter(
            torch.randn(13 * 16, WIDTH, generator=generator, dtype=torch.float64)
        )

    def features(self, planes):
        """Features of [B, 13, 4, 4] in the order of `SENSOR`."""
        x = torch.as_tensor(planes, dtype=torch.float64) / 10_000
        return (x.flatten(1) @ self.kernel).float()

    def encode(self, pixels, *, bands, valid=None, scaling=None, **_):
        x = pixels[MODALITY]
        order = [bands[MODALITY].index(name) for name in SENSOR]
        return SimpleNamespace(pooled=self.features(x[:, order].double()), tokens=None)


def _images(bands):
    """Images of 4 x 4 pixels in ten classes, in the order of `bands`: [N, C, 4, 4] uint16."""
    rng = np.random.default_rng(7)
    y = rng.integers(0, 10, LABELLED)
    spectrum = rng.uniform(300, 3000, (10, 13)) + 50 * np.arange(13)
    x = spectrum[y][:, :, None, None] + rng.normal(0, 500, (LABELLED, 13, 4, 4))
    whole = np.clip(x, 0, 65535).astype(np.uint16)
    return whole[:, [SENSOR.index(band) for band in bands]], y


def _job(protocol, bands, model=None):
    stored, y = _images(bands)
    split = np.array(["train", "val", "test"])[np.arange(LABELLED) % 3]
    data = Data(
        read=lambda index: Inputs({MODALITY: stored[index]}),
        targets=y,
        split=split,
        unit=np.arange(LABELLED),
        shards=np.array([f"s{i}" for i in range(LABELLED)]),
        classes=tuple(f"c{k}" for k in range(10)),
        bands={MODALITY: tuple(bands)},
        scaling={MODALITY: (1e-4, 0.0)},
        dataset="images",
        manifest_hash="0" * 64,
        folder=Path(),
    )
    benchmark = Benchmark(
        name="images",
        version=1,
        help="",
        source="",
        task="class",
        primary="oa",
        unit="image",
        split="",
        verified="",
        load=lambda folder: data,
    )
    settings = get_protocol(protocol).settings
    return Job(settings, benchmark, data, model or Weights(), 0, None, "weights"), stored, y


def _sklearn(planes, y, scaled=False):
    """The votes for the test samples from planes in the places of the weights."""
    x = Weights().features(planes.astype(np.float64)).detach().numpy().astype(np.float64)
    train, test = np.arange(LABELLED) % 3 == 0, np.arange(LABELLED) % 3 == 2
    if scaled:
        x = StandardScaler().fit(x[train]).transform(x)
    peer = KNeighborsClassifier(n_neighbors=5, algorithm="brute").fit(x[train], y[train])
    return peer.predict_proba(x[test])


def test_eurosat_in_the_order_of_its_files_as_the_seed_papers_code():
    job, stored, y = _job("corley-knn5@1", EUROSAT)
    found = knn.run(job)
    # their code hands the file over as it is: channel 8 of the file is B09, the last B8A
    assert (found.predictions == _sklearn(stored, y)).all()
    assert found.selection is None
    assert any("two defects kept" in note for note in found.notes)


def test_the_order_of_storage_does_not_matter_to_the_reproduction():
    job, *_ = _job("corley-knn5@1", SENSOR)
    other, *_ = _job("corley-knn5@1", EUROSAT)
    assert (knn.run(job).predictions == knn.run(other).predictions).all()


def test_twelve_bands_get_their_zeros_in_the_ninth_place_as_in_the_seed_papers_code():
    job, stored, y = _job("corley-knn5@1", TWELVE)
    padded = np.insert(stored, 8, 0, axis=1)
    assert (knn.run(job).predictions == _sklearn(padded, y)).all()


@pytest.mark.parametrize("bands", [EUROSAT, TWELVE], ids=["order", "zeros"])
def test_the_corrected_twin_puts_every_band_in_its_place(bands):
    job, stored, y = _job("corley-knn5-fixed@1", bands)
    right = np.zeros((LABELLED, 13, 4, 4))
    for place, band in enumerate(SENSOR):
        if band in bands:
            right[:, place] = stored[:, bands.index(band)]
    found = knn.run(job)
    assert found.selection["grid"] == ["none, 5", "standard, 5"]
    scaled = found.selection["chosen"] == "standard, 5"
    assert (found.predictions == _sklearn(right, y, scaled)).all()
    wrong, *_ = _job("corley-knn5@1", bands)
    assert (knn.run(wrong).predictions != found.predictions).any()


def test_places():
    assert corley.places(SENSOR, defects=True) == tuple(EUROSAT)
    assert corley.places(EUROSAT, defects=False) == tuple(SENSOR)
    assert corley.places(TWELVE, defects=True)[7:11] == ("B08", None, "B8A", "B09")
    assert corley.places(TWELVE, defects=False)[8:11] == ("B8A", "B09", None)
    assert corley.places(["B04", "B03", "B02"], defects=True) is None


def test_bands_it_does_not_concern_are_left_alone_and_the_result_says_so():
    class Three(Weights):
        def encode(self, pixels, *, bands, **_):
            return SimpleNamespace(pooled=pixels[MODALITY].float().mean((2, 3)), tokens=None)

    job, *_ = _job("corley-knn5@1", ["B04", "B03", "B02"], Three())
    assert any("aligned by name" in note for note in knn.run(job).notes)


def test_a_model_of_other_bands_is_refused():
    model = Weights()
    model.bands = {MODALITY: model.bands[MODALITY][:4]}
    job, *_ = _job("corley-knn5@1", EUROSAT, model)
    with pytest.raises(UsageError, match="13 bands") as error:
        knn.run(job)
    assert "\n" not in str(error.value)
