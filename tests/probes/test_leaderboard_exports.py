"""The same numbers as CSV, Markdown and in the layouts of evaluma and GEO-Bench-2."""

import csv
import io
import json

from probes import leaderboard
from probes.leaderboard import board, exchange, export, records
from tests.probes.fixture_results import board_folder, fixture_result, full_result, save


def _rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def _board(folder, *results):
    return board.of(records.load(save(folder, *results)))


def test_csv_keeps_full_precision_and_leaves_unknowns_empty(tmp_path):
    result = full_result()
    result["metrics"]["oa"]["value"] = 0.8123456789012345
    other = fixture_result("fixture-random")
    del other["metrics"]["kappa"]
    rows = _rows(export.as_csv(_board(tmp_path, result, other)))
    assert float(rows[0]["oa"]) == float(rows[0]["value"]) == 0.8123456789012345
    assert rows[0]["verdict"] == "beat"
    assert float(rows[0]["random_init_low"]) == 0.011
    assert float(rows[0]["flops"]) == 1.26e9
    assert rows[1]["kappa"] == rows[1]["verdict"] == rows[1]["random_init_difference"] == ""
    assert rows[1]["flops"] == ""


def test_markdown_shows_gaps_as_missing(tmp_path):
    other = fixture_result("fixture-random")
    del other["metrics"]["kappa"]
    text = export.as_markdown(_board(tmp_path, fixture_result(), other))
    assert "| missing |" in text


def test_evaluma_rows_have_one_metric_a_cell_and_every_seed(tmp_path):
    made = board.of(records.load(board_folder(tmp_path)))
    rows = _rows(exchange.evaluma(made))
    assert tuple(rows[0]) == ("model", "dataset", "metric", "score", "seed")
    metrics = {}
    for row in rows:
        metrics.setdefault(row["dataset"], set()).add(row["metric"])
    assert all(len(names) == 1 for names in metrics.values())
    assert metrics["fixture-fields · linear"] == {"accuracy"}
    keys = [(row["model"], row["dataset"], row["seed"]) for row in rows]
    assert len(keys) == len(set(keys))
    assert {r["seed"] for r in rows if r["model"] == "fixture-mae-base"} == {"0", "1"}
    # a floor stands in every cell, so that no cell of it is missing
    floors = {r["dataset"] for r in rows if r["model"] == "random-conv"}
    assert floors == set(metrics)


# utils/constants.py of the GEO-Bench-2 leaderboard, in its own words
STRINGS = {
    "dataset", "Metric", "experiment_name", "partition name", "backbone", "decoder",
    "batch_size_selection", "frozen_or_full_ft",
}  # fmt: skip
NUMBERS = {
    "early_stop_patience", "n_trials", "Seed", "data_percentages", "batch_size", "weight_decay",
    "lr", "test metric",
}  # fmt: skip
KEYS = {
    "Paper Link", "Code Repository Link ", "License", "Number of HPO trials",
    "Additional information about submission", "Comments on new models in submission",
    "New model info",
}  # fmt: skip


def test_geobench2_folders_have_the_columns_and_keys_that_its_check_wants(tmp_path):
    tuned = full_result(protocol="finetune", id="fixture-tuned")
    tuned["protocol"]["settings"] = {"family": "finetune", "batch_size": 32, "weight_decay": 0.05}
    tuned["selection"] |= {"grid": [{"lr": 1e-4}, {"lr": 5e-4}], "scores": [0.5, 0.6]}
    tuned["selection"]["chosen"] = {"lr": 5e-4}
    few = full_result(protocol="few", id="fixture-few")
    few["protocol"]["settings"] = {"family": "linear", "per_class": 20}
    floor = fixture_result("fixture-stats", protocol="image-statistics")
    site = tmp_path / "site"
    leaderboard.build(save(tmp_path / "results", full_result(), tuned, few, floor), site)
    made = sorted(p.relative_to(site).as_posix() for p in (site / "geobench2").rglob("*.*"))
    assert made == [
        "geobench2/frozen/additional_info.json",
        "geobench2/frozen/results_and_parameters.csv",
        "geobench2/full_ft/additional_info.json",
        "geobench2/full_ft/results_and_parameters.csv",
    ]
    frozen, full = (
        _rows((site / f"geobench2/{n}/results_and_parameters.csv").read_text())
        for n in ("frozen", "full_ft")
    )
    assert {row["backbone"] for row in frozen + full} == {"fixture-mae"}
    for row in frozen + full:
        assert set(row) == STRINGS | NUMBERS
        assert all(row[name] for name in STRINGS)
        assert all(float(row[name]) >= 0 for name in NUMBERS if row[name])
    assert [row["frozen_or_full_ft"] for row in frozen] == ["frozen", "frozen"]
    assert full[0]["lr"] == "0.0005"
    assert full[0]["batch_size"] == "32"
    assert full[0]["n_trials"] == "2"
    assert full[0]["Metric"] == "Overall_Accuracy"
    assert [row["data_percentages"] for row in frozen] == ["", "100"]
    assert frozen[0]["partition name"] == "20 a class"
    info = json.loads((site / "geobench2/full_ft/additional_info.json").read_text())
    assert set(info) == KEYS
    assert info["New model info"] == [
        {
            "model_display_name": "fixture-mae",
            "model_size": "5.53M",
            "unique_backbone_key": "fixture-mae",
        }
    ]
