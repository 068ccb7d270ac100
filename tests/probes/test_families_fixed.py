"""Families on frozen features with a closed form or one optimum: knn, ridge, linear."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from fm.errors import FMError
from probes.benchmarks.base import Benchmark, Data
from probes.families import knn, linear, ridge
from probes.families.labels import digest, subset
from probes.judging import diagnostics
from probes.protocols import get_protocol
from probes.settings import Grid
from tests.probes import standin

N = 150
TRAIN, VAL, TEST = (np.arange(N) % 3 == k for k in range(3))


def _job(protocol, task, targets, primary, x, **changes):
    names = {"class": 3, "multilabel": 3, "regression": 2}
    data = Data(
        read=lambda index: None,
        targets=targets,
        split=np.array(["train", "val", "test"])[np.arange(N) % 3],
        unit=np.arange(N),
        shards=np.array([f"s{i}" for i in range(N)]),
        classes=tuple(f"t{k}" for k in range(names[task])),
        bands={},
        scaling={},
        dataset="given",
        manifest_hash="0" * 64,
        folder=Path(),
    )
    benchmark = Benchmark(
        name="given",
        version=1,
        help="",
        source="",
        task=task,
        primary=primary,
        unit="image",
        split="",
        verified="",
        load=lambda folder: data,
    )
    settings = get_protocol(protocol).settings.model_copy(update=changes)
    return standin.job(settings, benchmark, data, x)


def _name(family):
    return family.__name__.rpartition(".")[2]


@pytest.fixture
def given():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 6)) * np.geomspace(1, 10, 6) + 4
    clean = (x - x.mean(0)) @ rng.normal(size=(6, 3))  # three classes of some size each
    return x, clean + rng.normal(size=(N, 3)) * 3


def test_ridge_chooses_alpha_on_val_and_scores_sklearns_predictions(given):
    x, y = given
    y = y[:, :2].copy()
    found = ridge.run(_job("ridge@1", "regression", y, "r2", x))
    scale = StandardScaler().fit(x[TRAIN])
    a, b, c = (scale.transform(x[rows]) for rows in (TRAIN, VAL, TEST))
    grid = np.geomspace(1e8, 1e-4, 25)
    on_val = [r2_score(y[VAL], Ridge(alpha=g).fit(a, y[TRAIN]).predict(b)) for g in grid]
    np.testing.assert_allclose(found.selection["scores"], on_val, rtol=1e-7, atol=1e-9)
    best = float(grid[int(np.argmax(on_val))])
    assert found.selection["chosen"] == pytest.approx(best)
    assert found.selection["refit"] == "train only"
    peer = Ridge(alpha=best).fit(a, y[TRAIN])
    np.testing.assert_allclose(found.predictions, peer.predict(c), rtol=1e-8)
    np.testing.assert_allclose(found.predict(x[TEST]), found.predictions)


def test_ridge_fitted_again_on_train_and_val_says_so(given):
    x, y = given
    y = y[:, :2].copy()
    found = ridge.run(_job("ridge@1", "regression", y, "r2", x, refit="train+val"))
    rows = np.concatenate([np.flatnonzero(TRAIN), np.flatnonzero(VAL)])
    scale = StandardScaler().fit(x[rows])
    peer = Ridge(alpha=found.selection["chosen"]).fit(scale.transform(x[rows]), y[rows])
    np.testing.assert_allclose(found.predictions, peer.predict(scale.transform(x[TEST])), rtol=1e-8)
    assert found.selection["refit"] == "train and val"


@pytest.mark.parametrize("task", ["class", "multilabel"])
def test_ridge_answers_classes_and_labels(given, task):
    x, y = given
    targets = y.argmax(1) if task == "class" else y > y.mean(0)
    metric = "oa" if task == "class" else "map"
    job = _job("ridge@1", task, targets, metric, x)
    assert job.score(np.flatnonzero(TEST), ridge.run(job).predictions) > 0.7


def test_a_choice_at_the_end_of_its_grid_is_noted(given):
    x, y = given
    targets = y.argmax(1)
    high = Grid(low=1e6, high=1e9, count=3)
    notes = ridge.run(_job("ridge@1", "class", targets, "oa", x, alpha=high)).notes
    assert any("end of its grid" in note for note in notes)
    low = Grid(low=1e-9, high=1e-7, count=3)
    notes = linear.run(_job("linear@1", "class", targets, "oa", x, c=low)).notes
    assert any("C=1e-07 is the upper end of its grid" in n or "lower end" in n for n in notes)


@pytest.mark.parametrize("family", [knn, linear, ridge], ids=["knn", "linear", "ridge"])
def test_nothing_is_chosen_without_a_score_on_val(given, family):
    x, y = given
    job = _job(_name(family), "multilabel", y > y.mean(0), "map", x)
    job.data.targets[VAL] = False  # average precision needs a positive
    with pytest.raises(FMError, match="cannot be chosen: nothing that was tried"):
        family.run(job)


@pytest.mark.parametrize("family", [knn, linear, ridge], ids=["knn", "linear", "ridge"])
def test_the_list_of_few_labels_is_told(given, family):
    x, y = given
    job = _job(_name(family), "class", y.argmax(1), "oa", x, per_class=5)
    rows = subset(job.data, job.data.of("train"), 5, job.seed)
    told = f"trained on 15 of 50 training samples, list (sha256): {digest(job.data, rows)}"
    assert told in family.run(job).notes
    whole = _job(_name(family), "class", y.argmax(1), "oa", x)
    assert not any("sha256" in note for note in family.run(whole).notes)


def test_a_model_fitted_on_val_has_no_temperature(given):
    x, y = given
    job = _job("dinov2-logreg@1", "class", y.argmax(1), "oa", x)
    found = diagnostics.measure(job, linear.run(job))["calibration"]
    assert found["before"]["nll"] > 0
    assert (found["temperature"], found["after"], found["fitted_on"]) == (None, None, None)
    job = _job("linear@1", "class", y.argmax(1), "oa", x)
    assert diagnostics.measure(job, linear.run(job))["calibration"]["fitted_on"] == "val"


def test_dinov2s_regression_is_sklearns_on_train_and_val_as_they_are(given):
    x, y = given
    targets = y.argmax(1)
    found = linear.run(_job("dinov2-logreg@1", "class", targets, "oa", x))
    np.testing.assert_allclose(found.selection["grid"], 10 ** np.linspace(-6, 5, 45), rtol=1e-12)
    assert found.selection["refit"] == "train and val"
    rows = np.flatnonzero(TRAIN | VAL)
    chosen = found.selection["chosen"]
    peer = LogisticRegression(C=chosen, tol=1e-9, max_iter=50_000).fit(x[rows], targets[rows])
    want = peer.decision_function(x[TEST])
    have = found.predictions
    np.testing.assert_allclose(
        have - have.mean(1, keepdims=True), want - want.mean(1, keepdims=True), rtol=1e-3, atol=1e-3
    )


def test_neighbours_answer_numbers_and_choose_the_scaling_on_val(given):
    x, y = given
    values = y[:, :2].copy()
    found = knn.run(_job("ssl4eco-knn@1", "regression", values, "r2", x))
    assert found.predictions.shape == (TEST.sum(), 2)
    assert found.scale is None
    assert found.selection["grid"] == [1, 5, 10, 20, 30]
    # a column that only scaling brings to bear
    helped = np.c_[x[:, :1] * 0 + 1000 * np.random.default_rng(1).normal(size=(N, 1)), y]
    job = _job("corley-knn5-fixed@1", "class", y.argmax(1), "oa", helped)
    assert knn.run(job).selection["chosen"] == "standard, 5"
