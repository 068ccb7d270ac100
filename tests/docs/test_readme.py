"""The README's table is the one that `docs/demo.json`, written by `fm demo`, gives."""

import runpy
from pathlib import Path

from fm.files import read_json
from fm.verbs.demo import markdown

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_is_generated() -> None:
    fill = runpy.run_path(str(ROOT / "docs" / "update_readme.py"))["fill"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = markdown(read_json(ROOT / "docs" / "demo.json"))
    assert "| mae-s2-tiny |" in table
    assert fill(readme, table) == readme


def test_the_first_screen_has_the_two_commands() -> None:
    first = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40])
    assert "make demo" in first
    assert "make test" in first
