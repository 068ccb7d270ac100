"""What `fm plan` predicts against what runs take, on one rank and on two of this machine.

The prediction knows the passes a second of one process, the speed of its memory under the
optimiser, and the speed of gloo between two processes, each measured beforehand by what `fm plan
--measure` and `fm doctor` use; none of them knows DeepSpeed. The steps are those of real runs of
recipe `mae_s2_tiny` on one thread a rank. Of both the fastest counts, since whatever else the
machine does only adds to it: the best of three measurements, the fastest step of `metrics.jsonl`.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.chips import write_chips
from bench.runner import Bench, Fact
from fm.doctor.together import bandwidth
from fm.errors import FMError
from pretrain.config import RunConfig
from pretrain.plan.plan import Assumed, plan
from pretrain.plan.throughput import optimizer_bandwidth, passes_a_second
from pretrain.trainer import load_config

BATCH = 32
STEPS, QUICK_STEPS = 40, 6
TRIES = 3
UNCOUNTED = 4
"""Steps in which buffers are made and files opened."""
CASES = ((1, 0), (2, 0), (2, 1))
"""Ranks and ZeRO stage."""


def _words(out: Path, data: Path, stage: int, steps: int) -> list[str]:
    return [
        f"out={out}",
        f"data.path={data}",
        f"data.batch_size={BATCH}",
        f"engine.micro_batch={BATCH // 2}",
        f"engine.deepspeed=zero{stage}",
        f"schedule.steps={steps}",
        "schedule.warmup=1",
        "checkpoint.every=1000",
        "monitor.pictures=0",
        "monitor.tensorboard=false",
    ]


def _measured(words: Sequence[str], out: Path, ranks: int) -> float:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    done = subprocess.run(
        [sys.executable, *(launcher if ranks > 1 else []), "-m", "pretrain", "mae_s2_tiny", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FMError(f"bench plan: a run of {ranks} ranks failed: {done.stderr[-400:]}")
    lines = (out / "metrics.jsonl").read_text().splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines]
    return min(seconds[min(UNCOUNTED, len(seconds) // 2) :])


def _assumed(config: RunConfig) -> Assumed:
    device = torch.device("cpu")
    links = []
    for _ in range(TRIES):
        answer = bandwidth("gloo", 2, seconds=1)
        if "problem" in answer:
            raise FMError(f"bench plan: {answer['problem']}")
        links.append(answer["gigabytes_per_second"] * 1e9)
    rate = max(passes_a_second(config, device) for _ in range(TRIES))
    memory = max(optimizer_bandwidth(device) for _ in range(TRIES))
    return Assumed(rate, None, memory, None, max(links), max(links), 8)


def _facts(quick: bool) -> list[Fact]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each rank
    found = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            data = write_chips(root / "chips", 128, 96)
            steps = QUICK_STEPS if quick else STEPS
            assumed = None
            for ranks, stage in CASES[:1] if quick else CASES:
                out = root / f"run-{ranks}-{stage}"
                words = _words(out, data, stage, steps)
                config = load_config("mae_s2_tiny", words)
                assumed = assumed or _assumed(config)
                (row,) = plan(config, [ranks], assumed)["on"]
                said, took = row["time"]["seconds"], _measured(words, out, ranks)
                name = f"{ranks} {'rank' if ranks == 1 else 'ranks'}, ZeRO {stage}"
                found += [
                    Fact(f"{name}: predicted", 1e3 * said, "ms"),
                    Fact(f"{name}: measured", 1e3 * took, "ms"),
                    Fact(f"{name}: predicted over measured", said / took, "ratio"),
                ]
    finally:
        torch.set_num_threads(threads)
    return found


BENCH = Bench(
    name="plan",
    question="How near is the step time that fm plan predicts?",
    competitors={},
    rounds=0,
    versions=("torch", "deepspeed"),
    facts=_facts,
)
