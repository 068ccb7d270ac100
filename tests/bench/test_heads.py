"""The study of heads: its commands are the documentation's, its differences the bootstrap's."""

import dataclasses
import shutil

import numpy as np
import pytest

from bench.machine import ROOT
from bench.studies import heads, page
from fm.errors import FMError
from fm.files import write_json
from probes.judging.kept import Kept, beside
from probes.result import Result
from probes.statistics.answers import ClassAnswers
from probes.statistics.bootstrap import over_seeds, paired_over_seeds
from tests.probes.fixture_results import fixture_result

TASK = heads.Task("fixture-fields", ("tuned", "frozen", "few"), also=(("frozen", "tuned"),))
ROWS = {
    # protocol, name, kind, steps, share of right answers
    "tuned": ("tuned", "m", "pretrained", 20, 0.9),
    "tuned, from scratch": ("tuned", "m-from-scratch", "random-init", 20, 0.6),
    "frozen": ("frozen", "m", "pretrained", 20, 0.8),
    "frozen, random weights": ("frozen", "m-random-init", "random-init", 20, 0.5),
    "few": ("few", "few", "floor", None, 0.7),
}


def write(folder, seed, steps=None):
    """What one command writes: results and answers on 6 units of 8 samples."""
    rng = np.random.default_rng(seed)
    truth, unit = rng.integers(0, 4, 48), np.arange(48) // 8
    folder.mkdir()
    for row, (protocol, name, kind, own, right) in ROWS.items():
        guess = np.where(rng.random(48) < right, truth, (truth + 1) % 4)
        answers = ClassAnswers.of(truth, guess, unit, 4)
        made = fixture_result(protocol=protocol)
        made["model"] |= {"name": name, "kind": kind}
        made["metrics"]["oa"]["value"] = float((guess == truth).mean())
        made["seed"] = seed
        made["selection"] |= {"steps": (steps or {}).get(row, own), "trained_parameters": 12}
        made["interval"] |= {"units": 6}
        document = {
            key: value for key, value in made.items() if key not in ("id", "format_version")
        }
        path = Result(**document).save(folder)
        Kept(answers, None, "one test").save(beside(path))


@pytest.fixture
def found(tmp_path):
    for seed in (0, 1, 2):
        write(tmp_path / str(seed), seed)
    return [heads.results(tmp_path / str(seed)) for seed in (0, 1, 2)]


@pytest.mark.parametrize("name", heads.METHODS)
def test_the_commands_are_the_documentations(name):
    text = (ROOT / "docs" / "dense.md").read_text(encoding="utf-8")
    assert heads.METHODS[name].command(0) + "\n" in text


def test_scores_and_differences_are_those_of_the_bootstrap_over_seeds(found):
    assert set(found[0]) == set(ROWS)
    made = heads.compared(TASK, found)
    # a model, what stands against it, then floors
    assert [row["row"] for row in made["rows"]] == list(ROWS)
    answers = {row: [one[row][1].answers for one in found] for row in ROWS}
    for row in made["rows"]:
        want = over_seeds(answers[row["row"]], 0)["oa"]
        assert {key: row[key] for key in want if key != "runs"} == {
            key: value for key, value in want.items() if key != "runs"
        }
        assert row["value"] == pytest.approx(np.mean(row["runs"]))
    pairs = {(d["first"], d["second"]): d for d in made["differences"]}
    assert set(pairs) == {
        ("tuned", "tuned, from scratch"),
        ("tuned", "few"),
        ("frozen", "frozen, random weights"),
        ("frozen", "tuned, from scratch"),
        ("frozen", "few"),
    }
    for (first, second), entry in pairs.items():
        want = paired_over_seeds(answers[first], answers[second], "oa", 0)
        assert (entry["value"], entry["low"], entry["high"]) == tuple(want.values())
        assert entry["value"] == pytest.approx(np.mean(entry["runs"]))


def test_unequal_steps_are_refused(tmp_path):
    write(tmp_path / "0", 0, steps={"tuned, from scratch": 40})
    with pytest.raises(FMError, match="tuned took 20 steps and tuned, from scratch 40"):
        heads.compared(TASK, [heads.results(tmp_path / "0")])


def test_val_reads_the_choice_alone(found):
    broken = [
        {
            row: (result, dataclasses.replace(kept, answers=None))
            for row, (result, kept) in one.items()
        }
        for one in found
    ]
    made = heads.chosen(broken)
    assert {row["row"] for row in made["rows"]} == set(ROWS)
    assert made["rows"][0]["val"] == pytest.approx(0.755)


def test_the_page_names_every_row_and_difference(found):
    table = {**heads.compared(TASK, found), "cpu_seconds": 3}
    text = page.heads({"seeds": [0, 1, 2], "tables": [table]})
    assert "6 test blocks" in text
    for row in ROWS:
        assert f"| {row} |" in text
    assert "| tuned - (tuned, from scratch) |" in text


def test_a_command_that_was_run_is_not_run_again_and_another_one_is(tmp_path, monkeypatch):
    ran = []

    def fm(words):
        ran.append(words)
        (tmp_path / "out").mkdir()

    monkeypatch.setattr(heads, "_fm", fm)
    place = export, data, _ = tmp_path / "export", tmp_path / "data", tmp_path / "out"
    export.mkdir()
    data.mkdir()
    write_json(export / "card.json", {"weights_sha256": "one"})
    write_json(data / "dataset.json", {})
    first = heads._once(TASK, 0, *place)
    assert heads._once(TASK, 0, *place) == first
    assert len(ran) == 1
    (tmp_path / "out" / "old.json").write_text("{}")
    heads._once(dataclasses.replace(TASK, protocols=("tuned",)), 0, *place)
    assert [words[words.index("--protocol") + 1] for words in ran] == ["tuned,frozen,few", "tuned"]
    assert not list((tmp_path / "out").iterdir())
    for path, changed in (("export/card", {"weights_sha256": "two"}), ("data/dataset", {"a": 1})):
        shutil.rmtree(tmp_path / "out")
        write_json(tmp_path / f"{path}.json", changed)
        for _ in range(2):
            heads._once(dataclasses.replace(TASK, protocols=("tuned",)), 0, *place)
    assert len(ran) == 4
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(heads, "code_hash", lambda: "other code")
    heads._once(dataclasses.replace(TASK, protocols=("tuned",)), 0, *place)
    assert len(ran) == 5
