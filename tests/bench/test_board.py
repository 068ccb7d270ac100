"""The board's plan against the registry, and its tables on made-up results."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.studies import board, board_plan, page
from bench.studies.board_judged import FLOORS, Judged, Judging, pixel_floors
from bench.studies.board_rows import tables
from fm.config import recipe_folder
from fm.errors import UsageError
from probes.benchmarks import get_benchmark, list_benchmarks
from probes.judging.judge import answers_task
from probes.judging.kept import Kept, beside
from probes.protocols import get_protocol
from probes.result import Result
from probes.statistics.answers import ClassAnswers
from shards.sources import get_source


def test_every_benchmark_on_real_files_is_judged_or_left_out_for_a_reason():
    real = {
        get_benchmark(name).name
        for name in list_benchmarks()
        if get_benchmark(name).checked_on != "fixtures only"
    }
    planned, left_out = set(board_plan.PLAN), set(board_plan.LEFT_OUT)
    assert real == planned | left_out
    assert not planned & left_out
    assert all(board_plan.LEFT_OUT.values())


def test_the_plan_names_what_there_is():
    runs = board_plan.OURS
    for run in runs.values():
        assert (recipe_folder() / "pretrain" / f"{run.recipe}.yaml").is_file()
        assert all(get_source(source) for source in run.paths.values())
    for name, task in board_plan.PLAN.items():
        benchmark = get_benchmark(name)
        assert task.source in benchmark.source
        for protocol in (*task.protocols, *task.tokens):
            recipe = get_protocol(protocol)
            assert recipe.needs_model
            assert answers_task(recipe, benchmark)
        allowed = benchmark.protocols
        assert allowed is None or set(task.protocols) <= set(allowed)
        # pixels of two sensors cannot be compared; everything else has floors on pixels
        across = benchmark.query != benchmark.gallery
        assert bool(pixel_floors(task, name)) != across
        if task.scratch is not None:
            recipe, model = task.scratch
            assert get_protocol(recipe).from_scratch() is not None
            assert model in runs


def test_all_kinds_of_floors_stand_beside_classes():
    for name in ("indian-pines", "nc-landcover", "neon-trees", "bigearthnet-s1s2"):
        wanted = {"image-statistics", "raw-pixel", "random-conv", "random-conv-zca"}
        assert wanted <= set(pixel_floors(board_plan.PLAN[name], name, "knn"))
        assert board_plan.PLAN[name].scratch is not None


def test_another_split_or_more_seeds_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--split val"):
        board.run(tmp_path, tmp_path, split="val", seeds=(0,), methods=[])
    with pytest.raises(UsageError, match="--seeds 0 1"):
        board.run(tmp_path, tmp_path, split="test", seeds=(0, 1), methods=[])
    assert not list(tmp_path.iterdir())


def _kept(folder: Path, right: int, **changed) -> Result:
    """A result of 40 test samples in 10 blocks, `right` of each block's 4 predicted."""
    model = dict.fromkeys(
        ("name", "kind", "path", "weights_sha256", "parameters", "architecture", "adapted")
    )
    names = ("dataset", "manifest_hash", "task", "n_train", "n_val", "n_test", "classes", "split")
    about = dict.fromkeys(names) | {"name": "nc-landcover", "version": 1, "verified": "real files"}
    truth = np.zeros(40, np.int64)
    guess = np.tile(np.arange(4) >= right, 10).astype(np.int64)
    result = Result(
        model=model | changed.pop("model"),
        benchmark=about,
        protocol={"name": changed.pop("protocol"), "version": 1, "settings": {}},
        seed=0,
        metrics={"oa": {"value": right / 4, "low": right / 4, "high": right / 4}},
        primary="oa",
        overlap={"statement": "", "shared_samples": None, "transductive": False},
        interval={"unit": "block", "units": 10},
        versus=changed.pop("versus", []),
    )
    answers = ClassAnswers.of(truth, guess, np.repeat(np.arange(10), 4), 2)
    Kept(answers, None, "test").save(beside(result.save(folder)))
    return result


def test_a_table_takes_the_best_floor_of_its_protocol(tmp_path):
    ours = {"name": "mae-nc-landcover-tiny", "kind": "pretrained"}
    fresh = {"name": "mae-nc-landcover-tiny-random-init", "kind": "random-init"}
    against = {
        "name": fresh["name"],
        "kind": "random-init",
        "metric": "oa",
        "difference": 0.25,
        "low": -0.1,
        "high": 0.5,
    }
    made = [
        _kept(tmp_path, 3, model=ours, protocol="knn", versus=[against]),
        _kept(tmp_path, 2, model=fresh, protocol="knn"),
        _kept(tmp_path, 4, model=fresh, protocol="linear-centre"),
        _kept(tmp_path, 1, model={"name": "raw-pixel", "kind": "floor"}, protocol="raw-pixel"),
        # with as few labels as another protocol: no rival of this one
        _kept(
            tmp_path, 4, model={"name": "raw-pixel-20", "kind": "floor"}, protocol="raw-pixel-20"
        ),
    ]
    several = [Judged(FLOORS, [one.id for one in made], 1.0, 1.0, None)]
    task = board_plan.PLAN["nc-landcover"]
    (table,) = tables(tmp_path, "nc-landcover", task, several, [ours["name"]])
    assert table["protocol"] == "knn"
    assert table["floor"]["name"] == fresh["name"]
    assert set(table["floors"]) == {fresh["name"], "raw-pixel"}
    held = table["checkpoints"][ours["name"]]
    assert held["against_floor"] == pytest.approx(
        {"difference": 0.25, "low": 0.25, "high": 0.25, "verdict": "better"}
    )
    assert held["against_random"]["verdict"] == "even"


def test_the_page_shows_scores_marks_and_seconds():
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    found = {
        "checkpoints": {"ours": {}, "theirs": {}},
        "tables": [
            {
                "benchmark": "b",
                "protocol": "knn",
                "metric": "oa",
                "floor": {"name": "raw-pixel", **score},
                "checkpoints": {
                    "ours": {
                        **score,
                        "against_floor": {"verdict": "worse"},
                        "against_random": {"verdict": "better"},
                    }
                },
            }
        ],
        "results": 2,
        "refused": [{"model": "theirs", "benchmark": "b", "reason": "no bands"}],
        "seconds": {
            "datasets": {"s": 1.0},
            "pretraining": {"ours": 2.0},
            "probing": {"b": 3.0},
            "probing_total": 3.0,
            "probing_cpu": 5.0,
        },
        "machine": "a machine",
        "threads": 2,
    }
    text = page.board(found)
    row = "| b, knn | oa | raw-pixel 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600] ▼ ▲ | – |"
    assert row in text
    assert "2 results, 1 refused" in text
    assert "probing **3**" in text


def test_what_was_judged_is_found_again_and_what_is_not_known_is_removed(tmp_path, monkeypatch):
    calls = []

    def judged(self, session, task, folder, model):
        calls.append(model)
        made = _kept(self.results, 1, model={"name": model, "kind": "floor"}, protocol="raw-pixel")
        return [made.id], None

    monkeypatch.setattr(Judging, "_judge", judged)
    monkeypatch.setattr("bench.studies.board_judged.opened", lambda *_, **__: None)
    data = tmp_path / "data"
    data.mkdir()
    (data / "dataset.json").write_text("{}")
    task = board_plan.PLAN["nc-landcover"]

    def again(code: str = "code", changed=task) -> list[Judged]:
        judging = Judging(tmp_path, code, 0, {"m": data}, tmp_path, {"m": "w"})
        kept = judging.kept_of("nc-landcover", changed, data)
        found = judging.all_of("nc-landcover", changed, data)
        assert (kept is not None) == all(one.again for one in found)
        judging.forget_others(found)
        return found

    first = again()
    assert [one.again for one in first] == [False, False]
    assert [one.again for one in again()] == [True, True]
    assert calls == [FLOORS, "m"]
    assert [one.again for one in again(code="other")] == [False, False]
    assert [one.again for one in again(changed=replace(task, side=64))] == [False, False]
    beside(tmp_path / "results" / f"{first[1].ids[0]}.json").unlink()
    assert [one.again for one in again()] == [True, False]
    stray = _kept(tmp_path / "results", 1, model={"name": "old", "kind": "floor"}, protocol="x")
    again()
    assert not list((tmp_path / "results").glob(f"{stray.id}*"))
