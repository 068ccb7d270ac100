"""Whose answers TorchSpatial's scores are made of in the study of location encoders."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from bench.studies import location
from probes.location import surprise
from probes.location.points import Places
from probes.location.suite import Table
from probes.location.tasks import BY_NAME


def test_scores_are_of_the_answers_in_classes_of_each_seed() -> None:
    rng = np.random.default_rng(0)
    lonlat = np.array([12.0, 45.0]) + rng.uniform(-20, 20, (120, 2))
    truth = rng.integers(0, 3, 120)
    places = Places("land", lonlat, {"koppen": truth}, {"koppen": ("a", "b", "c")})
    test = np.arange(20, 120)

    def cell(split: str, wrong: int) -> Any:
        predicted = truth[test].copy()
        predicted[:wrong] += 1
        task = SimpleNamespace(name="koppen", places="land")
        parts = SimpleNamespace(test=test)
        return SimpleNamespace(task=task, split=split, parts=parts, predicted=predicted)

    asked = [cell("random", 10), cell("random", 40), cell("blocks", 20)]
    table = cast(Table, SimpleNamespace(cells={"sh40": asked}))
    found = location.surprises(table, {"land": places})
    assert [(row["encoder"], row["split"]) for row in found] == [
        ("sh40", "blocks"),
        ("sh40", "random"),
    ]
    for row, wrongs in zip(found, ([20], [10, 40]), strict=True):
        for i, wrong in enumerate(wrongs):
            want = surprise.scores(np.arange(100) >= wrong, lonlat[test], location.RADIUS_KM)
            assert abs(row["unmarked"][i] - want["unmarked"]) < 1e-4
            assert abs(row["marked"][i] - want["marked"]) < 1e-4


def test_they_are_asked_of_classes_alone() -> None:
    assert all(BY_NAME[name].kind == "class" for name in location.SURPRISE[1])
