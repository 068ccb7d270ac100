"""A score that a warning is of is shown with it wherever it stands, and helps nobody win."""

import csv
import io

import pytest

from probes.leaderboard import board, exchange, export, records, standing
from tests.probes.fixture_results import SCORES, fixture_result, full_result, save, versus
from tests.probes.site_pages import build, pages

TEXT = "what the model is given is far from normalised (B02 12 ± 3): check units and normaliser"
MARK = "in doubt"


def doubted(name="fixture-mae", benchmark="fixture-fields", **changes):
    result = full_result(name, benchmark, **changes)
    result["benchmark"] |= {"notes": ["of 2024", f"WARNING: {TEXT}"]}
    return result


@pytest.fixture
def results():
    best = doubted("fixture-cnn")
    best["metrics"]["oa"] = {"value": 0.97, "low": 0.95, "high": 0.98}
    sound = [full_result(name) for name in ("fixture-mae", "fixture-random", "fixture-stats")]
    for result in sound:
        result["benchmark"] |= {"notes": ["of 2024"]}
    return [best, *sound]


def test_every_table_says_so(tmp_path, results):
    site = build(tmp_path, *results)
    made = pages(site)
    front = made["index.html"].said
    assert front.count(MARK) >= 2  # grid and list
    benchmark = made["benchmarks/fixture-fields-1.html"].said
    assert benchmark.count(f"fixture-cnn supervised ⚠ {MARK}") == 1
    model = made["models/fixture-cnn.html"].said
    assert model.index(TEXT) < model.index("Every cell")
    assert made["models/fixture-mae.html"].said.count(MARK) == 0
    text = (site / "leaderboard.md").read_text()
    assert f"({MARK}: what the model is given" in text
    rows = {row["model"]: row for row in csv.DictReader((site / "leaderboard.csv").open())}
    assert rows["fixture-cnn"]["in_doubt"] == TEXT
    assert rows["fixture-mae"]["in_doubt"] == ""


def test_notes_of_one_result_are_not_facts_of_the_benchmark(tmp_path, results):
    facts = pages(build(tmp_path, *results))["benchmarks/fixture-fields-1.html"].said
    assert "note of 2024" in facts
    assert "note WARNING" not in facts
    assert TEXT not in facts


def test_it_is_not_the_best_of_its_column(tmp_path, results):
    front = (build(tmp_path, *results) / "index.html").read_text()
    grid = front[front.index('id="grid"') :].partition("</table>")[0]
    assert 'class="best"' not in grid  # of two models one is sound
    assert "0.970" in grid


def test_it_helps_no_pretraining_and_no_standing(tmp_path):
    results = []
    for benchmark in ("fixture-fields", "fixture-radar"):
        for name in SCORES:
            results.append(full_result(name, benchmark))
            results[-1]["benchmark"]["dataset"] = benchmark
    results[0] = doubted()
    results[0]["benchmark"]["dataset"] = "fixture-fields"
    results[0]["versus"] = [versus(0.05, 0.01, 0.09)]
    made = board.of(records.load(save(tmp_path, *results)))
    verdicts = [row.verdict for group in made.groups for row in group.pretrained]
    assert [verdict.outcome for verdict in verdicts] == ["unknown", "beat"]
    assert "in doubt" in verdicts[0].text
    (item,) = standing.standings(made)
    assert "fixture-mae" not in [entry.label for entry, _ in item.rows]
    assert item.left_out["fixture-mae"] == "a score of it is in doubt"


def test_layouts_without_a_place_for_a_warning_leave_it_out(tmp_path, results):
    made = board.of(records.load(save(tmp_path, *results)))
    held = {row["model"] for row in csv.DictReader(io.StringIO(exchange.evaluma(made)))}
    assert held == {"fixture-mae", "fixture-random", "fixture-stats"}
    frozen = exchange.geobench2(made)["frozen/results_and_parameters.csv"]
    assert "fixture-cnn" not in frozen
    assert "fixture-cnn" in export.as_csv(made)


def test_what_was_changed_is_told_even_of_a_single_result(tmp_path):
    """A normaliser that is not the model's own stood in the details alone."""
    result = full_result()
    result["axes"] |= {"normaliser": "identity", "changed": {"normaliser": "identity"}}
    (group,) = board.of(records.load(save(tmp_path / "records", result))).groups
    assert [row.name for row in group.rows] == ["fixture-mae · normaliser identity"]


def test_a_result_without_notes_is_sound(tmp_path):
    (record,) = records.load(save(tmp_path, fixture_result()))
    assert record.doubts == ()
