"""What the doctor sees, and what it calls a stop."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from fm.cli import main
from fm.doctor import devices, network, packages, places, rounds, together, variables
from fm.doctor.finding import Finding


def levels(found: Iterable[Finding]) -> dict[str, str]:
    return {finding.what: finding.level for finding in found}


def test_a_finding_is_one_line() -> None:
    line = Finding("disk here", "0.5 GB free at .", "stop", "make room").line
    assert line.split() == ["stop", "disk", "here", "0.5", "GB", "free", "at", ".;", "make", "room"]
    assert "\n" not in line


def test_a_package_that_does_not_fit_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"torch": "2.1.0", "numpy": "2.4.0", "eofm": "1"}
    monkeypatch.setattr(
        packages, "requires", lambda name: ["torch>=2.6", "numpy>=2", "gone>=1", "x; extra=='a'"]
    )

    def version(name: str) -> str:
        if name not in there:
            raise packages.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(packages, "version", version)
    found = list(packages.versions())
    assert levels(found) == {"torch": "stop", "gone": "stop", "packages": "ok"}
    assert "pip install 'torch>=2.6'" in found[0].do


def test_deepspeed_that_cannot_be_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "deepspeed.py").write_text("raise ImportError('no such symbol')")
    (tmp_path / "torch.py").write_text("class cuda:\n    is_available = staticmethod(bool)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = packages.deepspeed()
    assert found.level == "stop"
    assert "cannot be imported: ImportError: no such symbol" in found.found
    (tmp_path / "deepspeed.py").unlink()
    (tmp_path / "deepspeed").mkdir()
    (tmp_path / "deepspeed" / "__init__.py").write_text("")
    info = "installed_ops = {'cpu_adam': True, 'fused_adam': False}\n"
    (tmp_path / "deepspeed" / "git_version_info.py").write_text(info)
    found = packages.deepspeed()
    assert found.level == "ok"
    assert "built with it: cpu_adam;" in found.found


def test_an_old_lock_is_named_and_a_new_one_is_work(tmp_path: Path) -> None:
    lock = tmp_path / "py311_cpu" / "cpu_adam" / "lock"
    lock.parent.mkdir(parents=True)
    assert levels(places.compiled_cache(tmp_path)) == {"compile cache": "ok"}
    lock.touch()
    made = lock.stat().st_mtime
    assert levels(places.compiled_cache(tmp_path, made + 60)) == {"compile lock": "note"}
    (old,) = places.compiled_cache(tmp_path, made + 3600)
    assert old.level == "stop"
    assert f"rm {lock}" in old.do


def test_room_and_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EOFM_CACHE", str(tmp_path / "not" / "yet"))
    free = 0.5e9

    def usage(path: Path) -> object:
        assert path.exists()
        return type("Usage", (), {"free": free})()

    monkeypatch.setattr(places.shutil, "disk_usage", usage)
    assert set(levels(places.disks()).values()) == {"stop"}
    assert places.shared_memory(tmp_path).level == "note"
    free = 5e9
    assert set(levels(places.disks()).values()) == {"note"}
    assert places.shared_memory(tmp_path).level == "ok"
    assert places.shared_memory(tmp_path / "no").level == "note"
    for soft, level in ((100, "stop"), (1024, "note"), (65536, "ok")):
        monkeypatch.setattr(places.resource, "getrlimit", lambda what, soft=soft: (soft, 65536))
        assert places.open_files().level == level


def test_interfaces_that_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    own = {"lo": "127.0.0.1", "docker0": "172.17.0.1", "ib0": "192.0.2.5"}
    found = {f.what: f for f in network.interfaces(own, "192.0.2.5")}
    assert found["gloo"].found.startswith("takes ib0 (192.0.2.5)")
    assert "sockets on ib0" in found["NCCL"].found
    lost = {f.what: f for f in network.interfaces(own, "127.0.0.1")}["gloo"]
    assert (lost.level, "GLOO_SOCKET_IFNAME=ib0" in lost.do) == ("note", True)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth9")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib")
    found = {f.what: f for f in network.interfaces(own, "192.0.2.5")}
    assert found["gloo"].level == "stop"
    assert "takes ib (NCCL_SOCKET_IFNAME)" in found["NCCL"].found
    assert "127.0.0.1" in network.addresses().values()


def test_variables_that_do_harm() -> None:
    env = {"RANK": "0", "WORLD_SIZE": "2", "NCCL_P2P_DISABLE": "1", "WANDB_API_KEY": "hidden"}
    found = {f.what: f for f in variables.variables(env)}
    assert found["RANK"].level == "stop"
    assert found["NCCL_P2P_DISABLE"].level == "note"
    assert "hidden" not in found["variables"].found
    launched = variables.variables({**env, "TORCHELASTIC_RUN_ID": "x"})
    assert "RANK" not in levels(launched)


def test_two_ranks_sum() -> None:
    answer = together.bandwidth("gloo", 2, seconds=0.2, limit=120)
    assert answer["rounds"] >= 1
    assert answer["gigabytes_per_second"] > 0


def test_the_collective_test_takes_ten_seconds_or_as_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[float] = []

    def bandwidth(backend: str, ranks: int, *, seconds: float) -> dict[str, float]:
        asked.append(seconds)
        return {"gigabytes_per_second": 1.0, "rounds": 1}

    monkeypatch.setattr(together, "bandwidth", bandwidth)
    monkeypatch.setattr(together.torch.cuda, "is_available", lambda: False)
    for name in ("packages", "places", "network", "devices"):  # others have tests of their own
        for one in ("versions", "deepspeed", "compiled_cache", "disks", "interfaces"):
            if hasattr(getattr(rounds, name), one):
                monkeypatch.setattr(getattr(rounds, name), one, lambda: ())
    monkeypatch.setattr(rounds.packages, "deepspeed", lambda: Finding("deepspeed", "there"))
    for words in ([], ["--seconds", "0.5"], ["--seconds", "0"]):
        main(["doctor", *words])
    assert asked == [10.0, 0.5]
    assert "sum 16 MiB for 0.5 s: 1.00 GB/s" in capsys.readouterr().out
    assert main(["doctor", "--seconds", "-1"]) == 2


def test_ranks_that_hang_or_die_are_one_line() -> None:
    def start(code: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", code]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    slow = start("import time; time.sleep(60)")
    assert "rank 0 gave no answer" in together._answer([slow], 0.2)["problem"]
    slow.kill()
    slow.communicate()
    assert together._answer([start("raise OSError('no way')")], 30) == {
        "problem": "rank 0: OSError: no way"
    }


@pytest.mark.parametrize("bad", [False, True])
def test_the_command_says_whether_a_run_would_stop(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bad: bool
) -> None:
    found = [Finding("a", "b"), Finding("c", "d", "stop" if bad else "note", "mend it")]
    monkeypatch.setattr("fm.doctor.examine", lambda seconds: iter(found))
    assert main(["doctor"]) == int(bad)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == ("not ready: c" if bad else "ready")
    assert len(lines) == 3
    assert main(["doctor", "--json"]) == int(bad)
    told = json.loads(capsys.readouterr().out)
    assert told["ready"] is not bad
    assert told["findings"][1]["do"] == "mend it"


def test_devices_are_told() -> None:
    told = levels(devices.devices())
    assert {"python", "cpu", "bfloat16"} <= set(told)
    assert str(os.cpu_count()) in next(f.found for f in devices.devices() if f.what == "cpu")
