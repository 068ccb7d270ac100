"""What stands in one table, in what order, and the verdict on pretraining."""

import pytest

from probes import leaderboard
from probes.leaderboard import metrics, records, table
from tests.probes.fixture_results import (
    KINDS,
    SCORES,
    fixture_result,
    full_result,
    save,
    versus,
)
from tests.probes.site_pages import build, pages


@pytest.mark.parametrize(
    ("against", "metric", "outcome", "words"),
    [
        ((0.052, 0.011, 0.094), "oa", "beat", "beat the random-initialised backbone by +0.052"),
        ((0.052, 0.0, 0.094), "oa", "even", "+0.052 [0.000, +0.094] OA; the interval includes 0"),
        ((-0.01, -0.05, 0.02), "oa", "even", "did not beat"),
        ((-0.06, -0.1, -0.02), "oa", "worse", "was worse"),
        ((-0.06, -0.1, -0.02), "rmse", "beat", "−0.060 [−0.100, −0.020] RMSE (lower is better)"),
        ((0.06, 0.02, 0.1), "rmse", "worse", "was worse"),
        ((0.06, None, None), "oa", "unknown", "without an interval"),
    ],
)
def test_verdict_says_what_the_interval_says(tmp_path, against, metric, outcome, words):
    result = fixture_result(primary=metric)
    result["metrics"]["rmse"] = {"value": 0.4, "low": 0.3, "high": 0.5}
    result["versus"] = [versus(*against, metric=metric)]
    path = save(tmp_path, result)
    (group,) = table.groups(records.load(path))
    assert group.rows[0].verdict.outcome == outcome
    assert words in group.rows[0].verdict.text
    site = build(tmp_path / "page", result)
    assert words in pages(site)["models/fixture-mae.html"].said


def test_verdict_needs_a_comparison_on_the_primary_metric(tmp_path):
    result = fixture_result(versus=[versus(0.3, 0.2, 0.4, metric="aa")])
    (group,) = table.groups(records.load(save(tmp_path, result)))
    assert group.rows[0].verdict.outcome == "unknown"
    assert group.rows[0].random_init is None


def test_of_several_random_initialisations_the_hardest_counts(tmp_path):
    several = [versus(0.09, 0.05, 0.12, name="s0"), versus(0.01, -0.02, 0.04, name="s1")]
    (group,) = table.groups(records.load(save(tmp_path, fixture_result(versus=several))))
    assert group.rows[0].random_init.name == "s1"
    assert group.rows[0].verdict.outcome == "even"


def test_an_interval_that_misses_zero_is_never_written_as_touching_it():
    assert metrics.change(0.0007, 0.0002, 0.0012) == "+0.0007 [+0.0002, +0.0012]"
    assert metrics.change(0.05, 0.011, 0.09) == "+0.050 [+0.011, +0.090]"
    assert metrics.change(-0.05, -0.1, 0.0) == "−0.050 [−0.100, 0.000]"


def test_rows_are_ranked_best_first_in_either_direction(tmp_path):
    results = [fixture_result(name) for name in SCORES]
    (group,) = table.groups(records.load(save(tmp_path / "oa", *results)))
    values = [row.value for row in group.rows]
    assert values == sorted(values, reverse=True)
    for at, result in enumerate(results):
        result["primary"] = "rmse"
        result["metrics"]["rmse"] = {"value": 3.0 - at, "low": None, "high": None}
        result["versus"] = []
    (group,) = table.groups(records.load(save(tmp_path / "rmse", *results)))
    assert [row.value for row in group.rows] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("section", "key", "other"),
    [
        ("benchmark", "manifest_hash", "cd" * 16),
        ("benchmark", "split", "random"),
        ("benchmark", "n_test", 10),
        ("benchmark", "version", "2"),
        ("protocol", "version", "2"),
    ],
)
def test_scores_on_other_data_or_recipes_are_not_ranked_together(tmp_path, section, key, other):
    odd = fixture_result("fixture-random")
    odd[section][key] = other
    made = table.groups(records.load(save(tmp_path, fixture_result(), odd)))
    assert [len(group.rows) for group in made] == [1, 1]
    assert len({group.title for group in made}) == 2


def test_floors_stand_beside_every_protocol_of_their_benchmark_and_once_in_the_csv(tmp_path):
    floor = fixture_result("fixture-stats", protocol="image-statistics")
    probed = [fixture_result(protocol=name) for name in ("linear", "knn")]
    elsewhere = fixture_result(benchmark="fixture-radar")
    folder = save(tmp_path / "results", floor, elsewhere, *probed)
    made = table.groups(records.load(folder))
    assert {group.title: len(group.rows) for group in made} == {
        "fixture-fields · knn": 2,
        "fixture-fields · linear": 2,
        "fixture-radar · linear": 1,
    }
    paths = leaderboard.build(folder, tmp_path / "board")
    assert len(paths["csv"].read_text().splitlines()) == 1 + 4
    details = [
        attrs["id"]
        for page in pages(tmp_path / "board").values()
        for tag, attrs in page.tags
        if tag == "details" and "id" in attrs
    ]
    assert len(details) == len(set(details)) == 4


def test_floors_alone_make_one_group(tmp_path):
    names = {"fixture-stats": "image-statistics", "fixture-pixel": "raw-pixel"}
    SCORES["fixture-pixel"], KINDS["fixture-pixel"] = 0.78, "floor"
    try:
        floors = [fixture_result(name, protocol=protocol) for name, protocol in names.items()]
    finally:
        del SCORES["fixture-pixel"], KINDS["fixture-pixel"]
    (group,) = table.groups(records.load(save(tmp_path, *floors)))
    assert group.title == "fixture-fields · floors"
    assert len(group.rows) == 2


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.15, 0.23, "It beat every floor: fixture-floor."),
        (-0.3, -0.1, "It did not beat fixture-floor (−0.200 [−0.300, −0.100])."),
        (-0.5, 0.1, "It did not beat fixture-floor (−0.200 [−0.500, +0.100])."),
    ],
)
def test_verdict_also_tells_of_the_floors(tmp_path, low, high, words):
    against = [versus(0.05, 0.01, 0.09), versus((low + high) / 2, low, high, kind="floor")]
    (group,) = table.groups(records.load(save(tmp_path, fixture_result(versus=against))))
    assert group.rows[0].verdict.outcome == "beat"
    assert group.rows[0].verdict.text.endswith(words)


def test_seeds_are_named_only_where_they_differ(tmp_path):
    again = fixture_result(seed=1, id="fixture-again")
    (group,) = table.groups(records.load(save(tmp_path, fixture_result(), again)))
    assert sorted(row.name for row in group.rows) == [
        "fixture-mae (seed 0)",
        "fixture-mae (seed 1)",
    ]


def test_other_weights_of_one_name_are_another_model(tmp_path):
    other = fixture_result(id="fixture-other")
    other["model"]["weights_sha256"] = "ee" * 32
    (group,) = table.groups(records.load(save(tmp_path, fixture_result(), other)))
    assert sorted(row.name for row in group.rows) == [
        "fixture-mae (weights 0f0f0f0f)",
        "fixture-mae (weights eeeeeeee)",
    ]
    assert len({row.page for row in group.rows}) == 2


def test_one_name_of_two_kinds_is_two_models(tmp_path):
    other = fixture_result(id="fixture-other")
    other["model"] |= {"kind": "supervised", "weights_sha256": None}
    (group,) = table.groups(records.load(save(tmp_path, fixture_result(), other)))
    assert {row.name for row in group.rows} == {
        "fixture-mae (pretrained)",
        "fixture-mae (supervised)",
    }


def test_axes_of_one_model_are_rows_of_their_own_told_by_what_differs(tmp_path):
    small, large = full_result(), full_result(id="fixture-large")
    small["axes"] |= {"resize": 64, "bands": {"names": ["red"], "missing": "zero"}}
    alone = full_result(benchmark="fixture-radar")
    made = table.groups(records.load(save(tmp_path, small, large, alone)))
    assert {row.label for row in made[0].rows} == {
        "fixture-mae · resize 64",
        "fixture-mae · resize 224",
    }
    assert len({row.page for group in made for row in group.rows}) == 1


def test_axes_that_follow_from_a_changed_one_are_not_named(tmp_path):
    own, changed = full_result(), full_result(id="fixture-changed")
    own["axes"] |= {"resize": None, "scale": 1.5, "changed": {}}
    changed["axes"] |= {"resize": 64, "scale": 0.4, "changed": {"resize": 64}}
    (group,) = table.groups(records.load(save(tmp_path, own, changed)))
    assert {row.label for row in group.rows} == {
        "fixture-mae · resize native",
        "fixture-mae · resize 64",
    }


def test_a_percentage_is_refused(tmp_path):
    result = fixture_result()
    result["metrics"]["oa"] = {"value": 81.2, "low": 80.0, "high": 82.0}
    (line,) = leaderboard.check(save(tmp_path, result))
    assert "key 'metrics.oa': 82 is above 1, the best there is; give a fraction" in line
