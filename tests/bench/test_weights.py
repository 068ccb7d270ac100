"""What is carried against the plan that makes it, and the page against what is carried."""

from pathlib import Path

import numpy as np
import pytest

from bench.weights import page
from bench.weights.making import recipe_of, tabled
from bench.weights.plan import PLAN, TILES
from fm import weights
from fm.config import recipe_folder
from probes.benchmarks import get_benchmark
from probes.judging.judge import answers_task
from probes.judging.kept import Kept, beside
from probes.protocols import get_protocol
from probes.result import Result
from probes.statistics.answers import ClassAnswers
from shards.sources import get_source


def test_what_is_carried_is_what_is_planned() -> None:
    assert set(weights.names()) <= set(PLAN)
    for name in weights.names():
        assert (weights.HERE / name / weights.RECIPE).read_text(encoding="utf-8") == recipe_of(name)
        assert weights.probes(name)["worth"] == PLAN[name].worth
        tables = weights.probes(name)["tables"]
        planned = {(b, p) for b in PLAN[name].judged for p in PLAN[name].protocols}
        told = {(t["benchmark"].split("@")[0], t["protocol"].split("@")[0]) for t in tables}
        assert told == planned


def test_the_plan_names_what_there_is() -> None:
    for carried in PLAN.values():
        assert (recipe_folder() / "pretrain" / f"{carried.recipe}.yaml").is_file()
        assert all(source == TILES or get_source(source) for source in carried.paths.values())
        for name, source in carried.judged.items():
            assert source in get_benchmark(name).source
            for protocol in carried.protocols:
                assert answers_task(get_protocol(protocol), get_benchmark(name))


def test_the_page_is_generated() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.render(text) == text
    for name in weights.names():
        assert f"| `eofm/{name}` |" in text


def kept(folder: Path, kind: str, protocol: str, seed: int, right: int) -> Result:
    """A result of 40 test samples in 10 blocks; block b has `right` - b % 2 of its 4 predicted."""
    model = dict.fromkeys(("path", "weights_sha256", "parameters", "architecture", "adapted"))
    names = ("dataset", "manifest_hash", "task", "n_train", "n_val", "n_test", "classes", "split")
    about = dict.fromkeys(names) | {"name": "nc-landcover", "version": 1, "verified": "real files"}
    truth = np.zeros(40, np.int64)
    block = np.repeat(np.arange(10), 4)
    guess = (np.tile(np.arange(4), 10) >= right - block % 2).astype(np.int64)
    value = float((guess == truth).mean())
    result = Result(
        model={**model, "name": f"{kind}-{protocol}", "kind": kind},
        benchmark=about,
        protocol={"name": protocol, "version": 1, "settings": {}},
        seed=seed,
        metrics={"oa": {"value": value, "low": value, "high": value}},
        primary="oa",
        overlap={"statement": "", "shared_samples": None, "transductive": False},
        interval={"unit": "block", "units": 10},
    )
    Kept(ClassAnswers.of(truth, guess, block, 2), None, "test").save(beside(result.save(folder)))
    return result


def test_seeds_are_put_together_and_paired(tmp_path: Path) -> None:
    runs = [
        [
            kept(tmp_path, "pretrained", "linear", seed, 3 + seed % 2),
            kept(tmp_path, "floor", "raw-pixel", seed, 1),
            kept(tmp_path, "random-init", "linear", seed, 2),
        ]
        for seed in (0, 1, 2)
    ]
    table = tabled(tmp_path, runs)
    own, random, floor = table["rows"]
    assert [row["row"] for row in table["rows"]] == ["pretrained", "random weights", "raw-pixel"]
    assert own["runs"] == [0.625, 0.875, 0.625]
    assert own["value"] == pytest.approx(0.625 + 0.25 / 3)
    assert (random["value"], floor["value"]) == (0.375, 0.125)
    assert own["low"] < own["value"] < own["high"]
    # block by block the rows differ by the same: what is left is the spread of the seeds
    assert random["gain"]["difference"] == pytest.approx(own["value"] - 0.375)
    assert random["gain"]["low"] == pytest.approx(0.25)
    assert random["gain"]["high"] == pytest.approx(0.5)
    assert "gain" not in own
    lines = page.table({"ours": {"tables": [table]}})
    assert lines[2].startswith("| ours | nc-landcover@1, linear@1, oa | 0.708 [")
    assert "| raw-pixel 0.125 [" in lines[2]
