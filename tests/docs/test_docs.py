"""The documentation's examples run, and its commands parse."""

import re
import shlex
from argparse import ArgumentParser
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
NEEDS_DATA = {"probes.md"}
"""Pages whose Python needs a trained model and a real benchmark."""


def blocks(page: Path, kind: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name not in NEEDS_DATA], ids=lambda p: p.stem
)
def test_python_examples_run(
    page: Path, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-data").symlink_to(tiny_dataset)
    names: dict[str, object] = {}
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), names)


@pytest.mark.slow
@pytest.mark.data
def test_probe_examples_run(
    package_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fm
    from fm.cli import main
    from fm.models import create_model

    monkeypatch.chdir(tmp_path)
    words = ["shards", "build", "indian-pines", "--out", "data/indian-pines"]
    if main([*words, "--cache", str(package_cache)]):
        pytest.skip("tensorly cannot be had")
    model = create_model("vit_nano", bands=fm.sensor("aviris-indian-pines"), token_m=60)
    fm.checkpoint.save("runs/mae/export", model)
    names: dict[str, object] = {}
    for code in blocks(ROOT / "docs" / "probes.md", "python"):
        exec(compile(code, "probes.md", "exec"), names)
    assert list(Path("results").glob("*.json"))


def commands() -> list[tuple[str, str]]:
    found = []
    for page in [*PAGES, ROOT / "README.md"]:
        for block in blocks(page, "sh"):
            found += [(page.name, line) for line in block.splitlines() if line.startswith("fm ")]
    return found


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 10


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_parse(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    (point,) = [p for p in entry_points(group="eofm.commands") if p.name == words[0]]
    parser = ArgumentParser(prog=page)
    point.load().configure(parser)
    parser.parse_args(words[1:])


def test_links_and_files_that_the_docs_name_exist() -> None:
    for page in [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith(("http", "mailto")):
                assert (page.parent / target).exists(), (page.name, target)
        for name in re.findall(
            r"`((?:fm|shards|pretrain|probes|bench|docs|configs|tests)/[\w./]+)`", text
        ):
            assert (ROOT / name).exists(), (page.name, name)
