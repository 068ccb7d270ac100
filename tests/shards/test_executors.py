"""Executors: workers are clean, and end with their parent or with an error."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fm.errors import FMError, UsageError
from shards.building import executors
from shards.building.executors import Here, open_executor

ROOT = Path(__file__).resolve().parents[2]


def pid_and_torch() -> tuple[int, bool]:
    """Return this process's number and whether torch is loaded."""
    return os.getpid(), "torch" in sys.modules


def wait_long(folder: str) -> None:
    """Say that the work has begun, and do not end."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def gone(pid: int) -> bool:
    """Wait until a process has ended."""
    for _ in range(200):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_here_is_this_process_and_keeps_errors_for_later(tmp_path: Path) -> None:
    with open_executor(0, None, tmp_path) as (executor, width):
        assert width == 0
        assert executor.submit(pid_and_torch).result()[0] == os.getpid()
        future = executor.submit(int, "x")
        with pytest.raises(ValueError, match="invalid literal"):
            future.result()
    with pytest.raises(KeyboardInterrupt):
        Here().submit(interrupt)


def interrupt() -> None:
    """Stand in for Ctrl-C."""
    raise KeyboardInterrupt


def test_a_pool_s_workers_have_no_torch_and_end_with_an_error(tmp_path: Path) -> None:
    import torch  # in this process, so that a forked worker would have it

    assert torch.__version__
    pids: list[int] = []

    def fail_while_it_works() -> None:
        with open_executor(1, None, tmp_path) as (pool, width):
            assert width == 1
            pid, has_torch = pool.submit(pid_and_torch).result()
            assert not has_torch
            pids.append(pid)
            future = pool.submit(wait_long, str(tmp_path))
            while not list(tmp_path.iterdir()):
                time.sleep(0.01)
            assert not future.done()
            raise FMError("enough")

    with pytest.raises(FMError, match="enough"):
        fail_while_it_works()
    assert pids[0] != os.getpid()
    assert gone(pids[0])


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from shards.building.executors import open_executor\n"
        "from tests.shards.test_executors import wait_long\n"
        "if __name__ == '__main__':\n"
        "    with open_executor(1, None, Path(sys.argv[1])) as (pool, _):\n"
        "        pool.submit(wait_long, sys.argv[1]).result()\n"
    )
    main = tmp_path / "main.py"
    main.write_text(script)
    (tmp_path / "pids").mkdir()
    process = subprocess.Popen(
        [sys.executable, str(main), str(tmp_path / "pids")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        found: list[Path] = []
        while not found and process.poll() is None:
            found = list((tmp_path / "pids").iterdir())
            time.sleep(0.01)
        (pid,) = [int(path.name) for path in found]
        process.kill()
        process.wait()
        assert gone(pid)
    finally:
        process.kill()


@pytest.mark.parametrize("lost", ["KilledWorker", "CommClosedError", "CancelledError"])
def test_a_dask_cluster_that_is_lost_is_one_line(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed
    from distributed.comm import CommClosedError

    class Client:
        def __init__(self, address: str, timeout: float) -> None: ...
        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *error: object) -> None: ...
        def nthreads(self) -> dict[str, int]:
            return {"a": 1}

        def get_executor(self, pure: bool) -> Here:
            return Here()

    monkeypatch.setattr(distributed, "Client", Client)
    error = {
        "KilledWorker": distributed.KilledWorker("task", None, 3),
        "CommClosedError": CommClosedError("in <TCP>:\nStream is closed"),
        "CancelledError": distributed.CancelledError("task"),
    }[lost]
    with (
        pytest.raises(FMError, match=f"--dask tcp://x: workers .* were lost \\({lost}") as caught,
        open_executor(1, "tcp://x", tmp_path),
    ):
        raise error
    assert "\n" not in str(caught.value)


def test_dask_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "_CONNECT_SECONDS", 0.3)
    with (
        pytest.raises(FMError, match="no Dask scheduler answers there") as error,
        open_executor(1, "tcp://127.0.0.1:1", tmp_path),
    ):
        pass
    assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(UsageError, match=r"pip install 'eofm\[dask\]'"),
        open_executor(1, "local", tmp_path),
    ):
        pass
