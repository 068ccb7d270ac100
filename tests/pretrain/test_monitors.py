"""Everything that looks at a run at once: what it writes, and that it only looks."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fm import console
from fm.errors import FMError, UsageError
from pretrain import trainer
from pretrain.loop import Moment, Watcher
from pretrain.monitors.memory import children_bytes, own_peak_bytes
from pretrain.objectives.mae import MAE
from pretrain.runs.folder import read_lines
from pretrain.trainer import load_config, run
from tests.pretrain import faulty
from tests.pretrain.test_trainer import config_file, launch, losses
from tests.probes import standin

OFF = ["monitor.detail_every=0", "monitor.features_every=0"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of 12-px blocks, which is trained on and probed."""
    pixels, label = standin.scene(side=36)
    return standin.write_scene(tmp_path_factory.mktemp("scene") / "ds", pixels, label, block=12)


@pytest.fixture
def dropping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the objective drop values by torch's generator: its loss tells who has touched it."""
    build = trainer.build

    def with_dropout(*given: Any) -> Any:
        objective = build(*given)
        for module in objective.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.2
        return objective

    monkeypatch.setattr(trainer, "build", with_dropout)


class Fake:
    """Stands for the package wandb."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.finished = 0
        self.Settings = dict

    def init(self, **given: Any) -> "Fake":
        self.begun.append(given)
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        self.lines.append((step, values))

    def finish(self) -> None:
        self.finished += 1


class Modes(Watcher):
    """Notes after each step whether all modules are in training mode."""

    def __init__(self) -> None:
        self.training: list[bool] = []

    def begin(self, loop: Any) -> None:
        self.modules = list(loop.engine.engine.module.modules())

    def after_step(self, moment: Moment) -> None:
        self.training.append(all(module.training for module in self.modules))


def settings(tmp_path: Path, scene: Path, *words: str, **changes: Any) -> Any:
    data = {"path": str(scene), "batch_size": 4, "crop": 12}
    schedule = {"steps": 6, "warmup": 2}
    path = config_file(tmp_path, scene, data=data, schedule=schedule, **changes)
    return load_config(str(path), ["monitor.window=3", *words])


def probed(scene: Path, **changes: Any) -> list[str]:
    values = {"benchmark": "indian-pines", "data": scene, "every_samples": 16, "max_share": 0.99}
    return [f"probe.{key}={value}" for key, value in {**values, **changes}.items()]


def test_a_last_step_that_is_passed_over_ends_the_looking_all_the_same(
    tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Defect: watchers were not called, so no probe of the final weights, no last rates."""
    monkeypatch.setattr(MAE, "forward", faulty.faulty(MAE.forward, "nan", 0, (3, 6)))
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    words = ["guard.policy=skip", "monitor.every=4", *OFF, *probed(scene, every_samples=10**6)]
    result = run(settings(tmp_path, scene, *words))
    fourth, end = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert (fourth["step"], end["step"]) == (4, 6)
    assert {"samples_per_s", "memory_peak_gib"} <= set(end)
    assert any(name.startswith("probe/indian-pines") for name in end)
    assert not {"loss", "grad_norm"} & set(end)
    assert [row["step"] for row in read_lines(tmp_path / "run" / "probes.jsonl")] == [0, 6]
    assert result.loss_end == fourth["loss"]
    shown = capsys.readouterr().err
    assert "tiny 3/6  loss passed over" in shown
    assert "tiny 6/6  loss passed over" in shown


@pytest.mark.usefixtures("dropping")
def test_looking_does_not_change_the_curve(
    tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bare").mkdir()
    run(settings(tmp_path / "bare", scene, *OFF))
    (tmp_path / "seen").mkdir()
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    words = ["monitor.detail_every=2", "monitor.features_every=3", "monitor.profile=[2, 3]"]
    words += ["monitor.wandb=offline", "monitor.peak_tflops=0.01", "monitor.every=2"]
    words += ["monitor.tensorboard=true"]
    modes = Modes()
    run(settings(tmp_path / "seen", scene, *words, *probed(scene)), watchers=[modes])
    folder = tmp_path / "seen" / "run"
    seen = {row["step"]: row for row in read_lines(folder / "metrics.jsonl")}
    bare = losses(tmp_path / "bare" / "run")
    assert {step: row["loss"] for step, row in seen.items()} == {n: bare[n - 1] for n in (2, 4, 6)}
    assert modes.training == [True] * 6

    # rates and memory
    assert {"samples_per_s", "tokens_per_s", "step_seconds", "mfu", "data_wait"} <= set(seen[6])
    assert 0 < seen[6]["mfu"] < 1
    assert seen[6]["memory_peak_gib"] > 0.05
    # what falls between two lines stands in the next
    assert "effective_rank" in seen[4]
    assert 1 <= seen[6]["effective_rank"] <= 3
    bands = read_lines(folder / "bands.jsonl")
    assert [row["step"] for row in bands] == [2, 4, 6]
    assert len(bands[0]["bands"]["aviris_20"]) == 200
    assert seen[2]["loss/aviris_20"] == bands[0]["loss"]["aviris_20"]

    # probes: before the first step, every 16 samples, at the end
    probes = read_lines(folder / "probes.jsonl")
    assert [row["step"] for row in probes] == [0, 4, 6]
    assert {row["scored"] for row in probes} == {"val"}
    assert all(row["low"] <= row["value"] <= row["high"] for row in probes)
    assert seen[4]["probe/indian-pines-knn"] == probes[1]["value"]
    assert len(list((folder / "tensorboard").iterdir())) == 1

    with gzip.open(folder / "profile" / "steps-2-3.json.gz", "rt") as stream:
        assert json.load(stream)["traceEvents"]
    (begun,) = fake.begun
    assert (begun["mode"], begun["dir"], begun["resume"]) == ("offline", str(folder), "allow")
    assert [step for step, _ in fake.lines] == [2, 4, 6]
    assert fake.finished == 1
    # the bar has its own line on the terminal; nothing of the harness stands between
    assert "encoding" not in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_under_zero_3_tell_what_one_tells(tmp_path: Path, scene: Path) -> None:
    words = ["monitor.detail_every=2", "monitor.features_every=2", *probed(scene)]
    run(settings(tmp_path, scene, *words))
    one = tmp_path / "run"
    more = [*words, "monitor.window=3", "engine.deepspeed=zero3", "engine.micro_batch=1"]
    done = launch(tmp_path / "config.yaml", *more, f"out={tmp_path / 'two'}", ranks=2)
    assert done.returncode == 0, done.stderr
    for name in ("bands.jsonl", "probes.jsonl"):
        ours, theirs = read_lines(tmp_path / "two" / name), read_lines(one / name)
        assert len(ours) == len(theirs) == 3
        for a, b in zip(ours, theirs, strict=True):
            if name == "bands.jsonl":
                assert a["bands"]["aviris_20"] == pytest.approx(b["bands"]["aviris_20"], rel=1e-5)
            else:  # a neighbour may change its place among near ones
                assert a["value"] == pytest.approx(b["value"], abs=0.01)
    ours, theirs = (read_lines(f / "metrics.jsonl")[-1] for f in (tmp_path / "two", one))
    for name in ("effective_rank", "feature_std", "loss/aviris_20"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3)


def test_a_run_that_goes_on_is_the_same_in_wandb_and_in_its_files(
    tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    words = ["monitor.wandb=offline", "checkpoint.every=2", "monitor.detail_every=1", *OFF[1:]]
    config = settings(tmp_path, scene, *words)

    class Broken(Watcher):
        def after_step(self, moment: Moment) -> None:
            if moment.step == 5:
                raise FMError("five")

    with pytest.raises(FMError, match="five"):
        run(config, watchers=[Broken()])
    run(config)
    first, second = fake.begun
    assert first["id"] == second["id"]
    assert len(first["id"]) == 8
    rows = read_lines(tmp_path / "run" / "bands.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_a_missing_package_is_told_before_anything_is_written(
    tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(FMError, match=r"pip install 'eofm\[wandb\]'"):
        run(settings(tmp_path, scene, "monitor.wandb=offline"))
    assert not (tmp_path / "run").exists()


def test_probes_keep_to_their_share(tmp_path: Path, scene: Path, capsys: Any) -> None:
    run(settings(tmp_path, scene, *OFF, *probed(scene, every_samples=4, max_share=0.01)))
    rows = read_lines(tmp_path / "run" / "probes.jsonl")
    assert [row["step"] for row in rows] == [0]
    told = [line for line in capsys.readouterr().err.splitlines() if "passed over" in line]
    assert len(told) == 1
    assert "probe.max_share is 1%" in told[0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"benchmark": "indian-pine"}, "did you mean 'indian-pines@1'"),
        ({"data": "/nowhere"}, "nowhere"),
        ({"protocol": "knm"}, "probe indian-pines-knm: there is no protocol 'knm'"),
        ({"protocol": "upernet"}, "upernet@1 is for the tasks"),
    ],
)
def test_a_probe_that_cannot_be_had_ends_the_run_before_its_first_step(
    change: dict[str, Any], match: str, tmp_path: Path, scene: Path
) -> None:
    with pytest.raises(FMError, match=match):
        run(settings(tmp_path, scene, *OFF, *probed(scene, **change)))
    assert not (tmp_path / "run" / "metrics.jsonl").exists() or not losses(tmp_path / "run")


def test_what_is_shown_is_no_part_of_what_a_run_is(tmp_path: Path, scene: Path) -> None:
    plain = settings(tmp_path, scene)
    shown = settings(tmp_path, scene, *OFF, *probed(scene), "monitor.window=9")
    assert plain.hash() == shown.hash()


@pytest.mark.parametrize(
    ("word", "match"),
    [("monitor.profile=[5, 3]", "rising"), ("monitor.peak_tflops=-1", "above 0")],
)
def test_wrong_settings_are_refused(word: str, match: str, tmp_path: Path, scene: Path) -> None:
    with pytest.raises(UsageError, match=match):
        settings(tmp_path, scene, word)


def test_features_that_fall_together_are_told_once(
    tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from pretrain.objective import Objective

    features: Callable[..., Any] = Objective.features
    monkeypatch.setattr(Objective, "features", lambda self, batch: 0 * features(self, batch) + 1)
    run(settings(tmp_path, scene, "monitor.detail_every=0", "monitor.features_every=2"))
    told = [line for line in capsys.readouterr().err.splitlines() if "collapsed" in line]
    assert len(told) == 1
    assert "step 2: the features of 4 samples have collapsed" in told[0]
    rows = read_lines(tmp_path / "run" / "metrics.jsonl")
    assert rows[-1]["feature_std"] == 0
    assert "effective_rank" not in rows[-1]


def test_memory_of_this_process_and_those_under_it() -> None:
    import subprocess

    assert 2**26 < own_peak_bytes() < 2**36
    code = "x = bytearray(2**26); print(flush=True); input()"
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:
        child.stdout.readline()
        grown = children_bytes()
        child.communicate(b"\n")
    assert grown > 2**26
