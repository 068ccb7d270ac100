"""Who is judged, and for what; ranks in real processes are in test_ending."""

import os
import signal
import time
from pathlib import Path

import pytest

from pretrain.ranks import watchdog
from pretrain.ranks.bulletin import Sign
from pretrain.ranks.signals import stop_signals
from pretrain.ranks.watchdog import Watchdog
from pretrain.settings.watchdog import WatchdogConfig


def judge(tmp_path: Path, **limits: float | None) -> Watchdog:
    config = WatchdogConfig.model_validate(limits)
    return Watchdog(config, tmp_path, [], lambda status, reason: None)


def test_who_is_furthest_behind_is_judged(tmp_path: Path) -> None:
    judged = judge(tmp_path, step=10, watchers=100)
    now = time.monotonic()
    # rank 0 probes; rank 1 waits for it in the next step
    judged._seen = {0: (Sign(1, 7, "watchers", 50.0), now), 1: (Sign(1, 9, "step", 49.0), now)}
    assert judged._stall() is None
    judged._seen[0] = Sign(2, 7, "watchers", 101.0), now
    found = judged._stall()
    assert found is not None
    assert (found.rank, found.status) == (0, "stalled")
    assert "rank 0 made no progress in watchers for 101 s (watchdog.watchers)" in found.text


def test_before_the_first_step_and_without_a_limit_nothing_stalls(tmp_path: Path) -> None:
    judged = judge(tmp_path, data=None, step=1)
    now = time.monotonic()
    judged.phase("step")
    assert judged._phase == watchdog.START
    judged._seen = {0: (Sign(1, 1, judged._phase, 9e9), now)}
    assert judged._stall() is None
    judged.arm()
    judged.phase("data")
    judged._seen = {0: (Sign(1, 2, judged._phase, 9e9), now)}
    assert judged._stall() is None
    judged._seen = {0: (Sign(1, 2, "step", 9e9, left=True), now)}
    assert judged._stall() is None
    judged._seen = {0: (Sign(1, 2, "step", 2.0), now)}
    assert judged._stall() is not None


def test_an_error_is_written_down_and_goes_on_to_the_caller(tmp_path: Path) -> None:
    ended: list[tuple[str, str]] = []
    watch = Watchdog(WatchdogConfig(), tmp_path, [], lambda *told: ended.append(told))

    def fails() -> None:
        with watch:
            raise ZeroDivisionError("of\nours")

    with pytest.raises(ZeroDivisionError):
        fails()
    assert ended == [("failed", "ZeroDivisionError: of ours")]
    assert not watch._thread.is_alive()


def test_signals_are_collected_and_handed_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with stop_signals() as came:
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert sorted(came) == ["SIGTERM", "SIGUSR1"]
    assert signal.getsignal(signal.SIGUSR1) is before
