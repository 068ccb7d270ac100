"""Slurm job scripts that stop in time, say what happened, and queue themselves again."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from fm.errors import UsageError
from fm.files import write_atomic
from pretrain.config import RunConfig
from pretrain.data import check_batch

NOTICE = 120
"""Seconds before the limit at which Slurm sends SIGUSR1; a step and a checkpoint must fit."""
STRAGGLERS = 300
"""Seconds that the other ranks have once the first has ended."""

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={per_node}
#SBATCH --gpus-per-node={per_node}
#SBATCH --cpus-per-task={cpus}
#SBATCH --time={limit}
#SBATCH --signal=B:USR1@{notice}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# Made by fm plan --slurm: {ranks} {devices}, one task each.
# Ends with 0 when the run is finished or the job was queued again, 75 when the run stopped at a
# checkpoint and the queue did not take it back (submit this file again), 1 when the run failed.
# Partition and account: sbatch --partition=... --account=... FILE
# Another Python than the first on the path: sbatch --export=ALL,PYTHON=... FILE

set -u
cd "${{SLURM_SUBMIT_DIR:-.}}" || exit 1
python=${{PYTHON:-python}}
run={run}

# One process a device. pretrain.ranks.processes takes RANK, LOCAL_RANK and WORLD_SIZE from srun.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT
export SRUN_CPUS_PER_TASK=${{SLURM_CPUS_PER_TASK:-{cpus}}}
export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-1}}
export NCCL_DEBUG=${{NCCL_DEBUG:-WARN}}
# Where the first network interface is not the fast one (fm doctor lists them):
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

# What state.json of the run says of one key; nothing when there is no such file.
told() {{
    "$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' \\
        "$run/state.json" "$1" 2>/dev/null
}}

before=$(told step)
# Ranks that stop at a checkpoint end with 75, some of them while rank 0 still writes: no
# --kill-on-bad-exit, but a time that the others have.
srun --kill-on-bad-exit=0 --wait={stragglers} --gpu-bind=none \\
    "$python" -m pretrain {words} &
ranks=$!

# USR1 comes {notice} s before the limit, TERM from scancel and preemption; srun hands USR1 on to
# all ranks.
signalled=0
trap 'signalled=1; kill -USR1 "$ranks" 2>/dev/null' USR1 TERM
while :; do
    signalled=0
    wait "$ranks"
    ended=$?
    [ "$signalled" = 1 ] || break
done
trap - USR1 TERM

status=$(told status)
after=$(told step)
case "$status" in
finished)
    echo "finished after step $after"
    exit 0
    ;;
requeue | stalled)
    if [ "$after" = "$before" ]; then
        echo "$status at step $after, where it began: not queued again (srun ended with $ended)" >&2
        exit 1
    fi
    if scontrol requeue "$SLURM_JOB_ID"; then
        echo "$status at step $after: queued again"
        exit 0
    fi
    echo "$status at step $after, and the queue does not take it back: submit this file again" >&2
    exit 75
    ;;
*)
    echo "failed (srun ended with $ended, $run/state.json says ${{status:-nothing}}): see above" >&2
    exit 1
    ;;
esac
"""


def write_scripts(
    folder: Path,
    config: RunConfig,
    words: Sequence[str],
    *,
    ranks: Sequence[int],
    per_node: int,
    limit: str,
) -> list[Path]:
    """Write a job script for each number of devices.

    Args:
        folder: made when it is missing.
        config: of the run; says the run folder, the name and the reading threads.
        words: behind `python -m pretrain`.
        ranks: numbers of devices.
        per_node: devices in a node.
        limit: of the job, as Slurm writes times.

    Returns:
        the files, `NAME-RANKS.sbatch`.

    Raises:
        UsageError: a number that the batch does not divide by or that is no whole number of nodes;
            nothing is written then.
    """
    if not re.fullmatch(r"[\d:-]+", limit):
        raise UsageError(f"--time {limit!r} is no time of Slurm; give such as 24:00:00")
    name = re.sub(r"[^\w.-]+", "-", config.name)
    made = {}
    for count in dict.fromkeys(ranks):
        check_batch(config, count)
        if count > per_node and count % per_node:
            raise UsageError(f"{count} devices are no whole number of nodes of {per_node}")
        made[folder / f"{name}-{count}.sbatch"] = SCRIPT.format(
            name=name,
            nodes=max(count // per_node, 1),
            per_node=min(count, per_node),
            cpus=config.data.threads + 2,  # the reading threads, the rank and the checkpoint writer
            limit=limit,
            notice=NOTICE,
            ranks=count,
            devices="device" if count == 1 else "devices",
            run=shlex.quote(config.out),
            stragglers=STRAGGLERS,
            words=shlex.join(words),
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in made.items():
        write_atomic(path, text)
    return list(made)
