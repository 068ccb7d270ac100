"""What the pages say: gaps, seeds, standings on complete cells, floors beside, classes, plots."""

import re

import numpy as np
import pytest

from fm.page import axis
from probes.leaderboard import board, plot, records, scatter, standing
from probes.result import Result
from tests.probes.fixture_results import (
    CLASSES,
    SCORES,
    board_folder,
    fixture_result,
    full_result,
    save,
    versus,
)
from tests.probes.site_pages import build, pages


def _board(folder, *results):
    return board.of(records.load(save(folder, *results)))


@pytest.fixture(scope="module")
def full_board(tmp_path_factory):
    return board.of(records.load(board_folder(tmp_path_factory.mktemp("board"))))


def test_the_grid_shows_gaps_as_missing_and_floors_beside_every_protocol(tmp_path):
    results = [
        fixture_result(protocol="linear"),
        fixture_result(protocol="knn"),
        fixture_result("fixture-cnn", protocol="linear"),
        fixture_result("fixture-stats", protocol="image-statistics"),
    ]
    made = _board(tmp_path / "records", *results)
    shown = {entry.label: [len(cell) for cell in entry.cells] for entry in made.entries}
    assert [group.protocol for group in made.groups] == ["knn", "linear"]
    assert shown == {"fixture-mae": [1, 1], "fixture-cnn": [0, 1], "fixture-stats": [1, 1]}
    page = pages(build(tmp_path, *results))["index.html"]
    assert page.said.count("missing") == 1


def test_a_cell_of_several_seeds_is_their_mean_with_the_widest_interval(tmp_path):
    runs = []
    for seed, (low, value, high) in enumerate([(0.5, 0.6, 0.65), (0.55, 0.9, 0.95)]):
        run = fixture_result(seed=seed, id=f"fixture-{seed}")
        run["metrics"]["oa"] = {"value": value, "low": low, "high": high}
        runs.append(run)
    (entry,) = _board(tmp_path / "records", *runs).entries
    (cell,) = entry.cells
    assert board.mean(cell) == pytest.approx(0.75)
    assert board.envelope(cell) == (0.5, 0.95)
    said = pages(build(tmp_path, *runs))["index.html"].said
    assert "0.750 [0.500, 0.950] mean of 2 seeds" in said
    runs[1]["metrics"]["oa"] |= {"low": None, "high": None}
    (entry,) = _board(tmp_path / "open", *runs).entries
    assert board.envelope(entry.cells[0]) == (None, None)


def test_the_best_of_a_column_is_a_model_and_never_a_floor(tmp_path):
    results = {name: fixture_result(name) for name in SCORES}
    for name, value in (("fixture-mae", 0.7), ("fixture-cnn", 0.8), ("fixture-stats", 0.99)):
        results[name]["metrics"]["oa"] = {"value": value, "low": None, "high": None}
    text = (build(tmp_path, *results.values()) / "index.html").read_text()
    assert re.findall(r'<td data-value="([\d.]+)" class="best"', text) == ["0.8"]


def _standing_runs(complete=True):
    levels = {"fixture-mae": (0.9, 0.6), "fixture-cnn": (0.8, 0.7), "fixture-random": (0.5, 0.5)}
    runs = []
    for name, scores in levels.items():
        for benchmark, value in zip(("fixture-a", "fixture-b"), scores, strict=True):
            if name == "fixture-cnn" and benchmark == "fixture-b" and not complete:
                continue
            run = fixture_result(name, benchmark)
            run["benchmark"]["dataset"] = benchmark
            run["metrics"]["oa"] = {"value": value, "low": None, "high": None}
            runs.append(run)
    return runs


def test_standings_are_ranks_and_normalised_means_over_complete_cells(tmp_path):
    (item,) = standing.standings(_board(tmp_path, *_standing_runs()))
    assert item.protocol == "linear@1"
    assert [group.benchmark for group in item.groups] == ["fixture-a", "fixture-b"]
    found = {entry.label: values for entry, values in item.rows}
    assert {name: values["mean_rank"].value for name, values in found.items()} == {
        "fixture-mae": 1.5,
        "fixture-cnn": 1.5,
        "fixture-random": 3.0,
    }
    assert found["fixture-mae"]["mean"].value == pytest.approx((1 + 0.5) / 2)
    assert found["fixture-cnn"]["mean"].value == pytest.approx((0.75 + 1) / 2)
    assert found["fixture-random"]["mean"].value == pytest.approx(0)
    assert item.left_out == {}


def test_a_model_with_a_gap_is_in_no_mean_and_is_named(tmp_path):
    runs = _standing_runs(complete=False)
    third = fixture_result("fixture-stats", "fixture-a", "image-statistics")
    fourth = fixture_result("fixture-stats", "fixture-b", "image-statistics")
    for run, benchmark in ((third, "fixture-a"), (fourth, "fixture-b")):
        run["benchmark"]["dataset"] = benchmark
    (item,) = standing.standings(_board(tmp_path / "records", *runs, third, fourth))
    assert [entry.label for entry, _ in item.rows] == [
        "fixture-mae",
        "fixture-stats",
        "fixture-random",
    ]
    assert item.left_out == {"fixture-cnn": "no score on fixture-b · linear"}
    said = pages(build(tmp_path, *runs, third, fourth))["index.html"].said
    assert "fixture-cnn: no score on fixture-b · linear" in said


def test_copies_of_one_dataset_count_once(tmp_path):
    runs = _standing_runs()
    for run in runs:
        run["benchmark"]["dataset"] = "fixture-same"
    (item,) = standing.standings(_board(tmp_path, *runs))
    assert item.datasets == 1


def test_there_is_no_standing_over_one_benchmark(tmp_path):
    runs = [run for run in _standing_runs() if run["benchmark"]["name"] == "fixture-a"]
    assert standing.standings(_board(tmp_path / "records", *runs)) == []
    assert "None: no two models" in pages(build(tmp_path, *runs))["index.html"].said


def test_standings_of_a_larger_board_never_mix_protocols(full_board):
    found = standing.standings(full_board)
    assert len(found) == 4
    for item in found:
        assert {"@".join(group.recipe) for group in item.groups} == {item.protocol}
        ranks = [values["mean_rank"].value for _, values in item.rows]
        assert ranks == sorted(ranks)
        assert np.mean(ranks) == pytest.approx((len(ranks) + 1) / 2)


def test_marks_lie_where_their_scores_are():
    on = axis.scale([0.75, 0.8, 0.9])
    assert on.ticks == (0.75, 0.8, 0.85, 0.9)
    drawn = plot.track([plot.Mark(0.8, 0.75, 0.9, "pretrained")], on, reference=0.825)
    assert 'class="whisker" x1="0.00%" x2="100.00%"' in drawn
    assert '<svg x="33.33%"' in drawn
    assert 'class="reference" x1="50.00%" x2="50.00%"' in drawn


@pytest.mark.parametrize("values", [(-0.3, 7.2), (1234.0, 5678.0), (0.5, 0.5), (0.0, 0.0), (-2.0,)])
def test_an_axis_holds_its_values_with_few_ticks(values):
    ticks = axis.scale(values).ticks
    assert ticks[0] <= min(values)
    assert ticks[-1] >= max(values)
    assert 3 <= len(ticks) <= 7
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_cost_is_drawn_where_two_results_tell_it_on_a_logarithmic_axis(tmp_path):
    runs = [full_result("fixture-mae"), full_result("fixture-cnn"), fixture_result("fixture-stats")]
    runs[0]["cost"] |= {"parameters": 1_000_000, "samples_per_second": None}
    runs[1]["cost"] |= {"parameters": 100_000_000}
    runs[2]["model"]["parameters"] = None
    (group,) = _board(tmp_path, *runs).groups
    drawn = scatter.against_cost(group)
    assert drawn.count("<svg") == 2  # parameters and FLOPs; one throughput is no plot
    assert "Not drawn: 1 without a known cost" in drawn
    first = drawn[: drawn.index("</svg>")]
    ticks = [float(x) for x in re.findall(r'class="grid" x1="([\d.]+)" x2="\1"', first)]
    assert np.allclose(np.diff(ticks, 2), 0, atol=0.11)
    assert scatter.against_cost(_board(tmp_path / "one", runs[0]).groups[0]) is None


def test_points_that_would_cover_one_another_are_moved_aside(tmp_path):
    runs = [full_result(name) for name in SCORES]
    for run in runs:
        run["metrics"]["oa"] = {"value": 0.8, "low": None, "high": None}
    drawn = scatter.against_cost(_board(tmp_path, *runs).groups[0])
    first = drawn[: drawn.index("</svg>")]
    centres = [float(x) for x in re.findall(r'<circle class="mark" cx="([\d.]+)"', first)]
    assert len(centres) == len(SCORES)
    assert min(np.diff(sorted(centres))) >= 2 * scatter.RADIUS - 1


def test_counts_of_near_samples_are_a_table(tmp_path):
    held = {"statement": "12 of 1024 lie near", "n_test": 1024}
    held["counts"] = [{"km": 0.0, "near": 3}, {"km": 10.0, "near": 12}]
    said = pages(build(tmp_path, full_result(contamination=held)))["models/fixture-mae.html"].said
    assert "12 of 1024 lie near (n test 1024) counts km near 0 3 10 12" in said


def test_a_model_page_holds_card_weights_floors_overlap_robustness_and_diagnostics(tmp_path):
    runs = [
        full_result(versus=[versus(0.052, 0.011, 0.094, name="fixture-random")]),
        full_result("fixture-random"),
        full_result("fixture-stats", protocol="image-statistics"),
    ]
    said = pages(build(tmp_path, *runs))["models/fixture-mae.html"].said
    for words in (
        "weights SHA-256 " + "0f" * 32,
        "objective name mae mask_ratio 0.75",
        "licence fixture-licence",
        "Pretraining beat the random initialisation in 1 of 1 comparison and was worse in 0.",
        "Pretraining saw the pixels of the whole scene",
        "fixture-fields : radius km 5, near 17, of 1024, rule within 5 km",
        "gain +20 %",
        "effective rank",
        "samples_per_second 412.5",
        "normaliser zscore",
        "fm probe runs/fixture-mae/export --benchmark fixture-fields",
        "10 (chosen)",
        "edge of the grid",
        "2.13.0+cpu",
        "95 % intervals by percentile bootstrap over blocks, 1000 resamples",
    ):
        assert words in said, words
    beside = said[said.index("Every cell") : said.index("Overlap with pretraining")]
    assert "fixture-random" in beside
    assert "fixture-stats" in beside


def test_a_benchmark_page_holds_split_verification_classes_confusion_and_examples(tmp_path):
    result = full_result()
    result["confusion"] = [[8, 1, 1, 0], [0, 10, 0, 0], [0, 0, 0, 0], [5, 0, 0, 5]]
    site = build(tmp_path, result)
    page = pages(site)["benchmarks/fixture-fields-1.html"]
    for words in ("checkerboard of 16 px", "verified on fixtures only", *CLASSES, "a-2", "wrong"):
        assert words in page.said, words
    text = (site / "benchmarks/fixture-fields-1.html").read_text()
    table = re.search(r'<table class="small heat confusion">.*?</table>', text, re.S).group()
    rows = re.findall(r"<tr>.*?</tr>", table)[1:]
    shades = [re.findall(r'<td class="(h\d)', row) for row in rows]
    assert shades[0] == ["h8", "h1", "h1", "h0"]
    assert shades[2] == ["h0"] * 4  # a class without samples
    assert shades[3] == ["h5", "h0", "h0", "h5"]
    assert "F1 of each class" in page.said


def test_what_probes_write_is_what_the_leaderboard_reads(tmp_path):
    values = fixture_result()
    values.pop("format_version")
    values.pop("id")
    values["per_class"] = [{"class": "fixture-corn", "recall": None, "support": 0}]
    values["benchmark"] |= {"version": 1, "notes": ["fixture note"], "unit": "block"}
    Result(**values).save(tmp_path / "results")
    made = board.of(records.load(tmp_path / "results"))
    assert made.groups[0].first.format_version == 2
    assert "fixture note" in pages(build(tmp_path))["benchmarks/fixture-fields-1.html"].said


def test_results_of_the_first_format_say_less_and_are_shown(tmp_path):
    said = pages(build(tmp_path, fixture_result()))["models/fixture-mae.html"].said
    assert "Robustness" not in said
    assert "Diagnostics" not in said
