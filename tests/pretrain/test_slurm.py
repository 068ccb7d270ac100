"""Job scripts, run by bash with a made-up Slurm."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from fm.errors import UsageError
from pretrain.plan.slurm import write_scripts
from pretrain.trainer import load_config

SRUN = """\
#!/bin/bash
echo "srun $*" >> calls
echo "env $MASTER_ADDR $MASTER_PORT" >> calls
mkdir -p "runs/a b"
say() { echo "{\\"status\\": \\"$1\\", \\"step\\": $2}" > "runs/a b/state.json"; }
case "$CASE" in
finished) say finished 20 ;;
requeue) say requeue 15; exit 75 ;;
stalled) say stalled 12; exit 1 ;;
failed) say running 15; exit 1 ;;
nothing) exit 1 ;;
signal) trap 'say requeue 15; exit 75' USR1; say running 10; echo ready >> calls
    for _ in $(seq 200); do sleep 0.05; done ;;
esac
"""
SCONTROL = """\
#!/bin/bash
echo "scontrol $*" >> calls
if [ "$1" = show ]; then printf 'node7\\nnode8\\n'; else exit "${REQUEUE:-0}"; fi
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return a script, in a folder where `bin` holds the made-up commands."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    config = load_config("mae_s2_tiny", ["out=runs/a b", "data.path=it's here"])
    words = ["mae_s2_tiny", "out=runs/a b", "data.path=it's here"]
    (path,) = write_scripts(
        tmp_path / "jobs", config, words, ranks=[16], per_node=8, limit="2-00:00:00"
    )
    return path


def start(script: Path, case: str, **more: str) -> subprocess.Popen[str]:
    folder = script.parent.parent
    env = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_ID": "20003",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "CASE": case,
        **more,
    }
    return subprocess.Popen(
        ["bash", str(script)], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def ended(script: Path, case: str, **more: str) -> tuple[int, str, str]:
    job = start(script, case, **more)
    said, _ = job.communicate(timeout=30)
    return job.returncode, said, (script.parent.parent / "calls").read_text()


def test_bash_reads_every_script(tmp_path: Path) -> None:
    config = load_config("mae_large")
    made = write_scripts(
        tmp_path / "jobs", config, ["mae_large"], ranks=(1, 8, 64), per_node=8, limit="24:00:00"
    )
    assert [path.name for path in made] == [f"mae-large-{n}.sbatch" for n in (1, 8, 64)]
    for path, nodes, tasks in zip(made, (1, 1, 8), (1, 8, 8), strict=True):
        done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=True)
        assert not done.stderr
        text = path.read_text()
        assert f"--nodes={nodes}\n" in text
        assert f"--ntasks-per-node={tasks}\n" in text
        assert "--signal=B:USR1@120\n" in text
        assert "/tmp" not in text


def test_a_finished_run_is_not_queued_again(script: Path) -> None:
    """Defect: a job that queues itself again for ever after its run is finished."""
    status, said, calls = ended(script, "finished")
    assert (status, said) == (0, "finished after step 20\n")
    assert "scontrol requeue" not in calls


def test_the_first_node_is_the_master_and_words_keep_their_quotes(script: Path) -> None:
    _, _, calls = ended(script, "finished")
    assert "scontrol show hostnames node[7-8]" in calls
    assert "env node7 20003\n" in calls
    assert "-m pretrain mae_s2_tiny out=runs/a b data.path=it's here\n" in calls


def test_a_run_that_stopped_goes_back_into_the_queue(script: Path) -> None:
    status, said, calls = ended(script, "requeue")
    assert (status, said) == (0, "requeue at step 15: queued again\n")
    assert "scontrol requeue 20003" in calls
    _, said, _ = ended(script, "stalled")
    assert said == "stalled at step 12: queued again\n"
    assert ended(script, "requeue")[0] == 0
    # the same step again: it would go round for ever
    status, said, _ = ended(script, "requeue")
    assert status == 1
    assert "where it began" in said


def test_a_queue_that_refuses_is_75(script: Path) -> None:
    status, said, _ = ended(script, "requeue", REQUEUE="1")
    assert status == 75
    assert "submit this file again" in said


@pytest.mark.parametrize(("case", "told"), [("failed", "running"), ("nothing", "nothing")])
def test_a_failure_is_not_queued_again(script: Path, case: str, told: str) -> None:
    status, said, calls = ended(script, case)
    assert status == 1
    assert f"state.json says {told}" in said
    assert "scontrol requeue" not in calls


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_the_warning_reaches_the_ranks(script: Path, number: signal.Signals) -> None:
    """Defect: bash dies of SIGUSR1, or waits no longer for ranks that write a checkpoint."""
    job = start(script, "signal")
    calls = script.parent.parent / "calls"
    until = time.monotonic() + 60
    while not (calls.exists() and "ready" in calls.read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)
    job.send_signal(number)
    said, _ = job.communicate(timeout=30)
    assert (job.returncode, said) == (0, "requeue at step 15: queued again\n")


def test_what_no_job_can_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = load_config("mae_large")
    for ranks, limit, problem in (
        ([8, 12], "1:00:00", "12 ranks"),
        ([16, 64, 2], "soon", "no time of Slurm"),
        ([16], "1:00:00", "no whole number of nodes of 6"),
    ):
        per_node = 6 if "nodes" in problem else 8
        with pytest.raises(UsageError, match=problem):
            write_scripts(
                tmp_path / "jobs", config, [], ranks=ranks, per_node=per_node, limit=limit
            )
    assert not (tmp_path / "jobs").exists()
