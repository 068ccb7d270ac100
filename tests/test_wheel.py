"""The wheel: recipes inside, no stray top-level packages."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_recipes_are_inside_and_nothing_else_is_on_top(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--quiet"]
    subprocess.run([*words, "--no-build-isolation", "-w", str(tmp_path)], check=True)
    (wheel,) = tmp_path.glob("eofm-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"fm", "pretrain", "probes", "shards"}
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert f"fm/{path.relative_to(ROOT)}" in names
    for path in ("fm/page/base.css", "probes/leaderboard/page.css", "pretrain/report/report.css"):
        assert path in names
