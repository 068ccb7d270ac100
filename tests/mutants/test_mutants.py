"""Each known defect is put back into a copy of the project, and its test must then fail.

It must fail because of the defect: a patch that names what is no longer there is broken code, which
any test notices (`tests.mutants.broken`). Where the defect itself shows as such an error, the
patch says so by a line `# raises: KIND`.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutants.broken import KINDS, broken_code

ROOT = Path(__file__).resolve().parents[2]
PATCHES = sorted(Path(__file__).parent.glob("*.patch"))
FOLDERS = ("fm", "shards", "pretrain", "probes", "configs", "tests", "bench", "docs")


def stated(patch: Path, key: str) -> str | None:
    found = re.search(rf"^# {key}: (.+)$", patch.read_text(encoding="utf-8"), re.MULTILINE)
    return found.group(1).strip() if found else None


def header(patch: Path, key: str) -> str:
    found = stated(patch, key)
    assert found, f"{patch.name}: the line '# {key}: ...' is missing"
    return found


def patched(patch: Path) -> list[str]:
    return re.findall(r"^\+\+\+ b/(.+)$", patch.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_patch_names_its_defect_and_test() -> None:
    assert PATCHES
    for patch in PATCHES:
        assert header(patch, "defect")
        assert (ROOT / header(patch, "test").split("::")[0]).is_file()
        assert stated(patch, "raises") in {None, *KINDS}
        assert all((ROOT / name).is_file() for name in patched(patch)), patch.name


def hunks(patch: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the file of each hunk, and the lines that it looks for there."""
    parts = re.split(r"^diff --git a/(.+) b/.+$", patch.read_text(encoding="utf-8"), flags=re.M)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        for hunk in re.split(r"^@@ .*$", body, flags=re.M)[1:]:
            yield name, [line[1:] for line in hunk.split("\n")[1:-1] if line[:1] in ("", " ", "-")]


def test_every_patch_fits_one_place() -> None:
    """A patch must follow the lines that it changes, when these move or are written anew."""
    files: dict[str, str] = {}
    for patch in PATCHES:
        for name, lines in hunks(patch):
            if name not in files:
                files[name] = "\n" + (ROOT / name).read_text(encoding="utf-8")
            places = files[name].count("\n" + "\n".join(lines) + "\n")
            assert places == 1, f"{patch.name}: lines that fit {places} places of {name}:\n{lines}"


@pytest.mark.mutants
@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_defect_is_caught(patch: Path, tmp_path: Path) -> None:
    for name in FOLDERS:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "results", ".peers")
            shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(ROOT / "README.md", tmp_path)

    def pytest_run() -> subprocess.CompletedProcess:
        # the copy stands first on the path, so it is the copy that is imported
        words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        words += ["--tb=native"]
        return subprocess.run(
            [*words, "-m", "not mutants", header(patch, "test")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    applied = subprocess.run(
        ["git", "apply", "--recount", str(patch)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert applied.returncode == 0, applied.stderr
    mutated = pytest_run()
    assert mutated.returncode == 1, f"the test did not fail:\n{mutated.stdout}{mutated.stderr}"
    broken = broken_code(mutated.stdout, tmp_path, patched(patch))
    assert (broken and broken[0]) == stated(patch, "raises"), (
        f"the patch is broken code, so that any test fails: {broken and broken[1]}"
    )
    reverted = subprocess.run(
        ["git", "apply", "--recount", "-R", str(patch)], cwd=tmp_path, check=False
    )
    assert reverted.returncode == 0
    clean = pytest_run()
    assert clean.returncode == 0, f"the test fails without the defect:\n{clean.stdout}"
