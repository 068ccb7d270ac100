from argparse import Namespace
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score
from torch import nn

import fm
from fm.errors import UsageError
from probes.benchmarks import get_benchmark
from probes.families import retrieval
from probes.families.job import Job
from probes.judging.evaluation import evaluate_many
from probes.settings import Retrieval
from probes.statistics import ranking
from probes.tasks.retrieval import CUTOFFS, NAMES
from shards.sources import get_source
from tests.probes import standin, vectors
from tests.shards.makers import written

SETTINGS = Retrieval(family="retrieval", center=False)


@pytest.mark.parametrize("k", [1, 5, 12, 30, 100])
def test_ndcg_is_scikit_learns(k):
    rng = np.random.default_rng(k)
    gains = rng.integers(0, 4, (8, 30)).astype(float)
    similar = rng.normal(size=(8, 30))
    ranked = np.take_along_axis(gains, np.argsort(-similar, 1), 1)
    for row in range(8):
        want = ndcg_score(gains[row : row + 1], similar[row : row + 1], k=k)
        assert ranking.ndcg(ranked, k)[row] == pytest.approx(want, abs=1e-12)


def reference_ap(relevant, k):
    found = [sum(relevant[: i + 1]) / (i + 1) for i in range(min(k, len(relevant))) if relevant[i]]
    return sum(found) / min(k, sum(relevant))


@pytest.mark.parametrize("k", [1, 3, 10, 40])
def test_average_precision_divides_by_the_smaller_of_k_and_relevant(k):
    rng = np.random.default_rng(k)
    gains = (rng.random((6, 25)) < 0.3) * rng.integers(1, 4, (6, 25))
    found = ranking.average_precision(gains, k)
    for row in range(6):
        assert found[row] == pytest.approx(reference_ap((gains[row] > 0).tolist(), k))
    if k >= 25:  # the whole list: the usual average precision
        scores = -np.arange(25.0)
        want = [average_precision_score(row > 0, scores) for row in gains]
        np.testing.assert_allclose(found, want)
    perfect = -np.sort(-gains, axis=1)
    np.testing.assert_allclose(ranking.average_precision(perfect, k), 1)
    np.testing.assert_allclose(ranking.ndcg(perfect, k), 1)


def test_a_query_with_nothing_to_find_does_not_count():
    ranked = np.array([[0.0, 0.0], [0.0, 1.0]])
    assert np.isnan(ranking.ndcg(ranked, 2)[0])
    assert np.isnan(ranking.average_precision(ranked, 2)[0])
    assert ranking.average_precision(ranked, 2)[1] == 0.5
    data = vectors.data(np.array([[True], [True]]), ["test", "test"])
    from probes.tasks import TASKS

    values = ranking.measures(ranked, CUTOFFS)
    task = TASKS["retrieval"]
    assert task.score("map@10", data.targets, values) == 0.5
    found = task.answers(data, np.arange(2), values).metrics(np.ones(2))
    assert found["map@10"] == 0.5
    assert np.isnan(found["map@100"])  # above the gallery: would repeat map@10


def test_chance_is_the_mean_over_orders():
    rng = np.random.default_rng(0)
    gains = rng.integers(0, 3, (5, 9)).astype(float)
    shuffled = [rng.permuted(gains, axis=1) for _ in range(4000)]
    mean = np.mean([ranking.ndcg(one, 4).mean() for one in shuffled])
    assert ranking.chance(gains, 4) == pytest.approx(mean, abs=0.005)


def test_equal_cosines_do_not_come_in_the_order_of_the_gallery():
    same = np.ones((200, 3))
    found = ranking.order(same[:2], same, seed=0)
    assert np.array_equal(np.sort(found[0]), np.arange(200))
    assert abs(np.corrcoef(found[0], np.arange(200))[0, 1]) < 0.2
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(4, 3)), rng.normal(size=(50, 3))
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (queries, gallery)]
    want = np.argsort(-(unit[0] @ unit[1].T), axis=1)
    assert np.array_equal(ranking.order(queries, gallery, 0), want)


def pairs_of(task):
    x, data = vectors.eight(task)
    return x, data, vectors.benchmark("retrieval", "ndcg@10", query=("m",), gallery=("m",))


@pytest.mark.parametrize("task", ["class", "multilabel"])
def test_finds_eight_samples_by_features_that_are_their_labels(task):
    _, data, benchmark = pairs_of(task)
    targets = np.asarray(data.targets, float)
    x = targets if targets.ndim == 2 else np.eye(3)[data.targets]
    if task == "multilabel":  # cosine orders by shared labels when samples hold as many
        data.targets[:] = np.tile(np.repeat(np.eye(4, dtype=bool), 2, 0), (3, 1))
        x = data.targets.astype(float)
    job = standin.job(SETTINGS, benchmark, data, x)
    outcome = retrieval.run(job)
    assert job.score(data.of("test"), outcome.predictions) >= 0.99
    assert outcome.selection is None
    assert "nothing is trained or chosen" in outcome.notes[0]


def test_labels_of_test_choose_nothing_and_queries_are_not_in_the_gallery():
    x, data, benchmark = pairs_of("class")
    outcome = retrieval.run(standin.job(SETTINGS, benchmark, data, x))
    assert "8 test queries" in outcome.notes[0]
    assert "gallery of 16 train and val" in outcome.notes[0]
    moved = x.copy()
    moved[data.of("test")[1:]] += 5  # other queries leave the first one's ranking alone
    again = retrieval.run(standin.job(SETTINGS, benchmark, data, moved))
    np.testing.assert_array_equal(again.predictions[0], outcome.predictions[0])


class TwoViews(nn.Module):
    """Encodes each sensor alone, and refuses to be given both."""

    def __init__(self, sar_sign=1.0):
        super().__init__()
        sensors = (fm.sensor("sentinel2-l2a"), fm.sensor("sentinel1-grd"))
        self.bands = {m: b for s in sensors for m, b in s.modalities.items()}
        self.register_buffer("sign", torch.tensor(sar_sign))
        self.seen = []

    def encode(self, pixels, **_):
        self.seen.append(tuple(pixels))
        level = pixels[next(iter(pixels))].float().mean((1, 2, 3))
        sar = "s1grd_10" in pixels
        level = level * self.sign if sar else level
        angle = level / (10 if sar else 10_000)
        return SimpleNamespace(pooled=torch.stack([angle.cos(), angle.sin()], 1), tokens=None)


def test_views_are_encoded_alone(pairs):
    model = TwoViews()
    names = ["bigearthnet-retrieval-s1-s2", "bigearthnet-retrieval-s1"]
    results = []
    for name, protocol in zip(names, ("retrieval-across", "retrieval"), strict=True):
        results += evaluate_many(model, name, [protocol], data=pairs, with_floors=False)
    optical = ("s2l2a_10", "s2l2a_20", "s2l2a_60")
    assert set(model.seen) == {("s1grd_10",), optical}
    across = results[0]
    assert across.primary == "ndcg@10"
    assert set(across.metrics) == {"ndcg@10", "map@10"}
    assert across.selection is None
    notes = " ".join(across.benchmark["notes"])
    assert "(s1grd_10), gallery of 12" in notes
    assert "random order has an expected ndcg@10" in notes
    assert len(across.per_class) == 19


class Fed(Job):
    """Features that say how pixels came to the model, of one view each time."""

    def features(self):
        [view] = self.data.bands
        self.account.axes = {"bands": [view]}
        self.account.notes = [f"a warning of {view}", "one of both"]
        return np.random.default_rng(0).normal(size=(len(self.data.targets), 3))


def test_what_is_told_of_either_view_is_kept():
    targets = np.arange(12) % 3
    both = vectors.data(targets, ["train", "val", "test"] * 4)
    pair = {"s1": ("b",), "s2": ("b",)}
    data = replace(both, bands=pair, scaling=dict.fromkeys(pair, (1.0, 0.0)))
    benchmark = vectors.benchmark("retrieval", "ndcg@10", query=("s1",), gallery=("s2",))
    job = Fed(SETTINGS, benchmark, data, None, 0, None, "test")
    retrieval.run(job)
    assert job.account.axes == {"bands": ["s2"], "query": {"bands": ["s1"]}}
    assert job.account.notes == ["a warning of s1", "one of both", "a warning of s2"]


def test_floors_on_pixels_where_views_can_be_compared(pairs):
    rows = evaluate_many(None, "bigearthnet-retrieval", ["retrieval-image-statistics"], data=pairs)
    # the level of the image tells its labels in this made set
    assert rows[0].value > 0.6
    with pytest.raises(UsageError, match="pixels of two sensors cannot be compared"):
        evaluate_many(
            None, "bigearthnet-retrieval-s1-s2", ["retrieval-image-statistics"], data=pairs
        )
    benchmark = get_benchmark("bigearthnet-retrieval-s1-s2")
    data = benchmark.load(pairs)
    floor = Retrieval(family="retrieval", center=True, input="image-statistics")
    with pytest.raises(UsageError, match="the gallery 24"):
        retrieval.run(Job(floor, benchmark, data, None, 0, None, "floor"))


def test_names_follow_the_cutoffs():
    assert NAMES == ("ndcg@10", "ndcg@100", "ndcg@1000", "map@10", "map@100", "map@1000")


@pytest.mark.data
def test_real_pairs(package_cache, tmp_path):
    content = get_source("bigearthnet").read(Namespace(cache=package_cache, include_flagged=False))
    folder = written(content, tmp_path / "ds").place
    name = "bigearthnet-retrieval-s1-s2"
    [across] = evaluate_many(TwoViews(), name, ["retrieval-across"], data=folder, with_floors=False)
    assert 0.3 < across.value < 1
    counts = [across.benchmark[f"n_{split}"] for split in ("train", "val", "test")]
    assert counts == [6, 6, 6]
