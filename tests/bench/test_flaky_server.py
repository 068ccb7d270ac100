"""The server that fails as told: which faults it draws, and how fast it sends."""

import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.flaky_server import FlakyServer, Plan, _Throttle

SIZE = 600_000
"""Bytes of the file that is served."""


def test_the_plan_of_faults_is_seeded_and_bounded() -> None:
    plan = Plan({"drop": 0.3, "corrupt": 0.2}, seed=4, most=2)
    drawn = [plan.fault("a", f"bytes={i}-", 0) for i in range(4000)]
    assert drawn == [plan.fault("a", f"bytes={i}-", 0) for i in range(4000)]
    assert drawn.count("drop") / 4000 == pytest.approx(0.3, abs=0.03)
    assert drawn.count("corrupt") / 4000 == pytest.approx(0.2, abs=0.03)
    assert plan.fault("a", "bytes=0-", 2) is None
    with pytest.raises(ValueError, match="unknown faults"):
        Plan({"explode": 0.1})


def test_the_server_keeps_to_its_bandwidth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.tar").write_bytes(bytes(SIZE))
    with FlakyServer(tmp_path, Plan(bandwidth=2e6)) as server:
        start = time.monotonic()
        with urllib.request.urlopen(f"{server.url}/a.tar") as answer:
            assert len(answer.read()) == SIZE
        assert time.monotonic() - start >= SIZE / 2e6
        assert server.bytes_sent == SIZE
    # by a clock that moves in sleep alone: exactly as long as the bytes take
    clock = SimpleNamespace(now=7.0, monotonic=lambda: clock.now)

    def sleep(seconds: float) -> None:
        clock.now += seconds

    clock.sleep = sleep
    monkeypatch.setattr("bench.flaky_server.time", clock)
    throttle = _Throttle(2e6)
    for _ in range(3):
        throttle.wait(50_000)
    assert clock.now == pytest.approx(7.0 + 150_000 / 2e6)
    clock.now = 100.0
    throttle.wait(50_000)
    assert clock.now == pytest.approx(100.0 + 50_000 / 2e6), "idle time is not saved up"
