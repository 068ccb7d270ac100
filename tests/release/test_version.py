"""One number: the code's, the changelog's newest heading, and the tag where there is one."""

import datetime
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

import fm
from fm.cli import main

ROOT = Path(__file__).resolve().parents[2]
RELEASED = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:rc\d+)?")
AHEAD = re.compile(r"(\d+)\.(\d+)\.(\d+)\.dev0")
HEADING = re.compile(r"## (?:(Unreleased)|\[([^\]]+)\] - (\d{4}-\d{2}-\d{2}))")


@dataclass(frozen=True)
class Heading:
    """`version` and `date` are None of what is not released."""

    version: str | None
    date: datetime.date | None


def headings(text: str) -> list[Heading]:
    found = []
    for line in text.splitlines():
        if line.startswith("## "):
            match = HEADING.fullmatch(line)
            assert match, (
                f"CHANGELOG.md: {line!r} is neither '## Unreleased' nor '## [X.Y.Z] - DATE'"
            )
            unreleased, version, day = match.groups()
            found.append(
                Heading(None, None)
                if unreleased
                else Heading(version, datetime.date.fromisoformat(day))
            )
    return found


def disagreement(version: str, found: list[Heading], tags: list[str]) -> str | None:
    """Say what of version, headings and tags of this commit does not fit; None if all do."""
    newest, released = found[0], [h for h in found if h.version]
    if AHEAD.fullmatch(version):
        if newest.version is not None:
            return f"{version} is on the way, but the newest heading is {newest.version}"
        if released and released[0].version == version.removesuffix(".dev0"):
            return f"{version} comes before {released[0].version}, which is out"
    elif not RELEASED.fullmatch(version):
        return f"{version} is no X.Y.Z, X.Y.ZrcN or X.Y.Z.dev0"
    elif newest.version != version:
        return f"the version is {version}, the newest heading {newest.version or 'Unreleased'}"
    days = [h.date for h in released if h.date]
    if days != sorted(days, reverse=True):
        return "the dates of the headings do not fall"
    if len({h.version for h in released}) != len(released):
        return "a version has two headings"
    if (numbers := [t for t in tags if t.startswith("v")]) and numbers != [f"v{version}"]:
        return f"the version is {version}, the tag of this commit {', '.join(numbers)}"
    return None


def tags_of_this_commit() -> list[str]:
    """Tags of HEAD; none where this is no checkout, such as an unpacked sdist."""
    if not (ROOT / ".git").exists():
        return []
    words = ["git", "-C", str(ROOT), "tag", "--points-at", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def test_version_changelog_and_tag_agree() -> None:
    found = headings((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert disagreement(fm.__version__, found, tags_of_this_commit()) is None


@pytest.mark.parametrize(
    ("version", "tops", "tags", "said"),
    [
        ("0.2.0", ["0.2.0", "0.1.0"], ["v0.2.0", "demo"], None),
        ("0.3.0.dev0", [None, "0.2.0"], [], None),
        ("0.3.0rc1", ["0.3.0rc1", "0.2.0"], ["v0.3.0rc1"], None),
        ("0.2.0", ["0.2.0"], ["v0.2.1"], "the tag of this commit v0.2.1"),
        ("0.2.0", ["0.2.0"], ["v0.2.0", "v0.2.1"], "the tag of this commit v0.2.0, v0.2.1"),
        ("0.2.0", [None, "0.2.0"], [], "newest heading Unreleased"),
        ("0.2.0", ["0.1.0"], [], "newest heading 0.1.0"),
        ("0.3.0.dev0", ["0.2.0"], [], "on the way"),
        ("0.2.0.dev0", [None, "0.2.0"], [], "which is out"),
        ("0.3.0.dev0", [None, "0.2.0"], ["v0.3.0"], "the tag of this commit v0.3.0"),
        ("0.2", ["0.2"], [], "is no X.Y.Z"),
        ("0.2.0", ["0.2.0", "0.2.0"], [], "two headings"),
    ],
)
def test_what_does_not_fit_is_said(
    version: str, tops: list[str | None], tags: list[str], said: str | None
) -> None:
    day = datetime.date(2026, 1, 1)
    found = [Heading(v, day if v else None) for v in tops]
    told = disagreement(version, found, tags)
    assert told is None if said is None else said in str(told)


def test_dates_of_headings_fall() -> None:
    text = "# Changelog\n\n## [0.2.0] - 2026-01-01\n\n## [0.1.0] - 2026-01-02\n"
    assert "dates" in str(disagreement("0.2.0", headings(text), []))
    with pytest.raises(AssertionError, match="neither"):
        headings("## 0.2.0 (today)")


def test_the_number_stands_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert "version" in project["project"]["dynamic"]
    source = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert source.read_text(encoding="utf-8").count(f'"{fm.__version__}"') == 1
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{fm.__version__}\n"


def test_what_is_written_names_the_version() -> None:
    from pretrain.runs.environment import environment
    from probes.result import environment as of_results

    assert environment()["packages"]["eofm"] == fm.__version__
    assert of_results()["eofm"] == fm.__version__
