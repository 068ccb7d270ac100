from dataclasses import replace

import numpy as np
import pytest
import torch

import fm
from fm.sensors import sensor
from probes.backbones.align import table
from probes.benchmarks import get_benchmark
from probes.benchmarks.base import Inputs
from probes.checks import disturb, robustness
from probes.checks.robustness import encoder, measure
from probes.families import linear
from probes.families.job import Job
from probes.features.pixels import Moments, moments, training_rows
from probes.protocols import get_protocol
from probes.statistics.answers import ClassAnswers
from probes.statistics.bootstrap import paired
from tests.probes import standin

S2 = {"s2l2a_10": sensor("sentinel2-l2a").modalities["s2l2a_10"]}
RADAR = {"s1grd_10": sensor("sentinel1-grd").bands}


def _levels(bands, rng):
    return {
        m: Moments(rng.random(len(b)) + 1, rng.random(len(b)) + 1, np.full(len(b), 9.0))
        for m, b in bands.items()
    }


def _named(bands, rng):
    levels = _levels(bands, rng)
    return {one.name: one for one in disturb.disturbances(bands, levels, seed=0)}, levels


def _draws(count):
    return [np.random.Generator(np.random.PCG64([0, n])) for n in range(count)]


def test_each_disturbance_does_what_it_says():
    rng = np.random.default_rng(0)
    found, levels = _named(S2, rng)
    assert [n for n in found if n.startswith("drop")] == [
        *("drop-B02", "drop-B03", "drop-B04", "drop-B08")
    ]
    level = levels["s2l2a_10"]
    x = rng.random((50, 4, 12, 12)).astype(np.float32)
    given = Inputs({"s2l2a_10": x.copy()})
    after = {n: one.change(given, _draws(50)).pixels["s2l2a_10"] for n, one in found.items()}
    np.testing.assert_array_equal(given.pixels["s2l2a_10"], x)  # nothing is changed in place
    np.testing.assert_allclose(after["drop-B03"][:, 1], level.mean[1], rtol=1e-6)
    np.testing.assert_array_equal(after["drop-B03"][:, [0, 2, 3]], x[:, [0, 2, 3]])
    noise = (after["noise-0.3"] - x).transpose(1, 0, 2, 3).reshape(4, -1)
    np.testing.assert_allclose(noise.std(1), 0.3 * level.spread, rtol=0.03)
    np.testing.assert_allclose(noise.mean(1), 0, atol=0.02)
    np.testing.assert_allclose(after["gain-0.8"], 0.8 * x, rtol=1e-6)
    covered = (after["cloud-0.25"] == 9).all(1)
    assert (covered.sum((1, 2)) == 36).all()  # a quarter of 144
    np.testing.assert_array_equal(
        after["cloud-0.25"][~np.broadcast_to(covered[:, None], x.shape)],
        x[~np.broadcast_to(covered[:, None], x.shape)],
    )
    assert len({tuple(np.argwhere(c)[0]) for c in covered}) > 5
    half = x.reshape(50, 4, 6, 2, 6, 2).mean((3, 5))
    np.testing.assert_allclose(after["gsd-x2"], half, rtol=1e-5)
    assert after["gsd-x0.5"].shape == (50, 4, 24, 24)


def test_radar_keeps_its_physics():
    """Power times 0.8 is some 0.97 dB less; a cloud is not seen."""
    found, _ = _named(RADAR, np.random.default_rng(0))
    assert "cloud-0.25" not in found
    x = np.full((1, 2, 4, 4), -12.0, np.float32)
    made = found["gain-0.8"].change(Inputs({"s1grd_10": x}), _draws(1)).pixels["s1grd_10"]
    np.testing.assert_allclose(10 ** (made / 10), 0.8 * 10 ** (x / 10), rtol=1e-5)


def test_several_modalities_are_dropped_whole_too():
    found, _ = _named({**S2, **RADAR}, np.random.default_rng(0))
    assert found["drop-s1grd_10"].dropped == {"s1grd_10": (0, 1)}
    assert found["drop-VV"].dropped == {"s1grd_10": (0,)}


def test_hyperspectral_bands_are_lost_in_shares_and_seen_by_others():
    bands = {"aviris_20": sensor("aviris-indian-pines").bands}
    found, _ = _named(bands, np.random.default_rng(0))
    assert len(found["drop-10%-of-bands"].dropped["aviris_20"]) == 20
    assert len(found["drop-50%-of-bands"].dropped["aviris_20"]) == 100
    # another sensor's means of a straight spectrum lie on it again; a narrow line is lost
    at = np.array([b.wavelength_nm for b in bands["aviris_20"]])
    flat = np.broadcast_to((at / 1000)[:, None, None], (1, 200, 2, 2)).astype(np.float32)
    line = np.zeros_like(flat)
    line[:, 60] = 1
    for name in ("response-enmap-l2a", "response-sentinel2-l2a"):
        change = found[name].change
        inside = (at > 600) & (at < 2000)
        made = change(Inputs({"aviris_20": flat}), _draws(1)).pixels["aviris_20"]
        np.testing.assert_allclose(made[:, inside], flat[:, inside], atol=0.03)
        seen = change(Inputs({"aviris_20": line}), _draws(1)).pixels["aviris_20"]
        assert seen.max() < (0.9 if name == "response-enmap-l2a" else 0.2)


def test_invalid_pixels_stay_out_of_resampled_means():
    x = np.array([[[[1.0, 5.0], [3.0, 100.0]]]], np.float32)
    valid = np.array([[[True, True], [True, False]]])
    made = disturb._resample(0.5)(Inputs({"m": x}, {"m": valid}), _draws(1))
    assert made.pixels["m"].item() == pytest.approx(3)
    assert made.valid["m"].item()
    alone = disturb._resample(0.5)(
        Inputs({"m": x}, {"m": np.array([[[True, False], [False, False]]])}), _draws(1)
    )
    assert not alone.valid["m"].item()


def _some(data, count=120):
    """The benchmark with the first val and test samples alone."""
    split = data.split.astype("U8")
    for name in ("val", "test"):
        split[data.of(name)[count:]] = "unused"
    return replace(data, split=split)


@pytest.fixture(scope="module")
def run(blocks):
    """The linear protocol of the stand-in encoder on a part of the scene."""
    benchmark = get_benchmark("indian-pines")
    data = _some(benchmark.load(blocks))
    settings = get_protocol("linear").settings.model_copy(update={"per_class": 20})
    job = Job(settings, benchmark, data, standin.Encoder(), 0, None, "test")
    outcome = linear.run(job)
    answers = job.task.answers(data, data.of("test"), outcome.predictions)
    return job, outcome, answers, measure(job, outcome, answers)


def test_rows_hold_the_drop_and_its_paired_interval(run):
    job, outcome, answers, rows = run
    names = [row["name"] for row in rows]
    assert len(names) == len(set(names)) == 11
    by_name = {row["name"]: row for row in rows}
    clean = float(answers.metrics(np.ones(answers.units))["oa"])
    for row in rows:
        assert row["metric"] == "oa"
        assert row["drop"] == pytest.approx(clean - row["value"])
        assert row["drop_low"] <= row["drop"] <= row["drop_high"]
        assert row["low"] <= row["value"] <= row["high"]
    # losing half of the bands costs more than losing a tenth
    assert by_name["drop-50%-of-bands"]["drop"] > by_name["drop-10%-of-bands"]["drop"]
    assert by_name["drop-50%-of-bands"]["how"] == "set to the mean of the training split"
    # by hand: the gain, through the encoder and the fitted head
    data, test = job.data, job.data.of("test")
    inputs = disturb.as_physical(data.read(test), data.scaling)
    louder = Inputs({"aviris_20": inputs.pixels["aviris_20"] * np.float32(1.2)}, inputs.valid)
    with torch.no_grad():
        features = job.model.encode(
            {"aviris_20": torch.from_numpy(louder.pixels["aviris_20"])},
            valid={"aviris_20": torch.from_numpy(louder.valid["aviris_20"])},
        ).pooled.numpy()
    guess = outcome.predict(features).argmax(1)
    other = ClassAnswers.of(data.targets[test], guess, data.unit[test], len(data.classes))
    want = paired(answers, other, "oa", 0)
    assert by_name["gain-1.2"]["drop"] == pytest.approx(want["difference"])
    assert by_name["gain-1.2"]["drop_low"] == pytest.approx(want["low"])


def test_undisturbed_images_in_physical_units_score_the_same(run):
    job, outcome, _, _ = run
    test = job.data.of("test")
    inputs = disturb.as_physical(job.data.read(test), job.data.scaling)
    features = encoder(job)(inputs, job.data.bands)
    np.testing.assert_allclose(features, outcome.features[test], rtol=1e-4, atol=1e-4)


def test_test_images_decide_nothing(run):
    """Levels come from the training split: other test images leave the disturbance as it is."""
    job, *_ = run
    data = job.data
    test = set(data.of("test").tolist())

    def read(index):
        inputs = data.read(index)
        other = np.array([n in test for n in index.tolist()])[:, None, None, None]
        x = inputs.pixels["aviris_20"]
        return Inputs({"aviris_20": np.where(other, 60000, x).astype(x.dtype)}, inputs.valid)

    rows = training_rows(data, 0)
    one, two = (moments(d, rows)["aviris_20"] for d in (data, replace(data, read=read)))
    np.testing.assert_array_equal(one.high, two.high)
    np.testing.assert_array_equal(one.mean, two.mean)


def test_a_floor_keeps_what_it_learned_from_clean_training_images(pairs):
    benchmark = get_benchmark("bigearthnet-s2")
    data = benchmark.load(pairs)
    job = Job(get_protocol("random-conv-zca").settings, benchmark, data, None, 0, None, "floor")
    rows = data.of("test")
    made = encoder(job)(disturb.as_physical(data.read(rows), data.scaling), data.bands)
    np.testing.assert_allclose(made, job.features()[rows], rtol=1e-3, atol=1e-3)


def test_a_flexible_model_gets_the_bands_that_are_left(pairs):
    benchmark = get_benchmark("bigearthnet-s2")
    data = benchmark.load(pairs)
    bands = fm.sensor("sentinel2-l2a").modalities
    rows = data.of("test")[:2]
    found = {}
    for kind in ("tied", "linear"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = fm.create_model("vit_nano", bands=bands, token_m=120, depth=1, tokenizer=kind)
        few = replace(data, split=np.where(np.isin(np.arange(18), rows), "test", "train"))
        job = Job(get_protocol("linear").settings, benchmark, few, model, 0, None, "flexible")
        levels = moments(few, few.of("train"))
        listed = disturb.disturbances(table(few.bands), levels, 0)
        one = next(d for d in listed if d.name == "drop-B03")
        lost = robustness._absent(job, one)
        found[kind] = lost
        made = robustness._features(job, encoder(job), one, 0, lost)
        whole = next(d for d in listed if d.name == "drop-s2l2a_20")
        assert not robustness._absent(job, whole)  # nothing would be left of its modality
        if kind == "tied":
            inputs = disturb.as_physical(data.read(rows), data.scaling)
            pixels = {m: torch.from_numpy(x) for m, x in inputs.pixels.items()}
            names = {m: tuple(b for b in v if b != "B03") for m, v in data.bands.items()}
            pixels["s2l2a_10"] = pixels["s2l2a_10"][:, [0, 2, 3]]
            with torch.no_grad():
                want = model.eval().encode(pixels, bands=names).pooled.numpy()
            np.testing.assert_allclose(made, want, rtol=1e-4, atol=1e-5)
    assert found == {"tied": True, "linear": False}
