import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.neighbors import NearestCentroid

from probes.benchmarks import get_benchmark
from probes.families import fewshot
from probes.families.job import Job
from probes.families.labels import digest, draw
from probes.judging.evaluation import evaluate_many
from probes.protocols import get_protocol
from probes.settings import Fewshot
from probes.solvers import prototypes
from probes.statistics.bootstrap import intervals, paired
from probes.statistics.tries import Tries, TryAnswers
from probes.tasks import TASKS
from tests.probes import standin, vectors

LINEAR = {"head": "linear", "c": {"low": 1e-2, "high": 1e6, "count": 3}}
HEADS = [{"head": "prototype"}, {"head": "knn", "k": (1, 3)}, LINEAR]


def settings(tries=2, per_class=3, **head):
    return Fewshot(family="fewshot", tries=tries, per_class=per_class, **head)


def clouds(count=120):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, count)
    x = rng.normal(size=(3, 5))[targets] + rng.normal(size=(count, 5))
    return x, vectors.data(targets, np.repeat(["train", "val", "test"], count // 3))


@pytest.mark.parametrize("head", HEADS, ids=lambda h: h["head"])
@pytest.mark.parametrize("task", ["class", "multilabel"])
def test_overfits_eight_samples(task, head):
    x, data = vectors.eight(task)
    if head["head"] == "prototype":  # means of classes need classes that have a place
        x = np.asarray(data.targets, float)
        x = 2 * x - 1 if x.ndim == 2 else np.eye(3)[data.targets]
    job = standin.job(
        settings(per_class=8, **head), vectors.benchmark(task, vectors.PRIMARY[task]), data, x
    )
    outcome = fewshot.run(job)
    assert outcome.predictions.shape == (2, 8, len(data.classes))
    for one in outcome.predictions:
        assert job.score(data.of("test"), one) >= 0.99


def test_lists_are_told_and_one_value_is_chosen_for_all_tries():
    x, data = clouds()
    job = standin.job(settings(tries=3, **LINEAR), vectors.benchmark("class", "oa"), data, x)
    outcome = fewshot.run(job)
    lists = [
        draw(data, data.of("train"), per_class=3, fraction=None, seed=0, attempt=a)
        for a in range(3)
    ]
    assert len({digest(data, rows) for rows in lists}) == 3
    for rows in lists:
        assert digest(data, rows) in outcome.notes[0]
    assert outcome.notes[0].startswith("trained on 9 of 40 training samples")
    assert "intervals draw tries and images" in outcome.notes[1]
    each = []
    for a in range(3):
        alone, _ = fewshot.fit(
            job.settings, outcome.selection["grid"], x, data, lists[a], search=True
        )
        each.append([job.score(data.of("val"), s) for s in alone(data.of("val"))])
    np.testing.assert_allclose(outcome.selection["scores"], np.mean(each, 0))
    before = outcome.selection
    data.targets[data.of("test")] = 0
    assert fewshot.run(job).selection == before


def test_a_metric_is_the_mean_of_the_tries_and_its_interval_holds_their_spread():
    _, data = clouds()
    test = data.of("test")
    task = Tries(TASKS["class"])
    rng = np.random.default_rng(1)
    predictions = rng.normal(size=(4, len(test), 3)) + 1.5 * np.eye(3)[data.targets[test]]
    predictions[2] = -predictions[2]  # one list that went wrong
    answers = task.answers(data, test, predictions)
    single = [TASKS["class"].answers(data, test, one) for one in predictions]
    found = intervals(answers, 0)["oa"]
    want = [float(one.metrics(np.ones(one.units))["oa"]) for one in single]
    assert found["value"] == pytest.approx(np.mean(want))
    narrow = intervals(TryAnswers([single[0]] * 4), 0)["oa"]
    assert found["high"] - found["low"] > 1.3 * (narrow["high"] - narrow["low"])
    same = intervals(single[0], 0)["oa"]
    assert narrow == pytest.approx(same)
    nothing = paired(answers, task.answers(data, test, predictions), "oa", 0)
    assert (nothing["difference"], nothing["low"], nothing["high"]) == (0, 0, 0)
    rows, matrix = task.details(data, answers, predictions)
    assert np.sum(matrix) == 4 * len(test)
    recall = [one.sums.sum(0)[0, 0] / one.sums.sum(0)[0].sum() for one in single]
    assert rows[0]["recall"] == pytest.approx(np.mean(recall))
    assert rows[0]["class"] == "c0"


def test_prototypes_are_nearest_centroids():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)), rng.integers(0, 3, 30)
    found = prototypes.fit(x, y, 4)
    q = rng.normal(size=(50, 4))

    def unit(a):
        a = a - x.mean(0)
        return a / np.linalg.norm(a, axis=1, keepdims=True)

    reference = NearestCentroid().fit(unit(x), y)
    scores = found.scores(q)
    assert np.array_equal(scores.argmax(1), reference.predict(unit(q)))
    assert (scores[:, 3] == -np.inf).all()
    distance = ((unit(q)[:, None] - reference.centroids_[None]) ** 2).sum(2)
    np.testing.assert_allclose(-scores[:, :3], distance, atol=1e-12)


def test_prototypes_of_labels_compare_those_with_and_without():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4))
    y = np.stack([x[:, 0] > 0, np.zeros(40, bool), np.ones(40, bool)], 1)
    scores = prototypes.fit(x, y, 3).scores(x)
    assert ((scores[:, 0] > 0) == y[:, 0]).mean() > 0.85
    assert (scores[:, 1] < scores[:, 0].min()).all()
    assert (scores[:, 2] > scores[:, 0].max()).all()


def test_settings_that_do_not_go_together_are_refused():
    for wrong in (
        {"head": "knn"},
        {"head": "prototype", "k": (1,)},
        {"head": "knn", "k": (3, 1)},
        {"head": "prototype", "fraction": 0.1},
        {"head": "prototype", "per_class": None},
    ):
        with pytest.raises(ValidationError):
            settings(**wrong)


def test_rows_and_their_floors_share_the_lists(blocks):
    [result] = evaluate_many(
        standin.Encoder(), "indian-pines", ["fewshot-prototype"], data=blocks, with_floors=False
    )
    benchmark = get_benchmark("indian-pines")
    floor = settings(tries=5, per_class=5, input="image-statistics", **LINEAR)
    job = Job(floor, benchmark, benchmark.load(blocks), None, 0, None, "floor")
    assert fewshot.run(job).notes[0] in result.benchmark["notes"]
    assert np.sum(result.confusion) == 5 * result.benchmark["n_test"]
    shipped = [get_protocol(f"fewshot-{name}").settings for name in ("linear", "raw-pixel")]
    assert len({(s.per_class, s.fraction, s.tries) for s in shipped}) == 1
