"""What the leaderboard refuses, in one line that names the file and the key."""

import json

import pytest

from fm.errors import FMError
from probes import leaderboard
from probes.leaderboard import records, table
from tests.probes.fixture_results import SCORES, fixture_result, save


def _without(key):
    def change(result):
        *parents, last = key.split(".")
        for parent in parents:
            result = result[parent]
        del result[last]

    return change


def _with(key, value):
    def change(result):
        *parents, last = key.split(".")
        for parent in parents:
            result = result[parent]
        result[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("overlap"), "key 'overlap' is missing"),
        (_without("model.kind"), "key 'model.kind' is missing"),
        (_without("format_version"), "key 'format_version' is missing"),
        (_with("format_version", 3), "key 'format_version': 3 is unknown, this eofm reads 1 and 2"),
        (_with("model.kind", "trained"), "key 'model.kind'"),
        (_with("model.name", "two\nlines"), "key 'model.name'"),
        (_with("metrics.oa.value", "0.8"), "key 'metrics.oa.value'"),
        (_with("metrics.oa.value", float("nan")), "key 'metrics.oa.value'"),
        (_with("metrics.oa.low", 0.99), "low 0.99 is above high"),
        (_with("metrics.oa.low", None), "one end of the interval is missing"),
        (_with("primary", "miou"), "key 'primary': 'miou' is not under 'metrics'"),
        (_with("metrics", {}), "key 'metrics'"),
        (_with("selection.scores", [0.5]), "4 grid values but 1 scores"),
        (_with("benchmark.n_test", -1), "key 'benchmark.n_test'"),
    ],
)
def test_a_broken_result_is_refused_in_one_line_and_nothing_is_written(tmp_path, change, words):
    result = fixture_result()
    change(result)
    folder = save(tmp_path / "results", fixture_result("fixture-random"), result)
    (line,) = leaderboard.check(folder)
    assert words in line
    assert f"{result['id']}.json: " in line
    assert "\n" not in line
    with pytest.raises(FMError, match="key") as caught:
        leaderboard.build(folder, tmp_path / "board")
    assert str(caught.value) == line
    assert not (tmp_path / "board").exists()


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]", b"3", b"[" * 100_000])
def test_a_file_that_is_no_result_is_named(tmp_path, content):
    (tmp_path / "odd.json").write_bytes(content)
    (line,) = leaderboard.check(tmp_path)
    assert "odd.json: " in line
    assert "\n" not in line


def test_folder_errors_are_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, words in (("none", "no such folder"), ("empty", "no results")):
        with pytest.raises(FMError, match=words):
            leaderboard.build(tmp_path / folder, tmp_path / "board")
        assert not (tmp_path / "board").exists()
    results = save(tmp_path / "results", fixture_result())
    (tmp_path / "file").write_text("")
    with pytest.raises(FMError, match="is a file"):
        leaderboard.build(results, tmp_path / "file")
    with pytest.raises(FMError, match="no such file or folder"):
        leaderboard.check(tmp_path / "none")


def test_two_results_of_one_id_are_refused(tmp_path):
    folder = save(tmp_path / "results", fixture_result())
    (folder / "zz.json").write_text(json.dumps(fixture_result()))
    with pytest.raises(FMError, match=r"zz\.json: key 'id': .* is already that of fixture-fields"):
        leaderboard.build(folder, tmp_path / "board")


def test_unknown_primary_metric_must_say_which_way_is_better(tmp_path):
    result = fixture_result(primary="zeal", metrics={"zeal": {"value": 0.4}}, versus=[])
    folder = save(tmp_path / "results", result)
    (line,) = leaderboard.check(folder)
    assert "metric 'zeal' is unknown" in line
    result["metrics"]["zeal"]["better"] = "lower"
    (group,) = table.groups(records.load(save(folder, result)))
    assert not group.higher


def test_check_accepts_sound_results_and_extra_keys(tmp_path):
    folder = save(tmp_path, fixture_result(later_key=1), fixture_result("fixture-random"))
    assert leaderboard.check(folder) == []
    assert leaderboard.check(next(folder.glob("*.json"))) == []


def test_build_fails_with_a_count_when_many_results_are_broken(tmp_path):
    results = [fixture_result(name, seed="0") for name in SCORES]
    with pytest.raises(FMError, match=r"\(and 3 more; fm leaderboard check lists them\)$"):
        leaderboard.build(save(tmp_path / "results", *results), tmp_path / "board")
