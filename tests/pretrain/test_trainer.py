"""Runs: kill and go on, ranks, refusals, in real processes on the tiny dataset."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

import fm
import shards
from fm.errors import FMError, UsageError
from pretrain.report import stored
from pretrain.runs.folder import read_lines
from pretrain.trainer import RunResult, load_config, run
from tests import ranks as forked
from tests.ranks import Done, command


def config_file(tmp_path: Path, dataset: Path, **changes: object) -> Path:
    values = {
        "name": "tiny",
        "out": str(tmp_path / "run"),
        "seed": 1,
        "data": {"path": str(dataset), "batch_size": 8},
        "model": {"name": "vit_nano", "token_m": 60, "options": {"depth": 1}},
        "objective": {"kind": "mae", "decoder": {"width": 32, "depth": 1, "heads": 2}},
        "optimizer": {"lr": 1e-3, "clip": 1.0},
        "engine": {"precision": "fp32"},
        "schedule": {"steps": 30, "warmup": 3},
        "checkpoint": {"every": 4},
        "monitor": {"pictures": 0, "tensorboard": False},
        **changes,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def launch(config: Path, *overrides: str, ranks: int = 1) -> Done:
    """Run `fm pretrain` in processes of its own."""
    words = ("pretrain", str(config), *overrides)
    return forked.launch(config.parent / "told", command, *words, ranks=ranks)


def under_torchrun(config: Path, *overrides: str) -> subprocess.CompletedProcess:
    """Run `torchrun -m pretrain` on two ranks."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [sys.executable, *launcher, "-m", "pretrain", str(config), *overrides],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=200,
    )


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in read_lines(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """An uninterrupted float32 run on one process."""
    tmp_path = tmp_path_factory.mktemp("whole")
    done = launch(config_file(tmp_path, tiny_dataset))
    assert done.returncode == 0, done.stderr
    return tmp_path / "run"


def wait_for_steps(folder: Path, count: int, after: str | None = None) -> None:
    """Wait until a run has logged some steps, and has written a file of its folder."""
    metrics, deadline = folder / "metrics.jsonl", time.monotonic() + 100
    while time.monotonic() < deadline:
        there = after is None or (folder / after).exists()
        if there and metrics.exists() and len(metrics.read_bytes().splitlines()) >= count:
            return
        time.sleep(0.002)
    raise AssertionError("the run is not getting on")


def test_kill_and_start_again_is_the_same_curve_bit_for_bit(
    tmp_path: Path, tiny_dataset: Path, whole: Path
) -> None:
    config = config_file(tmp_path, tiny_dataset)
    started = forked.start(tmp_path / "told", command, "pretrain", str(config))
    wait_for_steps(tmp_path / "run", 6, after="latest")
    started.processes[0].kill()
    assert started.wait().statuses == [-signal.SIGKILL]
    before = losses(tmp_path / "run")
    assert 6 <= len(before) < 30
    done = launch(config)
    assert done.returncode == 0, done.stderr
    assert "going on after step" in done.stderr
    assert losses(tmp_path / "run") == losses(whole)
    ours = fm.load(tmp_path / "run" / "export").state_dict()
    for name, value in fm.load(whole / "export").state_dict().items():
        assert (ours[name] == value).all(), name


def test_sigterm_writes_a_checkpoint_and_the_run_goes_on(
    tmp_path: Path, tiny_dataset: Path, whole: Path
) -> None:
    config = config_file(tmp_path, tiny_dataset, checkpoint={"every": 1000})
    started = forked.start(tmp_path / "told", command, "pretrain", str(config))
    wait_for_steps(tmp_path / "run", 6)
    started.processes[0].terminate()
    assert started.wait().statuses == [75]
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert state["status"] == "requeue"
    assert state["step"] == len(losses(tmp_path / "run"))
    assert launch(config).returncode == 0
    assert losses(tmp_path / "run") == losses(whole)


@pytest.mark.parametrize(
    "start", [partial(launch, ranks=2), pytest.param(under_torchrun, marks=pytest.mark.slow)]
)
def test_two_ranks_give_the_curve_of_one(
    start: Callable[..., Any], tmp_path: Path, tiny_dataset: Path, whole: Path
) -> None:
    config = config_file(tmp_path, tiny_dataset)
    done = start(config, "engine.micro_batch=2")
    assert done.returncode == 0, done.stderr
    ours, theirs = losses(tmp_path / "run"), losses(whole)
    assert len(ours) == 30
    # the same numbers summed in another order
    assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_zero_stages_on_two_ranks_train_and_go_on(
    stage: int, tmp_path: Path, tiny_dataset: Path, whole: Path
) -> None:
    config = config_file(tmp_path, tiny_dataset)
    options = ("engine.precision=fp32", f"engine.deepspeed=zero{stage}")
    first = launch(config, *options, ranks=2)
    assert first.returncode == 0, first.stderr
    curve = losses(tmp_path / "run")
    assert curve == pytest.approx(losses(whole), rel=1e-5)
    exported = fm.load(tmp_path / "run" / "export").state_dict()
    # back to the checkpoint of step 28, as after a crash: the last steps are taken again
    shutil.rmtree(tmp_path / "run" / "export")
    (tmp_path / "run" / "latest").write_text("step-00000028\n")
    again = launch(config, *options, ranks=2)
    assert again.returncode == 0, again.stderr
    assert "going on after step 28" in again.stderr
    assert losses(tmp_path / "run") == curve
    for name, value in fm.load(tmp_path / "run" / "export").state_dict().items():
        assert (exported[name] == value).all(), name


def test_learning_happens_and_the_run_folder_is_complete(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    path = config_file(
        tmp_path, tiny_dataset, monitor={"pictures": 2, "tensorboard": True}, optimizer={"lr": 3e-3}
    )
    result = run(str(path), ["schedule.steps=24"])
    assert isinstance(result, RunResult)
    assert result.loss_end < result.loss_start
    folder = tmp_path / "run"
    names = {p.name for p in folder.iterdir()}
    assert {"config.yaml", "env.json", "state.json", "metrics.jsonl", "export"} <= names
    assert {"checkpoints", "latest", "tensorboard", "pictures"} <= names
    assert len(list((folder / "pictures").glob("*.png"))) == 2
    assert len(stored.load(folder / "pictures")) == 2 * 3  # of three modalities each
    assert [row["step"] for row in read_lines(folder / "sessions.jsonl")] == [0]
    assert len(list((folder / "checkpoints").iterdir())) == 2
    card = fm.load(folder / "export").card
    assert card.data["manifest_hash"]
    assert card.training["samples_seen"] == 24 * 8
    # again: nothing to do; changed: refused
    assert run(str(path), ["schedule.steps=24"]) == result
    with pytest.raises(UsageError, match=r"optimizer\.lr, schedule\.steps"):
        run(str(path), ["schedule.steps=41", "optimizer.lr=1e-4"])
    started = run(
        str(path),
        [f"init_from={folder / 'export'}", f"out={tmp_path / 'second'}", "schedule.steps=4"],
    )
    assert started.loss_start < result.loss_start
    assert fm.load(started.export).card.parent.startswith("tiny (")
    # a run that is there already does not begin again from other weights, forced or not
    with pytest.raises(UsageError, match="began from fresh weights, and init_from begins a new"):
        run(str(path), ["schedule.steps=24", f"init_from={folder / 'export'}"], force=True)


def test_a_damaged_sample_is_quarantined_and_the_run_goes_on(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_dataset, damaged)
    row = shards.open(damaged).index.slice(9, 1).to_pylist()[0]
    tar = damaged / row["shard"]
    data = bytearray(tar.read_bytes())
    data[row["s2l1c_20.offset"] + row["s2l1c_20.bytes"] // 2] ^= 1
    tar.write_bytes(data)
    path = config_file(tmp_path, damaged)
    result = run(str(path), ["schedule.steps=6", "schedule.warmup=1"])
    assert result.steps == 6
    lines = (tmp_path / "run" / "quarantine-0.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [row["key"]]
    weights = [entry["weight"] for entry in read_lines(tmp_path / "run" / "metrics.jsonl")]
    # 48 samples are two epochs: the damaged one is met twice and counts nothing both times
    assert sum(weights) == (48 - 2) * max(weights) / 8


def test_what_could_not_be_read_before_a_resume_still_counts(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    damaged = Path(shutil.copytree(tiny_dataset, tmp_path / "damaged"))
    path, words = config_file(tmp_path, damaged), ["schedule.steps=6", "schedule.warmup=1"]
    ds = shards.open(damaged)
    order = [key for batch in ds.loader(8, seed=1, steps=6) for key in batch.keys]
    first, later = order[0], order[40]  # a step before the resume, and one after it
    rows = {row["key"]: row for row in ds.index.to_pylist()}

    def flip(key: str) -> None:
        with open(damaged / rows[key]["shard"], "r+b") as stream:
            stream.seek(rows[key]["s2l1c_20.offset"] + 20)
            byte = stream.read(1)[0]
            stream.seek(-1, os.SEEK_CUR)
            stream.write(bytes([byte ^ 1]))

    flip(first)
    run(str(path), words)
    shutil.rmtree(tmp_path / "run" / "export")
    (tmp_path / "run" / "latest").write_text("step-00000004\n")
    flip(first)  # mended
    flip(later)
    with pytest.raises(FMError, match="2 of 24 samples cannot be read") as caught:
        run(str(path), words)
    assert "quarantine-0.jsonl" in str(caught.value)


def test_a_run_on_crops_of_one_part_of_a_split(tmp_path: Path, tiny_dataset: Path) -> None:
    from shards import splits

    file = tmp_path / "split.json"
    ds = shards.open(tiny_dataset)
    split = splits.random(ds, {"train": 0.5, "test": 0.5})
    split.write(file)
    path = config_file(tmp_path, tiny_dataset, monitor={"pictures": 1, "tensorboard": False})
    words = [
        f"data.split=[{file},train]",
        *("data.crop=12", "data.random_crop=true", "data.window=8"),
        *("schedule.steps=4", "schedule.warmup=1"),
    ]
    result = run(str(path), words)
    assert result.steps == 4
    data = fm.load(tmp_path / "run" / "export").card.data
    assert data["samples"] == len(split.lists["train"]) < len(ds)
    assert data["split"] == {"part": "train", "sha256": split.sha256["train"]}
    moved = tmp_path / "moved.json"
    shutil.copy(file, moved)  # the list counts, not where the file lies
    assert run(str(path), [f"data.split=[{moved},train]", *words[1:]]) == result
    for changed, key in (
        ([f"data.split=[{file},test]", *words[1:]], r"data\.split"),
        ([*words, "data.crop=24"], r"data\.crop"),
        ([*words, "data.window=9"], r"data\.window"),
    ):
        with pytest.raises(UsageError, match=key):
            run(str(path), changed)


def test_bad_input_is_one_line(tmp_path: Path, tiny_dataset: Path) -> None:
    path = config_file(tmp_path, tiny_dataset)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    cases = [
        (["data.path=/no/such/folder"], "/no/such/folder"),
        (["data.where=split == 'nothing'"], "no sample has"),
        (["data.modalities=[s1grd_10]"], "has no s1grd_10"),
        (["data.random_crop=true"], "has no crop to place"),
        (["data.crop=30"], "too small for crop=30"),
        (["data.split=[/no/split.json,train]"], "/no/split.json"),
        (["data.batchsize=3"], "did you mean 'batch_size'"),
        (["objective.decoder.widht=3"], "did you mean 'width'"),
        (["engine.micro_batch=3"], "nearest engine.micro_batch: 2 or 4"),
        (["schedule.warmup=30"], "does not end before"),
        (["model.token_m=50"], "not whole pixels"),
        ([f"out={tmp_path / 'other'}"], "not empty and holds no run"),
        ([f"init_from={tmp_path / 'other'}"], "not an eofm checkpoint"),
        (["engine.deepspeed=zero9"], "no deepspeed recipe 'zero9'"),
    ]
    for overrides, text in cases:
        with pytest.raises(FMError, match=text) as error:
            run(str(path), overrides)
        assert "\n" not in str(error.value)
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "run").exists()


def test_a_live_run_locks_its_folder(tmp_path: Path, tiny_dataset: Path) -> None:
    from pretrain.runs.folder import RunFolder

    path = config_file(tmp_path, tiny_dataset)
    with (
        RunFolder(tmp_path / "run").locked(),
        pytest.raises(FMError, match="a run is alive"),
    ):
        run(str(path))


def test_shipped_recipes_parse() -> None:
    from fm.config import list_recipes

    names = list_recipes("pretrain")
    assert len(names) >= 3
    for name in names:
        config = load_config(name)
        assert f"effective batch {config.data.batch_size}" in config.follows.replace("\n", " ")
        assert config.hash() == load_config(name, ["out=elsewhere", "data.threads=7"]).hash()


def test_a_key_that_an_older_run_did_not_know_is_no_difference_at_its_default() -> None:
    from pretrain.runs.folder import differing_keys

    words = ["data.path=/nowhere", "objective.decoder.predict=0.5"]
    config = load_config("mae_s2_tiny", words)
    old = config.identity()
    del old["objective"]["decoder"]["where"]
    del old["augment"]

    def changed(*more: str) -> list[str]:
        now = load_config("mae_s2_tiny", [*words, *more])
        chosen = now.model_dump(mode="json", exclude_defaults=True)
        return differing_keys(old, now.identity(), chosen)

    assert changed() == []
    assert changed("objective.decoder.where=window") == ["objective.decoder.where"]
    assert changed("objective.decoder.predict=1.0") == ["objective.decoder.predict"]
    assert changed("augment.dihedral=false") == ["augment"]
