"""Rates over a window, on a clock of the test's own."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from fm.config import parse
from fm.errors import UsageError
from pretrain.accelerators import ACCELERATORS
from pretrain.loop import Moment
from pretrain.monitors import throughput
from pretrain.monitors.peak import measured_flops, peak_flops
from pretrain.monitors.throughput import Throughput
from pretrain.plan.flops import Flops
from pretrain.settings.monitor import MonitorConfig

SECONDS = 0.5


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def counted(*_: object) -> dict[str, Flops]:
    return {"": Flops(2e9, 4e9)}


def uncountable(*_: object) -> dict[str, Flops]:
    raise RuntimeError("Tensor.item() cannot be called on meta tensors")


def watched(
    monkeypatch: pytest.MonkeyPatch,
    waits: list[float],
    count: Callable[..., dict[str, Flops]] = counted,
    **monitor: object,
) -> list[dict[str, float]]:
    """Take a step of `SECONDS` beside each wait; return what was told of each."""
    monkeypatch.setattr(throughput, "token_grids", lambda *_: {"": {"a": (4, 4), "b": (2, 2)}})
    monkeypatch.setattr(throughput, "flops_by_part", count)
    config = SimpleNamespace(
        data=SimpleNamespace(batch_size=8),
        monitor=MonitorConfig(**{"window": 10, **monitor}),
        engine=SimpleNamespace(precision="fp32"),
    )
    loop = SimpleNamespace(
        config=config,
        data=SimpleNamespace(layout=None),
        device=torch.device("cpu"),
        engine=SimpleNamespace(objective=None),
    )
    clock = Clock()
    watcher = Throughput(clock)
    watcher.begin(loop)
    told = []
    for step, wait in enumerate(waits, 1):
        clock.now += SECONDS + wait
        batch = SimpleNamespace(part=None)
        moment = Moment(step, batch, None, None, waited=wait, last=step == len(waits))
        watcher.after_step(moment)
        told.append(moment.events)
    return told


def test_rates_are_those_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *_, last = watched(monkeypatch, [0.0] * 20 + [0.5] * 10)
    assert first["samples_per_s"] == 8 / SECONDS
    assert last["samples_per_s"] == pytest.approx(8 / (SECONDS + 0.5))
    assert last["tokens_per_s"] == pytest.approx(20 * 8 / (SECONDS + 0.5))
    assert last["step_seconds"] == pytest.approx(1.0)
    assert "mfu" not in last  # nobody says what this processor can do


def test_a_stall_shows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, last = watched(monkeypatch, [0.0] * 190 + [4.5] * 10)
    assert last["data_wait"] == pytest.approx(0.9)
    assert last["run_wait_share"] == pytest.approx(45 / (200 * SECONDS + 45), rel=1e-5)


def test_utilisation_is_counted_work_over_what_the_device_could_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    *_, last = watched(monkeypatch, [0.0] * 5, peak_tflops=0.5)
    # 8 samples of 6 GFLOP in half a second
    assert last["mfu"] == pytest.approx(8 * 6e9 / SECONDS / 0.5e12)


def test_an_objective_that_cannot_be_counted_has_none_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    *_, last = watched(monkeypatch, [0.0] * 5, uncountable, peak_tflops=0.5)
    assert "mfu" not in last
    assert "no MFU: the objective cannot be counted" in capsys.readouterr().err


def test_steps_between_lines_tell_nothing_but_count(monkeypatch: pytest.MonkeyPatch) -> None:
    told = watched(monkeypatch, [0.0] * 7, every=3)
    assert [bool(events) for events in told] == [False, False, True, False, False, True, True]
    assert told[5]["samples_per_s"] == 16


def test_a_peak_is_stated_known_or_measured_but_never_guessed() -> None:
    cpu = torch.device("cpu")
    assert peak_flops(cpu, None, torch.float32) is None
    assert peak_flops(cpu, 1.5, torch.float32) == 1.5e12
    measured = measured_flops(cpu, torch.float32, side=64)
    assert 1e7 < measured < 1e14


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_the_stated_peak_is_of_the_device_by_its_whole_name(name, key, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: name)
    known = None if key is None else ACCELERATORS[key].flops
    assert peak_flops(torch.device("cuda"), None, torch.bfloat16) == known


def test_no_two_kinds_are_called_alike() -> None:
    names = [name for kind in ACCELERATORS.values() for name in kind.called]
    assert len(names) == len(set(names)) >= len(ACCELERATORS)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            "mesure",
            "peak_tflops='mesure': give a number (1e12 operations a second), measure or null",
        ),
        (0, "peak_tflops=0: it must be a number above 0"),
        ("nan", "peak_tflops='nan': it must be a number above 0"),
    ],
)
def test_a_mistyped_peak_is_told_what_may_stand_there(value: object, told: str) -> None:
    with pytest.raises(UsageError) as found:
        parse(MonitorConfig, {"peak_tflops": value}, "here")
    assert str(found.value) == f"here: {told}"
    assert parse(MonitorConfig, {"peak_tflops": "9.9e2"}, "here").peak_tflops == 990.0
