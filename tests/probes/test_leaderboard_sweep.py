"""One model in several sizes and normalisers: a table of its own, rows that are told apart."""

import pytest

from fm.page.html import breakable
from probes.leaderboard import board, records, sweep
from tests.probes.fixture_results import board_folder, full_result, save, versus
from tests.probes.site_pages import Page, build, pages

SIZES, NORMALISERS = (None, 64, 224), ("model", "zscore")


def cell(name, size, normaliser, value, **more):
    changed = {"resize": size} if size else {}
    changed |= {"normaliser": normaliser} if normaliser != "model" else {}
    result = full_result(name, id=f"{name}-{size}-{normaliser}")
    result["axes"] |= {"resize": size, "normaliser": normaliser, "changed": changed, **more}
    result["metrics"]["oa"] = {"value": value, "low": value - 0.01, "high": value + 0.01}
    if result["model"]["kind"] == "pretrained":
        result["versus"] = [versus(0.1, 0.05, 0.15, name="fixture-random")]
    return result


@pytest.fixture
def results():
    made = []
    for n, size in enumerate(SIZES):
        for k, normaliser in enumerate(NORMALISERS):
            made.append(cell("fixture-mae", size, normaliser, 0.6 + 0.1 * n + 0.02 * k))
            made.append(cell("fixture-random", size, normaliser, 0.3 + 0.1 * n + 0.02 * k))
    return made


def rows(table):
    page = Page(table)
    return " ".join(page.said.split())


def test_the_seed_paper_s_tables_are_sizes_by_normalisers(tmp_path, results):
    (group,) = board.of(records.load(save(tmp_path, *results))).groups
    head, trained, random = sweep.tables(group)
    assert "Size by normaliser" in head
    assert rows(trained) == (
        "fixture-mae: OA by size and normaliser pixels of the shorter side model zscore "
        "native 0.600 [0.590, 0.610] 0.620 [0.610, 0.630] "
        "64 0.700 [0.690, 0.710] 0.720 [0.710, 0.730] "
        "224 0.800 [0.790, 0.810] 0.820 [0.810, 0.830]"
    )
    assert rows(random).startswith("fixture-random: OA by size and normaliser")
    lacking = [r for r in results if r["id"] != "fixture-mae-64-zscore"]
    (group,) = board.of(records.load(save(tmp_path / "gap", *lacking))).groups
    assert rows(sweep.tables(group)[1]).count("missing") == 1


def test_one_cell_is_no_table(tmp_path, results):
    (group,) = board.of(records.load(save(tmp_path, *results[:1]))).groups
    assert sweep.tables(group) == []


def test_a_score_stands_beside_the_random_weights_of_its_own_axes(tmp_path, results):
    """Beside every cell stood the best random cell of all sizes and normalisers."""
    page = pages(build(tmp_path, *results))["models/fixture-mae.html"].said
    text = page[page.index("Every cell") :]
    assert "normaliser model, resize native 0.600 [0.590, 0.610] OA" in text
    native = text[text.index("normaliser model, resize native 0.600") :]
    assert "0.300 [0.290, 0.310] fixture-random" in native[: native.index("0.100")][:120]
    details = text[text.index("Details") :]
    assert "normaliser zscore, resize 64 · seed 0 · OA 0.720" in details


def test_metrics_keep_their_capitals_and_lower_is_better_is_said(tmp_path):
    from probes import leaderboard

    leaderboard.build(board_folder(tmp_path / "results"), tmp_path / "site")
    made = pages(tmp_path / "site")
    assert "mAP, mean average precision; higher" in made["benchmarks/fixture-labels-1.html"].said
    assert "MAP," not in made["benchmarks/fixture-labels-1.html"].said
    heading = "fixture-biomass lower is better knn · RMSE"
    assert heading in made["index.html"].said
    biomass = (tmp_path / "site" / "benchmarks" / "fixture-biomass-1.html").read_text()
    assert biomass.count(">RMSE (lower is better)</text>") == 6  # axes of three plots, twice


def test_keys_break_after_their_signs():
    assert breakable("calibration.before.rms_ce") == ("calibration.<wbr>before.<wbr>rms_<wbr>ce")
    assert breakable("a<b") == "a&lt;b"
