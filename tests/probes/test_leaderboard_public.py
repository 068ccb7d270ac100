"""The schema of a result, and what makes a repository a public board."""

import json
from pathlib import Path

import pytest
import yaml

from fm.cli import main
from probes.leaderboard import schema
from probes.leaderboard.records import SINCE_2, Record
from probes.leaderboard.template import PLACES
from tests.probes.fixture_results import fixture_result, full_result, save

ROOT = Path(__file__).resolve().parents[2]


def _fits(value, held, top):
    """The part of JSON Schema that ours uses, written again."""
    if "$ref" in held:
        return _fits(value, top["$defs"][held["$ref"].rsplit("/", 1)[1]], top)
    if "anyOf" in held:
        return any(_fits(value, one, top) for one in held["anyOf"])
    if "const" in held and value != held["const"]:
        return False
    if "enum" in held and value not in held["enum"]:
        return False
    kinds = {
        "object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
        "boolean": bool, "null": type(None),
    }  # fmt: skip
    if "type" in held:
        right = isinstance(value, kinds[held["type"]])
        if not right or (isinstance(value, bool) and held["type"] in ("integer", "number")):
            return False
    if isinstance(value, dict):
        if not set(held.get("required", ())) <= set(value):
            return False
        rest = held.get("additionalProperties")
        for key, item in value.items():
            own = held.get("properties", {}).get(key, rest if isinstance(rest, dict) else {})
            if not _fits(item, own, top):
                return False
        if "if" in held:
            branch = "then" if _fits(value, held["if"], top) else "else"
            return _fits(value, held.get(branch, {}), top)
    if isinstance(value, list) and "items" in held:
        return all(_fits(item, held["items"], top) for item in value)
    return True


def test_schema_takes_both_formats_and_refuses_what_check_refuses():
    held = schema()
    assert held["$schema"].endswith("2020-12/schema")
    for sound in (fixture_result(), full_result(), full_result("fixture-stats")):
        assert _fits(sound, held, held)
    for key in SINCE_2:
        lost = full_result()
        del lost[key]
        assert not _fits(lost, held, held), key
    for key, odd in (("model", None), ("seed", "0"), ("format_version", 3), ("metrics", [])):
        assert not _fits(full_result(**{key: odd}), held, held), key
    kind = full_result()
    kind["model"]["kind"] = "trained"
    assert not _fits(kind, held, held)


def test_documentation_names_every_key():
    text = (ROOT / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    for key in Record.model_fields:
        assert f"`{key}`" in text or f"`{key}?`" in text, key


def test_schema_from_the_command_line(capsys):
    assert main(["leaderboard", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_check_of_one_file_is_one_line_a_problem_and_status_1(tmp_path, capsys):
    sound = full_result()
    folder = save(tmp_path / "sound", sound)
    assert main(["leaderboard", "check", str(folder / f"{sound['id']}.json")]) == 0
    broken = full_result(confusion=[[1, 2], [3]], primary="none")
    del broken["model"]["kind"]
    path = save(tmp_path / "broken", broken) / f"{broken['id']}.json"
    capsys.readouterr()
    assert main(["leaderboard", "check", str(path)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    broken["model"]["kind"] = "pretrained"
    save(tmp_path / "broken", broken)
    assert main(["leaderboard", "check", str(path)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert all(str(path) in line for line in lines)


def test_init_writes_a_board_whose_workflows_check_before_they_publish(tmp_path, capsys):
    board = tmp_path / "board"
    assert main(["leaderboard", "init", str(board)]) == 0
    made = {p.relative_to(board).as_posix() for p in board.rglob("*") if p.is_file()}
    assert made == {*PLACES.values(), "result.schema.json"}
    assert {str(board / name) for name in made} == set(capsys.readouterr().out.split())
    assert json.loads((board / "result.schema.json").read_text()) == schema()
    for name, needs in (("check", "upload-artifact"), ("pages", "deploy-pages")):
        flow = yaml.safe_load((board / f".github/workflows/{name}.yml").read_text())
        (job,) = flow["jobs"].values()
        said = [step.get("run") or step["uses"] for step in job["steps"]]
        check, built = (
            said.index("fm leaderboard check results"),
            said.index("fm leaderboard build results --out site"),
        )
        last = next(at for at, step in enumerate(said) if needs in step)
        assert check < built < last
    check = yaml.safe_load((board / ".github/workflows/check.yml").read_text())
    assert check["permissions"] == {"contents": "read"}
    # yaml reads the key `on` as true
    assert check[True] == "pull_request"


def test_a_board_in_which_results_are_put_can_be_built(tmp_path):
    board = tmp_path / "board"
    assert main(["leaderboard", "init", str(board)]) == 0
    save(board / "results", full_result())
    words = ["leaderboard", "build", str(board / "results"), "--out", str(board / "site")]
    assert main(words) == 0
    assert (board / "site" / "index.html").exists()


@pytest.mark.parametrize("there", ["README.md", ".github/workflows/pages.yml"])
def test_init_overwrites_nothing(tmp_path, capsys, there):
    path = tmp_path / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    assert main(["leaderboard", "init", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert [p.read_text() for p in tmp_path.rglob("*") if p.is_file()] == ["mine"]


@pytest.mark.slow
def test_the_wheel_holds_style_script_and_template(tmp_path):
    import subprocess
    import sys
    import zipfile

    words = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--quiet"]
    subprocess.run([*words, "--no-build-isolation", "-w", str(tmp_path)], check=True)
    (wheel,) = tmp_path.glob("eofm-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {"page.css", "page.js", *(f"template/{name}" for name in PLACES)}
    assert {f"probes/leaderboard/{name}" for name in wanted} <= names
