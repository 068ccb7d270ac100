"""Fifty kills of one run: does it always go on, and is it the run that was never killed?

A tiny masked autoencoder trains on one process, and again on two ranks. One run of each is never
killed. The other is killed at random moments (seeded): while it starts, in its steps, while a
checkpoint is written, in an online probe, between SIGTERM and its end, after its last step. With
two ranks one of them is killed, torchrun's agent, or all at once. Then it is started again, until
it has ended. Every step of every life is written down by a watcher, with its samples and its loss,
so that the two runs can be compared sample by sample and bit by bit. Where a kill fell is read from
the folder afterwards.

Lives are forked from this process, which has imported everything; one of ten starts in a new
interpreter, under torchrun when there are two ranks.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import load_file

from bench.chips import write_scene
from bench.forks import done, preload
from bench.kills_audit import audit, read
from bench.kills_drive import ENDED, drive, plan, whole
from bench.kills_life import Run
from bench.runner import Bench, Fact
from fm.console import progress
from pretrain.runs.folder import METRICS, read_lines

SEED, SIDE, BLOCK, BATCH, EVERY = 6, 36, 12, 8, 4
PROBED = 12
"""Steps between online probes."""
KILLS, STEPS = 50, 320
QUICK_KILLS, QUICK_STEPS = 4, 40
FIGURES = ("step", "samples", "loss", "lr", "grad_norm", "weight")
"""Of a logged step: what must be the same, bit for bit."""


def _config(work: Path, name: str, steps: int) -> Path:
    values = {
        "name": name,
        "out": str(work / name),
        "seed": 1,
        "data": {"path": str(work / "scene"), "batch_size": BATCH, "crop": BLOCK},
        "model": {"name": "vit_nano", "token_m": 60, "options": {"depth": 1}},
        "objective": {"kind": "mae", "decoder": {"width": 32, "depth": 1, "heads": 2}},
        "optimizer": {"lr": 1e-3, "clip": 1.0},
        "engine": {"precision": "fp32"},
        "schedule": {"steps": steps, "warmup": 3},
        "checkpoint": {"every": EVERY},
        "monitor": {"pictures": 0, "tensorboard": False},
        "probe": {
            "benchmark": "indian-pines",
            "data": str(work / "scene"),
            "every_samples": PROBED * BATCH,
            "max_share": 0.99,
        },
    }
    path = work / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def _run(work: Path, name: str, steps: int, ranks: int) -> Run:
    diaries = work / f"{name}-diaries"
    diaries.mkdir()
    return Run(_config(work, name, steps), work / name, diaries, ranks)


def _same_weights(one: Path, other: Path) -> bool:
    ours, theirs = (load_file(path / "export" / "model.safetensors") for path in (one, other))
    return ours.keys() == theirs.keys() and all(
        np.array_equal(value, theirs[name]) for name, value in ours.items()
    )


def _curve(folder: Path) -> list[list[float]]:
    return [[row.get(name) for name in FIGURES] for row in read_lines(folder / METRICS)]


def _variant(work: Path, ranks: int, *, quick: bool) -> list[Fact]:
    """Kill one run and hold it against the other."""
    count, steps = (QUICK_KILLS, QUICK_STEPS) if quick else (KILLS, STEPS)
    title = "1 process" if ranks == 1 else f"{ranks} ranks"
    straight = _run(work, f"whole-{ranks}", steps, ranks)
    killed = _run(work, f"killed-{ranks}", steps, ranks)
    times = whole(straight)
    kills = plan(count, every=EVERY, ranks=ranks, seed=SEED + ranks, cold=not quick)
    with progress(f"bench kills, {title}", len(kills)) as bar:
        outcome = drive(killed, kills, times, steps=steps, probed=PROBED, moved=bar.advance)
    found = audit(read(killed.diaries), read(straight.diaries), steps=steps, batch=BATCH)
    ours, theirs = _curve(killed.folder), _curve(straight.folder)
    differing = sum(a != b for a, b in zip(ours, theirs, strict=False))
    landed = [(phase, number) for phase, number in outcome.landed.items() if phase != ENDED]
    sent = sum(number for _, number in landed)
    facts = [
        Fact("kills", sent, "kills", at_least=count),
        *(Fact(f"kills {phase}", number, "kills") for phase, number in sorted(landed)),
        Fact("lives that ended with an error of their own", len(outcome.failures), "lives", 0),
        Fact("steps logged", len(ours), "steps", at_least=len(theirs), at_most=len(theirs)),
        Fact("logged steps that differ from the run never killed", differing, "steps", 0),
        Fact("steps of any life whose loss differs", found.differing, "steps", 0),
        Fact("samples skipped", found.skipped, "samples", 0),
        Fact("samples repeated", found.repeated, "samples", 0),
        Fact("other samples than in the run never killed", found.foreign, "samples", 0),
        Fact(
            "exported weights that differ",
            0 if _same_weights(killed.folder, straight.folder) else 1,
            "models",
            0,
        ),
        Fact("SIGTERMs that no stopped state followed", outcome.unasked, "kills", 0),
        Fact("kills after which a process stayed", outcome.left, "kills", 0),
        Fact("steps taken again", found.lost, "steps"),
        Fact("slowest end of all processes after a kill", outcome.slowest, "s"),
    ]
    for failure in outcome.failures:
        print(f"bench kills, {title}: {failure}")
    return [
        Fact(f"{title}: {fact.name}", fact.value, fact.unit, fact.at_most, fact.at_least)
        for fact in facts
    ]


def _facts(quick: bool) -> Sequence[Fact]:
    preload()
    work = Path(tempfile.mkdtemp(prefix="bench-kills-"))
    done(lambda: write_scene(work / "scene", SIDE, BLOCK), work / "scene.log")
    facts = [fact for ranks in (1, 2) for fact in _variant(work, ranks, quick=quick)]
    if all(fact.row()["holds"] in (None, True) for fact in facts):
        shutil.rmtree(work)  # else it stays to be looked at
    return facts


BENCH = Bench(
    name="kills",
    question="Is a run that is killed again and again the run that was never killed?",
    competitors={},
    facts=_facts,
    versions=("torch", "deepspeed", "numpy"),
)
