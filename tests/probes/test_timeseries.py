"""The family `timeseries`: closed forms, padding, days, heads, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import fm
from fm.errors import UsageError
from probes.benchmarks.base import Inputs
from probes.benchmarks.dates import DAY, Dates
from probes.families import timeseries
from probes.families.job import Job
from probes.features.floors import image_statistics
from probes.judging.judge import answers_task, judge
from probes.protocols import get_protocol
from probes.series.attention import TemporalAttention, positions
from probes.series.maps import mean_map
from probes.series.vectors import Padded, mean, vectors
from probes.settings.timeseries import SeriesAttention
from tests.probes import standin
from tests.probes import vectors as given

S2 = fm.sensor("sentinel2-l2a").modalities["s2l2a_10"]
BANDS = tuple(band.name for band in S2)
ATTENTION = {
    "family": "timeseries",
    "temporal": "attention",
    "heads": 4,
    "channels": 16,
    "keys": 4,
    "hidden": 16,
    "rates": (1e-2,),
    "period": 20,
    "patience": 4,
    "evaluations": 15,
}


def ragged(lengths, seed=0) -> Dates:
    """Series with days spread over two years."""
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.choice(700, n, replace=False)) * float(DAY) for n in lengths]
    owner = np.repeat(np.arange(len(lengths)), lengths)
    return Dates(len(lengths), owner, np.concatenate(times), lambda index: None)


def head(width=6, outputs=3, seed=0, **more):
    torch.manual_seed(seed)
    sizes = {"heads": 4, "channels": 16, "keys": 4, "hidden": 8, "longest": 1000.0} | more
    return TemporalAttention(width, outputs, **sizes)


def test_the_mean_is_of_the_dates_of_a_sample_and_of_nothing_else():
    lengths = (3, 1, 5)
    dates = ragged(lengths)
    x = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    parts = np.split(x.astype(np.float64), np.cumsum(lengths)[:-1])
    np.testing.assert_allclose(mean(x, dates), [part.mean(0) for part in parts], rtol=1e-14)


def test_padding_changes_nothing():
    dates = ragged((2, 7, 4))
    x = np.random.default_rng(1).normal(size=(13, 6)).astype(np.float32)
    series, net = Padded.of(x, dates), head()
    together = net(*series.batch(np.arange(3)))
    for n in range(3):
        alone = net(*series.batch(np.array([n])))
        torch.testing.assert_close(together[n], alone[0], rtol=1e-5, atol=1e-6)
    filled, days, mask = series.batch(np.array([0, 1]))
    assert mask.sum(1).tolist() == [2, 7]
    share, _ = net.weights(filled, days, mask)
    assert (share[0, :, 2:] == 0).all()
    torch.testing.assert_close(share.sum(-1), torch.ones(2, 4))
    # whatever stands in filled places is not seen
    filled, days = filled.clone(), days.clone()
    filled[0, 2:], days[0, 2:] = 100.0, 5
    torch.testing.assert_close(net(filled, days, mask), together[:2], rtol=1e-5, atol=1e-6)


def test_equal_dates_have_equal_weights():
    net = head()
    x, days = torch.randn(1, 1, 6).expand(2, 5, 6), torch.full((2, 5), 100)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    share, _ = net.weights(x, days, mask)
    torch.testing.assert_close(share[0], torch.full((4, 5), 0.2))
    torch.testing.assert_close(share[1, :, :3], torch.full((4, 3), 1 / 3))
    one = net(x[:1, :1], days[:1, :1], mask[:1, :1])
    torch.testing.assert_close(net(x, days, mask), one.expand(2, 3), rtol=1e-5, atol=1e-6)


def test_the_order_of_dates_is_their_days_alone():
    net, order = head(), torch.tensor([3, 0, 2, 1])
    x, mask = torch.randn(1, 4, 6), torch.ones(1, 4, dtype=torch.bool)
    days = torch.tensor([[10, 100, 200, 300]])
    scores = net(x, days, mask)
    turned = net(x[:, order], days[:, order], mask)
    torch.testing.assert_close(turned, scores, rtol=1e-5, atol=1e-6)
    assert (net(x, days[:, order], mask) - scores).abs().max() > 1e-3


def test_the_weights_are_those_of_the_paper():
    """Float64, one head after the other, dates and formulas spelled out."""
    net = head(width=5).double()
    x, days = torch.randn(1, 3, 5, dtype=torch.float64), [32, 150, 290]
    mask = torch.ones(1, 3, dtype=torch.bool)
    share, _ = net.weights(x, torch.tensor([days]), mask)
    each = 4
    e = net.enter(x)[0].detach().numpy()
    for h in range(4):
        logits = []
        for t, day in enumerate(days):
            place = np.array(
                [
                    f(day / 1000 ** (2 * i / each))
                    for i in range(each // 2)
                    for f in (np.sin, np.cos)
                ]
            )
            part = e[t, h * each : (h + 1) * each] + place
            key = net.key[h].detach().numpy() @ part + net.offset[h].detach().numpy()
            logits.append(net.query[h].detach().numpy() @ key / np.sqrt(4))
        wanted = np.exp(logits) / np.exp(logits).sum()
        # positions are float32
        np.testing.assert_allclose(share[0, h].detach().numpy(), wanted, rtol=1e-5)


def test_positions_tell_days_apart():
    found = positions(torch.arange(1, 367), 8, 1000.0)
    near = torch.cdist(found.double(), found.double()).fill_diagonal_(9)
    assert near.min() > 0.02
    assert found.abs().max() <= 1


def eight(task):
    """Eight series of 2 to 5 dates three times over, as train, val and test."""
    rng = np.random.default_rng(3)
    _, data = given.eight(task)
    lengths = np.tile(2 + np.arange(8) % 4, 3)
    eighth = np.tile(np.arange(8), 3)
    parts = [rng.normal(size=(n, 12)).astype(np.float32) for n in lengths[:8]]
    days = [np.sort(rng.choice(365, n, replace=False)) for n in lengths[:8]]
    times = np.concatenate([days[k] for k in eighth]) * float(DAY)
    owner = np.repeat(np.arange(24), lengths)
    x = np.concatenate([parts[k] for k in eighth])
    return x, replace(data, dates=Dates(24, owner, times, lambda index: None))


def series_of(task):
    return replace(given.benchmark(task, given.PRIMARY[task]), series=True)


@pytest.mark.parametrize("task", ["class", "multilabel", "regression"])
def test_attention_overfits_eight_series(task):
    x, data = eight(task)
    job = standin.job(SeriesAttention(**ATTENTION), series_of(task), data, x)
    outcome = timeseries.run(job)
    assert job.score(data.of("test"), outcome.predictions) >= 0.99
    assert job.score(data.of("val"), outcome.val) >= 0.99  # the same series as train
    assert outcome.notes[0] == "series of 2 to 5 dates"
    assert outcome.selection["split"] == "val"


@pytest.mark.parametrize("task", ["class", "multilabel", "regression"])
def test_the_mean_head_overfits_eight_series(task):
    x, data = eight(task)
    settings = get_protocol("timeseries-mean").settings
    job = standin.job(settings, series_of(task), data, x)
    outcome = timeseries.run(job)
    assert job.score(data.of("test"), outcome.predictions) >= 0.99
    assert outcome.selection["name"] == ("alpha" if task == "regression" else "C")
    np.testing.assert_allclose(outcome.features, mean(x, data.dates))


def seasons(count=90, seed=0):
    """Two classes with the same dates in another order of the year: only the day tells them."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 2
    bright = np.where(targets == 1, 200, 60)[:, None] + rng.integers(-15, 16, (count, 1))
    days = np.sort(np.concatenate([bright, rng.integers(1, 365, (count, 5))], 1), 1)
    x = rng.normal(0, 0.1, (count, 6, 4))
    x[np.arange(count), (days == bright).argmax(1)] += 3
    data = given.data(targets, np.repeat(["train", "val", "test"], count // 3))
    owner = np.repeat(np.arange(count), 6)
    dates = Dates(count, owner, days.ravel() * float(DAY), lambda index: None)
    return x.reshape(-1, 4).astype(np.float32), replace(data, dates=dates)


def test_attention_learns_when_and_the_mean_cannot():
    x, data = seasons()
    settings = SeriesAttention(**ATTENTION)
    job = standin.job(settings, series_of("class"), data, x)
    assert job.score(data.of("test"), timeseries.run(job).predictions) > 0.85
    plain = standin.job(get_protocol("timeseries-mean").settings, series_of("class"), data, x)
    assert plain.score(data.of("test"), timeseries.run(plain).predictions) < 0.75


def model(**options):
    sizes = {"width": 24, "depth": 1, "heads": 2, "token_m": 40} | options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return fm.create_model("vit_nano", bands={"s2l2a_10": S2}, **sizes).eval()


def pictures(lengths=(3, 2, 4) * 2, side=8, empty=(), **more):
    """Series of small pictures [side, side]; images in `empty` have no valid pixel."""
    rng = np.random.default_rng(0)
    total = sum(lengths)
    pixels = rng.integers(500, 3000, (total, 4, side, side)).astype(np.uint16)
    valid = np.ones((total, side, side), bool)
    valid[1, :5] = False
    valid[list(empty)] = False

    def read(index):
        x = np.where(valid[index][:, None], pixels[index], np.uint16(0))
        return Inputs({"s2l2a_10": x}, {"s2l2a_10": valid[index]})

    dates = replace(ragged(lengths), read=read, **more)
    count = len(lengths)
    data = replace(
        given.data(rng.normal(size=(count, 1)), np.repeat(["train", "val", "test"], count // 3)),
        read=dates.series,
        dates=dates,
        bands={"s2l2a_10": BANDS},
        scaling={"s2l2a_10": (1e-4, 0.0)},
    )
    return data, pixels, valid


def test_every_date_is_encoded_alone_and_kept(tmp_path):
    data, pixels, valid = pictures()
    settings = get_protocol("timeseries-mean").settings
    net = model()
    job = Job(settings, series_of("regression"), data, net, 0, tmp_path, "test")
    found = vectors(job)
    assert found.shape == (18, 24)
    scaled = {"scaling": {"s2l2a_10": (1e-4, 0.0)}, "bands": {"s2l2a_10": BANDS}}
    with torch.inference_mode():
        for n in (0, 1, 9):
            known = {"s2l2a_10": torch.from_numpy(valid[n : n + 1])}
            x = {"s2l2a_10": torch.from_numpy(pixels[n : n + 1])}
            alone = net.encode(x, valid=known, **scaled).pooled[0].numpy()
            np.testing.assert_allclose(found[n], alone, rtol=1e-4, atol=1e-5)
    broken = replace(data.dates, read=lambda index: pytest.fail("encoded twice"))
    kept = len(list(tmp_path.iterdir()))
    again = replace(job, data=replace(data, dates=broken))
    with pytest.raises(pytest.fail.Exception):  # the feed looks at some pixels
        vectors(again)
    np.testing.assert_array_equal(vectors(job), found)
    assert len(list(tmp_path.iterdir())) == kept == 1


def test_images_without_data_are_no_dates(tmp_path):
    data, *_ = pictures(empty=(2, 3), sure=False)
    settings = get_protocol("timeseries-image-statistics").settings
    job = Job(settings, series_of("regression"), data, None, 0, tmp_path, "test")
    outcome = timeseries.run(job)
    assert outcome.notes[:2] == ["series of 1 to 4 dates", "2 images without data are no dates"]
    kept = [n for n in range(18) if n not in (2, 3)]
    each = image_statistics(data.dates.read(np.array(kept)), data.scaling)
    owner = data.dates.owner[kept]
    wanted = [each[owner == n].mean(0) for n in range(6)]
    np.testing.assert_allclose(outcome.features, wanted)
    # what was found is kept
    blind = replace(data.dates, read=lambda index: pytest.fail("looked again"))
    from probes.series.vectors import with_data

    again, notes = with_data(replace(job, data=replace(data, dates=blind)))
    assert notes == ["2 images without data are no dates"]
    assert len(again.data.dates.owner) == 16


def test_models_are_told_the_times_of_images():
    data, *_ = pictures()
    later = replace(data.dates, times=data.dates.times + 4 * 365 * DAY)
    job = Job(
        get_protocol("timeseries-mean").settings,
        series_of("regression"),
        data,
        model(metadata=["time"]),
        0,
        None,
        "test",
    )
    moved = replace(job, data=replace(data, dates=later))
    assert np.abs(vectors(moved) - vectors(job)).max() > 1e-4
    nameless = replace(job, data=replace(data, dates=replace(data.dates, years=False)))
    still = replace(moved, data=replace(data, dates=replace(later, years=False)))
    np.testing.assert_array_equal(vectors(nameless), vectors(still))


def test_a_model_of_series_sees_some_dates_together():
    data, pixels, _ = pictures()
    net = model(time_code_width=12)
    settings = get_protocol("timeseries-joint").settings
    job = Job(settings, series_of("regression"), data, net, 0, None, "test")
    outcome = timeseries.run(job)
    assert outcome.notes[0] == "series of 2 to 3 dates"
    # the second sample has two dates: alone, without filled places, it is the same
    x = {"s2l2a_10": torch.from_numpy(pixels[None, 3:5])}
    with torch.inference_mode():
        alone = net.encode(
            x,
            bands={"s2l2a_10": BANDS},
            times=torch.from_numpy(data.dates.times[None, 3:5]),
            scaling={"s2l2a_10": (1e-4, 0.0)},
        )
    np.testing.assert_allclose(outcome.features[1], alone.pooled[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="for models that take series"):
        timeseries.run(replace(job, model=model()))


def test_a_map_is_the_mean_over_the_dates_with_data():
    maps = torch.arange(12.0).reshape(3, 2, 1, 2)
    maps[1, :, 0, 0] = torch.nan
    maps[:, :, 0, 1] = torch.nan
    found = mean_map(maps)
    assert found.shape == (1, 2, 1, 2)
    assert found[0, :, 0, 0].tolist() == [4.0, 6.0]
    assert found[0, :, 0, 1].isnan().all()


@pytest.mark.parametrize("name", ["timeseries-maps", "timeseries-maps-raw-pixel"])
def test_maps_overfit_eight_series(name, tmp_path):
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, (8, 8, 8))
    lengths = np.tile(2 + np.arange(8) % 3, 3)
    sample = np.repeat(np.arange(24) % 8, lengths)
    level = np.array([600, 1500, 2600])[truth]

    def read(index):
        noise = rng.integers(-20, 20, (len(index), 4, 8, 8))
        return Inputs({"s2l2a_10": (level[sample[index]][:, None] + noise).astype(np.uint16)})

    dates = replace(ragged(lengths), read=read)
    data = replace(
        given.data(np.zeros(24, np.int64), np.repeat(["train", "val", "test"], 8), classes=3),
        read=dates.series,
        dates=dates,
        maps=lambda index: truth[index % 8],
        bands={"s2l2a_10": BANDS},
        scaling={"s2l2a_10": (1e-4, 0.0)},
    )
    settings = get_protocol(name).settings
    settings = settings.model_copy(update={"learning_rates": (0.1,), "epochs": 25})
    benchmark = replace(given.benchmark("segmentation", "miou"), series=True)
    net = None if "raw" in name else model(token_m=10, width=32)
    job = Job(settings, benchmark, data, net, 0, tmp_path, "test")
    outcome = timeseries.run(job)
    assert job.score(data.of("test"), outcome.predictions) >= 0.99
    assert any(note.startswith("series of 2 to 4 dates") for note in outcome.notes)
    assert len(list(tmp_path.iterdir())) == 1


def test_protocols_of_single_images_and_of_series_are_not_confused():
    data, *_ = pictures()
    net = model()
    for name, benchmark, words in (
        ("ridge", series_of("regression"), "ridge@1 takes single images, and .* gives series"),
        (
            "timeseries-mean",
            given.benchmark("regression", "r2"),
            "timeseries-mean@1 takes series of dated images, and .* gives single images",
        ),
        ("timeseries-maps", series_of("regression"), "timeseries-maps@1 is for the tasks segm"),
        (
            "timeseries-mean",
            replace(series_of("class"), task="segmentation"),
            "timeseries-mean@1 is for the tasks class, multilabel, regression",
        ),
    ):
        protocol = get_protocol(name)
        job = Job(protocol.settings, benchmark, data, net, 0, None, "test")
        assert not answers_task(protocol, benchmark)
        with pytest.raises(UsageError, match=words):
            judge(protocol, job)
