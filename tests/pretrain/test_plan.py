"""The plan: what it says against engines, runs and formulas."""

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import shards
from fm import console
from fm.cli import main as fm_main
from pretrain.build import build
from pretrain.config import RunConfig
from pretrain.data import declared
from pretrain.engine.forward import Forward
from pretrain.plan import cli
from pretrain.plan import plan as plan_module
from pretrain.plan.activations import activations
from pretrain.plan.cost import Speeds, bytes_sent, checkpoint_interval, step_time
from pretrain.plan.flops import meta_batch
from pretrain.plan.memory import Sizes, memory
from pretrain.plan.plan import Assumed, plan, work
from pretrain.plan.throughput import _batch, optimizer_bandwidth, passes_a_second
from pretrain.plan.words import text
from pretrain.trainer import load_config, run
from tests.pretrain.test_trainer import config_file

SIZES = Sizes(trained=1_000_000, frozen=100)


@pytest.fixture(scope="module")
def found_once() -> Iterator[None]:
    """Count and measure a config once for all commands of this file; they differ in their words."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("describe", "work", "_model"):
            real, kept = getattr(plan_module, name), {}

            def once(config: RunConfig, real=real, kept=kept) -> object:
                key = config.model_dump_json()
                if key not in kept:
                    kept[key] = real(config)
                return copy.deepcopy(kept[key])

            patch.setattr(plan_module, name, once)
        yield


def fm(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    class Point:
        name = "plan"

        def load(self):
            return cli.command

    monkeypatch.setattr("fm.cli._verbs", lambda: {"plan": Point()})
    return fm_main(["plan", *words])


def test_memory_by_stage() -> None:
    """The table of Rajbhandari et al., with the float32 copy and the buffers of DeepSpeed."""
    zero = {"reduce_bucket_size": 1000}
    four = [memory(SIZES, stage, 4, 7.0, zero) for stage in range(4)]
    assert [m.weights for m in four] == [4e6 + 100, 4e6 + 100, 4e6 + 100, 1e6 + 25]
    assert [m.gradients for m in four] == [4e6, 4e6 + 1e6, 1e6 + 1e6, 1e6]
    assert [m.moments for m in four] == [8e6, 2e6, 2e6, 2e6]
    assert [m.buckets for m in four] == [4e3, 4e3, 4e3, 8e3 + 4e6]
    for m in four:
        parts = m.weights + m.gradients + m.master + m.moments + m.buckets + m.activations
        assert m.device == parts
    assert memory(SIZES, 0, 1, 0.0).buckets == 0
    away = memory(SIZES, 2, 4, 0.0, {"offload_optimizer": {"device": "cpu"}})
    assert away.host == away.master + away.moments == 3e6


def test_memory_counts_the_master_weights() -> None:
    """Defect: the float32 copy that ZeRO and bfloat16 weights need is left out."""
    assert [memory(SIZES, stage, 4, 0.0).master for stage in range(4)] == [0, 1e6, 1e6, 1e6]
    half = Sizes(1_000_000, 0, weight=2, gradient=2)
    assert memory(half, 0, 4, 0.0).master == 4e6


def test_a_ring_sends_almost_twice_the_parameters() -> None:
    """Defect: the factor (n - 1) / n, or one of the two directions, is left out."""
    assert bytes_sent(SIZES, 0, 1, 8) == 0
    assert bytes_sent(SIZES, 0, 2, 8) == 4e6
    assert bytes_sent(SIZES, 0, 8, 8) == 2 * 7 / 8 * 4e6
    assert bytes_sent(SIZES, 1, 8, 8) == bytes_sent(SIZES, 0, 8, 8)
    assert bytes_sent(SIZES, 2, 8, 3) == 7 / 8 * 4e6 * (3 + 1)
    assert bytes_sent(SIZES, 3, 8, 2) == 7 / 8 * 4e6 * 3 * 2


def test_a_step_is_computing_updating_and_sending() -> None:
    speeds = Speeds(samples=100, bandwidth=28e6, link=1e6, network=0.5e6, per_node=8)
    step = step_time(SIZES, speeds, batch=800, stage=0, ranks=8, accumulate=1)
    assert (step.compute, step.optimizer, step.exposed) == (1.0, 1.0, 7.0)
    assert step.seconds == 9.0
    split = step_time(SIZES, speeds, batch=800, stage=1, ranks=8, accumulate=1)
    assert split.optimizer == 1 / 8
    far = step_time(SIZES, speeds, batch=1600, stage=0, ranks=16, accumulate=1)
    assert far.exposed == 2 * 15 / 16 * 4e6 / 0.5e6
    hidden = step_time(SIZES, speeds, batch=800, stage=0, ranks=8, accumulate=1, overlap=True)
    assert hidden.exposed == pytest.approx(7 - 2 / 3)


def test_checkpoints_as_often_as_loses_least() -> None:
    write, mean = 20.0, 360_000.0
    best = checkpoint_interval(write, mean)
    assert best == pytest.approx(math.sqrt(2 * write * mean) - write)

    def lost(every: float) -> float:  # share: writing, and half an interval a failure
        return write / every + (every / 2 + write) / mean

    assert lost(best) < min(lost(0.8 * best), lost(1.25 * best))
    assert checkpoint_interval(10.0, 15.0) == 15.0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recipe", ["mae_s2_tiny", "satmae_temporal_tiny"])
def test_what_a_pass_keeps_is_what_autograd_keeps(recipe: str, precision: str) -> None:
    config = load_config(recipe)
    layout = declared(config.data)
    with torch.device("meta"):
        unreal = build(config, layout)
    said = activations(unreal, meta_batch(layout.shapes[""], layout.scaling, 0, 3), precision)
    objective = build(config, layout)
    batch = _batch(layout, "", 3, torch.device("cpu"))
    held: dict[int, torch.Tensor] = {}
    apart = {x.untyped_storage()._cdata for x in [*objective.parameters(), *objective.buffers()]}

    def keep(x: torch.Tensor) -> torch.Tensor:
        held[x.untyped_storage()._cdata] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        Forward(objective, precision)(batch)
    real = sum(x.untyped_storage().nbytes() for key, x in held.items() if key not in apart)
    # the CPU's kernels keep a few small tensors of their own
    assert said.whole == pytest.approx(real, rel=0.02)
    assert said.checkpointed < 0.6 * said.whole


@pytest.mark.parametrize("stage", [0, 1])
def test_a_checkpoint_has_the_size_that_was_said(
    stage: int, tmp_path: Path, tiny_dataset: Path
) -> None:
    words = ["schedule.steps=2", "schedule.warmup=0", f"engine.deepspeed=zero{stage}"]
    config = load_config(str(config_file(tmp_path, tiny_dataset)), [*words, "model.name=vit_tiny"])
    found = plan(config, [1], Assumed(None, None, 1.0, None, 1.0, 1.0, 8))
    run(config)
    (folder,) = (Path(config.out) / "checkpoints").glob("step-*")
    real = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert found["disk"]["checkpoint"] == pytest.approx(real, rel=0.03)
    export = sum(p.stat().st_size for p in (Path(config.out) / "export").glob("*.safetensors"))
    assert found["disk"]["export"] == pytest.approx(export, rel=0.03)


def test_a_plan_of_what_is_there(tmp_path: Path, tiny_dataset: Path) -> None:
    config = load_config(str(config_file(tmp_path, tiny_dataset)), ["engine.micro_batch=2"])
    assumed = Assumed(100.0, None, 1e9, 1e9, 1e9, 1e9, 8, ("a line",))
    found = plan(config, [1, 2, 3, 8], assumed)
    one, two, three, eight = found["on"]
    assert (one["accumulate"], two["accumulate"]) == (4, 2)
    assert "3 ranks" in three["refused"]
    assert "engine.micro_batch=2" in eight["refused"]
    assert two["time"]["compute"] == 8 / 2 / 100
    # as the tars hold them, and not as the run cuts them
    index = shards.open(str(tiny_dataset)).index
    stored = sum(
        np.mean(index.column(f"{name}.bytes").to_numpy())
        for name in ("s2l1c_10", "s2l1c_20", "s2l1c_60")
    )
    assert found["sample_bytes"] == pytest.approx(stored)
    # 4 bands of 96 x 96, 6 of 48 x 48, 3 of 16 x 16 pixels; two bytes each where no data says it
    declared_alone = work(load_config("mae_s2_tiny", []))
    assert declared_alone["sample_bytes"] == 2 * (4 * 9216 + 6 * 2304 + 3 * 256)
    said = text(found)
    assert "3 ranks: data.batch_size=8 " in said
    assert said.endswith("assumed: a line")
    kept = [row["activations"]["whole"] for row in (one, two)]
    assert kept[0] == kept[1]  # both take two samples at once
    room = 1e9 - (one["memory"][0]["device"] - kept[0])
    assert kept[0] * one["largest_micro"][0] / 2 == pytest.approx(room, rel=0.1)
    json.dumps(found)


def test_speeds_are_measured_on_the_machine(tmp_path: Path, tiny_dataset: Path) -> None:
    config = load_config(str(config_file(tmp_path, tiny_dataset)))
    cpu = torch.device("cpu")
    assert 1 < passes_a_second(config, cpu, 2) < 1e6
    assert 1e8 < optimizer_bandwidth(cpu) < 1e13


@pytest.mark.usefixtures("found_once")
def test_the_command(monkeypatch, capsys, tmp_path: Path) -> None:
    words = ["mae_s2_tiny", "engine.precision=bf16", "--device", "h100", "--json"]
    jobs = str(tmp_path / "jobs")
    assert fm(monkeypatch, *words, "--gpus", "1,8", "--slurm", jobs) == 0
    found = json.loads(capsys.readouterr().out)
    rate = 0.35 * 989e12 / (found["flops"]["forward"] + found["flops"]["backward"])
    assert found["on"][0]["time"]["compute"] == pytest.approx(32 / rate)
    assert [Path(p).name for p in found["scripts"]] == [f"mae-s2-tiny-{n}.sbatch" for n in (1, 8)]
    assert any("35 %" in line for line in found["assumed"])
    assert fm(monkeypatch, "mae_s2_tiny", "--nodes", "1,2", "--per-node", "4") == 0
    said = capsys.readouterr().out
    assert "4 ranks:" in said
    assert "no time" in said
    assert fm(monkeypatch, "mae_s2_tiny", "--measured", "9") == 0
    assert "assumed: an optimiser that takes no time" in capsys.readouterr().out
    assert fm(monkeypatch, "mae_s2_tiny", "--measure", "--gpus", "1,16") == 0
    assert "samples/s, 2 at once; AdamW" in capsys.readouterr().out


@pytest.mark.usefixtures("found_once")
def test_a_run_that_fits_on_none_of_the_numbers_is_a_failure(
    monkeypatch, capsys, tmp_path: Path
) -> None:
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    jobs = tmp_path / "jobs"
    words = ["mae_s2_tiny", "--slurm", str(jobs)]
    assert fm(monkeypatch, *words, "--gpus", "3,5") == 1
    shown = capsys.readouterr()
    assert "3 ranks: data.batch_size=32" in shown.out
    assert "5 ranks: data.batch_size=32" in shown.out
    *waited, error = shown.err.splitlines()
    assert error.startswith("fm plan: the run cannot be on 3, 5 devices: data.batch_size=32 ")
    assert [line.split("  ")[0] for line in waited] == [f"planning {n}/3" for n in (1, 2, 3)]
    assert not jobs.exists()
    assert "assumed: 8 devices in a node (--per-node)" in shown.out
    words = ["mae_s2_tiny", "--gpus", "3,4", "--per-node", "4"]
    assert fm(monkeypatch, *words) == 0
    assert "devices in a node" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--device", "h10"], "did you mean 'h100'"),
        (["--device", "h100"], "engine.precision is fp32"),
        (["--mfu", "0.5"], "give --device"),
        (["--gpus", "8,x"], "no list of numbers"),
        (["--gpus", "8", "--nodes", "1"], "give one"),
        (["--measured", "0"], "--measured must be a number above 0"),
        (["--measured", "9", "--link", "0", "--gpus", "2"], "--link must be a number above 0"),
        (["--measured", "9", "--network", "nan"], "--network must be a number above 0"),
        (["--slurm", __file__], "is a file; name a folder"),
        (["--device", "h100", "--mfu", "2", "engine.precision=bf16"], "at most 1"),
    ],
)
def test_wrong_words_are_one_line(monkeypatch, capsys, words: list[str], problem: str) -> None:
    assert fm(monkeypatch, "mae_s2_tiny", *words) == 2
    said = capsys.readouterr().err
    assert problem in said
    assert len(said.strip().splitlines()) == 1
