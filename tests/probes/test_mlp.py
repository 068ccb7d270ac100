import numpy as np
import pytest

from probes.families import mlp
from probes.protocols import get_protocol
from probes.settings import Mlp
from tests.probes import standin, vectors

SETTINGS = {"family": "mlp", "hidden": 32, "rates": (1e-3, 1e-2), "patience": 5, "period": 20}
SHORT = {**SETTINGS, "rates": (1e-2,), "evaluations": 20}


@pytest.mark.parametrize("task", ["class", "multilabel", "regression"])
def test_overfits_eight_samples(task):
    x, data = vectors.eight(task)
    benchmark = vectors.benchmark(task, vectors.PRIMARY[task])
    job = standin.job(Mlp(**SHORT), benchmark, data, x)
    outcome = mlp.run(job)
    assert job.score(data.of("train"), outcome.predict(x[data.of("train")])) >= 0.99
    assert job.score(data.of("test"), outcome.predictions) >= 0.99


def ring(count=240):
    """A class inside a ring: no linear head can tell it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 2))
    targets = ((x**2).sum(1) > 1.4).astype(int)
    return x, vectors.data(targets, np.repeat(["train", "val", "test"], count // 3))


def test_learns_what_no_linear_head_can():
    x, data = ring()
    job = standin.job(Mlp(**SETTINGS), vectors.benchmark("class", "oa"), data, x)
    outcome = mlp.run(job)
    assert job.score(data.of("test"), outcome.predictions) > 0.9
    # the weights that are used are those whose val score the selection tells
    chosen = outcome.selection["scores"][
        outcome.selection["grid"].index(outcome.selection["chosen"])
    ]
    assert job.score(data.of("val"), outcome.val) == chosen


def test_training_ends_when_val_stops_improving():
    x, data = ring()
    settings = Mlp(**{**SETTINGS, "rates": (1e-2,), "patience": 3})
    outcome = mlp.run(standin.job(settings, vectors.benchmark("class", "oa"), data, x))
    at, seen = (int(word) for word in outcome.notes[0].split() if word.isdigit())
    assert seen == at + 3 < settings.evaluations
    cut = Mlp(**{**SETTINGS, "rates": (1e-5,), "evaluations": 2})
    outcome = mlp.run(standin.job(cut, vectors.benchmark("class", "oa"), data, x))
    assert "ended at its limit of 2 evaluations" in outcome.notes[1]


def test_rates_do_not_mix():
    x, data = ring()
    benchmark = vectors.benchmark("class", "oa")
    given = {**SETTINGS, "evaluations": 6}
    both = mlp.run(standin.job(Mlp(**given), benchmark, data, x)).selection["scores"]
    for place, rate in enumerate(SETTINGS["rates"]):
        settings = Mlp(**{**given, "rates": (rate,)})
        alone = mlp.run(standin.job(settings, benchmark, data, x)).selection["scores"]
        assert alone[0] == pytest.approx(both[place], abs=0.03)


def test_shipped_protocol():
    settings = get_protocol("mlp").settings
    assert (settings.family, settings.patience) == ("mlp", 10)
