"""What is built: the sdist holds the tree, both wheels are one, each runs where nothing else is."""

import configparser
import email
import hashlib
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

import fm
from tests.release import bare

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@dataclass(frozen=True)
class Built:
    """The two files, and the folder that the sdist unpacks to."""

    wheel: Path
    sdist: Path
    unpacked: Path


def build(source: Path, target: str, out: Path) -> Path:
    words = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(out)]
    subprocess.run(words, cwd=source, check=True, capture_output=True)
    (made,) = out.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return made


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    sdist = build(ROOT, "sdist", folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    return Built(build(ROOT, "wheel", folder), sdist, unpacked)


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return email.message_from_string(archive.read(name).decode())


def tracked() -> set[str]:
    words = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name for name in listed if (ROOT / name).is_file()}


def test_recipes_are_inside_and_nothing_else_is_on_top(built: Built) -> None:
    inside = names(built.wheel)
    tops = {name.split("/")[0] for name in inside if ".dist-info/" not in name}
    assert tops == {"fm", "pretrain", "probes", "shards"}
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert f"fm/{path.relative_to(ROOT)}" in inside


def test_every_file_of_the_packages_is_inside(built: Built) -> None:
    # catalogue, inventories, styles, scripts and templates of pages too
    rooms = [ROOT / room for room in ("fm", "pretrain", "probes", "shards")]
    wanted = {
        str(path.relative_to(ROOT))
        for room in rooms
        for path in room.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {Path(name).suffix for name in wanted} >= {".py", ".json", ".css", ".js", ".safetensors"}
    assert wanted <= names(built.wheel), wanted - names(built.wheel)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout to compare with")
def test_the_sdist_holds_what_git_tracks(built: Built) -> None:
    inside = {
        str(path.relative_to(built.unpacked))
        for path in built.unpacked.rglob("*")
        if path.is_file()
    }
    assert inside - {"PKG-INFO"} == tracked()


def test_the_wheel_of_the_sdist_is_the_wheel_of_the_tree(built: Built, tmp_path: Path) -> None:
    again = build(built.unpacked, "wheel", tmp_path)
    with zipfile.ZipFile(built.wheel) as one, zipfile.ZipFile(again) as other:
        hashes = [
            {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
            for archive in (one, other)
        ]
    assert hashes[0] == hashes[1]
    assert again.read_bytes() == built.wheel.read_bytes()


def test_metadata_is_complete(built: Built) -> None:
    told = metadata(built.wheel)
    assert (told["Name"], told["Version"]) == ("eofm", fm.__version__)
    assert told["Description-Content-Type"] == "text/markdown"
    assert str(told.get_payload()).strip() == (ROOT / "README.md").read_text("utf-8").strip()
    assert (told["License-Expression"], told["License-File"]) == ("Apache-2.0", "LICENSE")
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names(built.wheel))
    assert set(told.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert told["Requires-Python"] == PROJECT["requires-python"]
    assert told.get_all("Classifier") == PROJECT["classifiers"]
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("/entry_points.txt")]
        points = configparser.ConfigParser()
        points.read_string(archive.read(name).decode())
    assert dict(points["eofm.commands"]) == PROJECT["entry-points"]["eofm.commands"]


def test_extras_are_told_to_users() -> None:
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    for extra in PROJECT["optional-dependencies"]:
        assert f"| `{extra}` |" in page, extra


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_runs_where_nothing_else_is(built: Built, kind: str, tmp_path: Path) -> None:
    required = [
        text
        for text in metadata(built.wheel).get_all("Requires-Dist", [])
        if "extra ==" not in text
    ]
    builder = ["hatchling"] if kind == "sdist" else []
    python = bare.make(tmp_path / "env", [*required, *builder])
    bare.install(python, built.wheel if kind == "wheel" else built.sdist)
    fm_there, here = str(python.with_name("fm")), tmp_path / "here"
    here.mkdir()
    assert bare.run([fm_there, "--version"], here).stdout == f"{fm.__version__}\n"
    listed = bare.run([fm_there, "models", "list"], here).stdout
    assert "croma" in listed.lower()
    if kind == "sdist":
        return  # its wheel is the other's to the byte: what follows would be the same
    missing = (
        "import importlib.util as u; assert u.find_spec('sklearn') is None is u.find_spec('zarr')"
    )
    bare.run([str(python), "-c", missing], here)
    done = bare.run([str(python), str(HERE / "taken_away.py")], here)
    assert done.stdout.count("\n") >= 3
