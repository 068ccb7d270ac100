"""Each known defect is put back into a copy of the project, and its test must then fail."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATCHES = sorted(Path(__file__).parent.glob("*.patch"))
FOLDERS = ("fm", "shards", "pretrain", "probes", "configs", "tests", "bench", "docs")


def header(patch: Path, key: str) -> str:
    found = re.search(rf"^# {key}: (.+)$", patch.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{patch.name}: the line '# {key}: ...' is missing"
    return found.group(1).strip()


def test_every_patch_names_its_defect_and_test() -> None:
    assert PATCHES
    for patch in PATCHES:
        assert header(patch, "defect")
        assert (ROOT / header(patch, "test").split("::")[0]).is_file()


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
    reverted = subprocess.run(
        ["git", "apply", "--recount", "-R", str(patch)], cwd=tmp_path, check=False
    )
    assert reverted.returncode == 0
    clean = pytest_run()
    assert clean.returncode == 0, f"the test fails without the defect:\n{clean.stdout}"
