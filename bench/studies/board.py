"""All floors and five checkpoints on every small real benchmark: results, tables and one site.

`bench.studies.board_plan` says what is judged. One call builds the datasets, pretrains three
checkpoints, judges every model on every benchmark that it can take, and builds the site. What lies
in the work folder is used again as long as data, weights, protocols and code are the same.

Benchmarks are judged side by side, one process of one thread for each of `--threads`: most of the
work is too small for several threads. Seconds are counted apart: of datasets, of pretraining, and
of probing (from the start of those processes to the last result, and of each benchmark by itself).
Where a part was used again, they are those of the time it was made. The best floor is the best on
the test set, which favours floors.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from bench.studies import board_rows
from bench.studies.board_judged import Judged, Judging
from bench.studies.board_plan import AXES, FOREIGN, LEFT_OUT, OURS, PLAN
from bench.studies.kept import code_hash
from bench.studies.learns import QUIET
from bench.studies.scoring import dataset, pretrained
from fm.errors import UsageError
from fm.files import read_json, write_json
from probes import backbones, leaderboard

METHODS = PLAN
SPLIT = "test"
SEEDS = (0,)
LONGEST = ("neon-trees", "tree-cover-series", "indian-pines", "nc-change-simulated", "nc-landcover")
"""Judged first, so that no process waits at the end for one of them."""


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> dict[str, Any]:
    """Build, pretrain, judge and show.

    Args:
        work: folder for everything that is made.
        cache: of downloaded packages.
        split: `test`; nothing is chosen here.
        seeds: one.
        methods: names of benchmarks of the plan.

    Raises:
        UsageError: another split, or several seeds.
    """
    if split != "test":
        raise UsageError(f"--split {split}: the board scores test, nothing in it is chosen on val")
    if len(seeds) != 1:
        raise UsageError(f"--seeds {' '.join(map(str, seeds))}: the board has one seed")
    (seed,) = seeds
    folders, building = _datasets(work, cache, methods)
    exports, pretraining = _pretrained(work, cache, seed)
    weights = {n: read_json(e / "card.json")["weights_sha256"] for n, e in exports.items()}
    for name, where in FOREIGN.items():
        weights[name] = backbones.load(where, seed=seed, packages=cache).card.weights_sha256
    judging = Judging(work, code_hash(), seed, exports, cache, weights)
    begun = time.perf_counter()
    made = dict(_judged(judging, methods, folders))
    found = {name: made[name] for name in methods}
    every = [one for several in found.values() for one in several]
    wall = _wall(work / "probing.json", time.perf_counter() - begun, every)
    judging.forget_others(every)
    leaderboard.build(judging.results, work / "site")
    probing = {name: sum(j.seconds for j in several) for name, several in found.items()}
    return {
        "seed": seed,
        "threads": torch.get_num_threads(),
        "checkpoints": {name: {"weights_sha256": weights[name]} for name in weights},
        "foreign": {"pixels": AXES, "side": {n: PLAN[n].side for n in methods}},
        "seconds": {
            "datasets": building,
            "pretraining": pretraining,
            "probing": {name: round(seconds, 1) for name, seconds in probing.items()},
            "probing_total": wall,
            "probing_cpu": round(sum(one.cpu for one in every), 1),
        },
        "results": sum(len(one.ids) for one in every),
        "refused": [
            {"model": j.model, "benchmark": name, "reason": j.refused}
            for name, several in found.items()
            for j in several
            if j.refused
        ],
        "left_out": LEFT_OUT,
        "tables": [
            table
            for name, several in found.items()
            for table in board_rows.tables(
                judging.results, name, PLAN[name], several, list(weights)
            )
        ],
    }


def summary(found: dict[str, Any], work: Path) -> str:
    """What a person is told at the end."""
    seconds = found["seconds"]
    made = sum(seconds["pretraining"].values())
    return (
        f"{found['results']} results, {len(found['refused'])} refused; "
        f"datasets {sum(seconds['datasets'].values()):.0f} s, pretraining {made:.0f} s, "
        f"probing {seconds['probing_total']:.0f} s ({seconds['probing_cpu']:.0f} s of the "
        f"processor)\n{work / 'site' / 'index.html'}"
    )


def _datasets(
    work: Path, cache: Path, methods: Sequence[str]
) -> tuple[dict[str, Path], dict[str, float]]:
    """Build what is not there; seconds are kept for the next call."""
    wanted = [PLAN[name].source for name in methods]
    wanted += [source for run in OURS.values() for source in run.paths.values()]
    folders, path = {}, work / "datasets.json"
    seconds: dict[str, float] = read_json(path) if path.is_file() else {}
    for source in dict.fromkeys(wanted):
        there = (work / source / "dataset.json").is_file()
        begun = time.perf_counter()
        folders[source] = dataset(source, work / source, cache)
        if not there:
            seconds[source] = round(time.perf_counter() - begun, 1)
            write_json(path, seconds)
    return folders, seconds


def _pretrained(work: Path, cache: Path, seed: int) -> tuple[dict[str, Path], dict[str, float]]:
    """Run what has not run; a run keeps its own seconds."""
    exports, seconds = {}, {}
    for name, run in OURS.items():
        words = [f"{key}={dataset(s, work / s, cache)}" for key, s in run.paths.items()]
        out = work / f"{run.recipe}-{seed}"
        exports[name], _ = pretrained(run.recipe, [*words, f"seed={seed}", *QUIET], out)
        seconds[name] = round(read_json(out / "state.json")["seconds"], 1)
    return exports, seconds


def _judged(
    judging: Judging, methods: Sequence[str], folders: Mapping[str, Path]
) -> Iterator[tuple[str, list[Judged]]]:
    """Judge benchmarks side by side; each is told of as it is done."""
    order = sorted(methods, key=lambda n: LONGEST.index(n) if n in LONGEST else len(LONGEST))
    left = []
    for name in order:
        kept = judging.kept_of(name, PLAN[name], folders[PLAN[name].source])
        if kept is None:
            left.append(name)
        else:
            print(_line(name, kept), flush=True)
            yield name, kept
    if not left:
        return
    # for the libraries that the new processes load
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    count, context = torch.get_num_threads(), get_context("spawn")
    with ProcessPoolExecutor(count, context, torch.set_num_threads, (1,)) as pool:
        tasks = {
            pool.submit(judging.all_of, name, PLAN[name], folders[PLAN[name].source]): name
            for name in left
        }
        for task in as_completed(tasks):
            name, made = tasks[task], task.result()
            print(_line(name, made), flush=True)
            yield name, made


def _wall(path: Path, seconds: float, every: Sequence[Judged]) -> float:
    """Seconds of probing; what was judged by earlier calls counts with the seconds of those."""
    again = [one.again for one in every]
    before = read_json(path)["seconds"] if any(again) and path.is_file() else 0.0
    total = before if all(again) else round(before + seconds, 1)
    write_json(path, {"seconds": total})
    return float(total)


def _line(name: str, several: Sequence[Judged]) -> str:
    refused = sum(j.refused is not None for j in several)
    again = sum(j.again for j in several)
    more = f", {again} of {len(several)} as before" if again else ""
    results = sum(len(j.ids) for j in several)
    seconds = sum(j.seconds for j in several)
    cpu = sum(j.cpu for j in several)
    return f"{name}: {results} results, {refused} refused, {seconds:.1f} s ({cpu:.1f} cpu){more}"
