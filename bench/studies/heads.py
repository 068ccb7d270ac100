"""Does pretraining help what is trained on top of it, against training from scratch?

Fine-tuning (all weights, with and without rates by layer), LoRA, UPerNet and change heads on the
North Carolina scene, and retrieval on the packaged BigEarthNet images. Every row is one `fm probe`
command a seed, run as it stands here and in `docs/dense.md`; seeds are of pretraining, of the
label lists, of the order of samples and of the random weights alike. The rival of a protocol that
trains the backbone is the same architecture from random weights on the same samples for as many
steps (`from scratch`); the rival of one that does not is the same random weights, frozen, under the
same head (`random weights`). Rates and epochs are chosen on val in both. Intervals are over test
units and seeds together.

The second dates of `nc-change-simulated` are simulated on real images. Retrieval has six queries
and trains nothing: it shows that the path works and no more.
"""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.machine import ROOT
from bench.studies import learns, multisensor
from bench.studies.kept import code_hash
from bench.studies.scoring import dataset, pretrained
from fm.console import note
from fm.errors import FMError
from fm.files import read_json, sha256_file, write_json
from probes.judging.kept import Kept, beside
from probes.result import Result
from probes.statistics.bootstrap import over_seeds, paired_over_seeds

SINGLE, SEVERAL = "nc-landcover", "multisensor"
"""Names of the two pretraining runs: of the studies `learns` and `multisensor`."""


@dataclass(frozen=True)
class Task:
    """One command.

    Attributes:
        benchmark: by name.
        protocols: on the model; they bring their floors along.
        checkpoint: `SINGLE` or `SEVERAL`.
        source: of the dataset.
        also: a frozen protocol and one that trains the same head on the backbone for as many
            steps: the first is compared with the second from scratch too.
    """

    benchmark: str
    protocols: tuple[str, ...]
    checkpoint: str = SINGLE
    source: str = "nc-landcover"
    also: tuple[tuple[str, str], ...] = ()

    def words(self, export: object, data: object, out: object, seed: object) -> list[str]:
        """The command after `fm`."""
        return [
            *("probe", str(export), "--benchmark", self.benchmark),
            *("--protocol", ",".join(self.protocols), "--data", str(data)),
            *("--out", str(out), "--seed", str(seed)),
        ]

    def command(self, seed: int) -> str:
        """The command as the documentation gives it."""
        export = f"runs/{self.checkpoint}-{seed}/export"
        return " ".join(["fm", *self.words(export, f"data/{self.source}", "results", seed)])


METHODS: dict[str, Task] = {
    "fine-tuning": Task(
        "nc-landcover",
        ("finetune-llrd", "finetune", "lora"),
    ),
    "segmentation": Task(
        "nc-landcover-seg",
        ("upernet-finetune", "upernet"),
        also=(("upernet", "upernet-finetune"),),
    ),
    "change": Task("nc-change-simulated", ("change-finetune", "change-difference")),
    "retrieval": Task("bigearthnet-retrieval", ("retrieval",), SEVERAL, "bigearthnet"),
    "retrieval-across": Task(
        "bigearthnet-retrieval-s1-s2", ("retrieval-across",), SEVERAL, "bigearthnet"
    ),
}

Found = Mapping[str, tuple[Result, Kept]]
"""Row to the result of one seed and its test answers."""


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> Any:
    """Pretrain, probe and compare; runs and commands whose results lie there are not run again.

    Args:
        work: folder for results; runs and datasets lie with those of the other studies beside it.
        cache: of downloaded packages.
        split: `val` gives what the choice of rate and epoch saw, `test` compares.
        seeds: of everything.
        methods: names of `METHODS`.
    """
    exports = {
        kind: _exports(kind, work.parent, cache, seeds)
        for kind in dict.fromkeys(METHODS[name].checkpoint for name in methods)
    }
    tables = []
    for name in methods:
        task = METHODS[name]
        folder = dataset(task.source, work.parent / _home(task.checkpoint) / task.source, cache)
        found, spent = [], 0.0
        for seed, export in zip(seeds, exports[task.checkpoint], strict=True):
            out = work / f"{name}-{seed}"
            spent += _once(task, seed, export, folder, out)
            found.append(results(out))
        made = chosen(found) if split == "val" else compared(task, found)
        about = {"name": name, "command": task.command(seeds[0]), "cpu_seconds": round(spent)}
        tables.append({**about, **made})
    return {"split": split, "seeds": list(seeds), "tables": tables}


def _home(checkpoint: str) -> str:
    return "learns" if checkpoint == SINGLE else "multisensor"


def _exports(kind: str, work: Path, cache: Path, seeds: Sequence[int]) -> list[Path]:
    """The checkpoints of each seed, found where the study that is theirs keeps them, or made."""
    place = work / _home(kind)
    if kind == SINGLE:
        recipe, run = learns.METHODS[SINGLE].recipe, SINGLE
        paths = [f"data.path={dataset(SINGLE, place / SINGLE, cache)}"]
    else:
        recipe, run = multisensor.RECIPE, "all"
        paths = [
            f"data.parts.{part}.path={dataset(source, place / source, cache)}"
            for part, source in multisensor.PARTS.items()
        ]
    return [
        pretrained(recipe, [*paths, f"seed={seed}", *learns.QUIET], place / f"{run}-{seed}")[0]
        for seed in seeds
    ]


def _once(task: Task, seed: int, export: Path, data: Path, out: Path) -> float:
    """Run a command unless it was, by the same code on the same weights and data.

    Returns:
        its seconds of processor time, other work left out.
    """
    done = out.with_suffix(".json")
    told = read_json(done, "command") if done.is_file() else {}
    asked = {
        "command": task.command(seed),
        "code": code_hash(),
        "weights": read_json(export / "card.json", "card")["weights_sha256"],
        "data": sha256_file(data / "dataset.json"),
    }
    if not asked.items() <= told.items():
        shutil.rmtree(out, ignore_errors=True)
        note(task.command(seed))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _fm(task.words(export.absolute(), data.absolute(), out.absolute(), seed))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        told = {**asked, "cpu_seconds": spent}
        write_json(done, told)
    return float(told["cpu_seconds"])


def _fm(words: Sequence[str]) -> None:
    """Run one command line, its tables kept off the study's output."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-m", "fm", *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE
    )
    if done.returncode:
        raise FMError(f"fm {' '.join(words)}: exit status {done.returncode}")


def results(folder: Path) -> dict[str, tuple[Result, Kept]]:
    """Read what one command wrote, by row: the protocol, and whose random weights they are."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        one = Result.load(path)
        row, name = str(one.protocol["name"]), str(one.model["name"])
        if one.model["kind"] == "random-init":
            row += ", from scratch" if name.endswith("-from-scratch") else ", random weights"
        found[row] = one, Kept.load(beside(path))
    return found


def _rival(row: str, found: Found) -> str | None:
    """The row of the same protocol on random weights; None for a floor."""
    return next(
        (f"{row}, {w}" for w in ("from scratch", "random weights") if f"{row}, {w}" in found), None
    )


def _steps(result: Result) -> int | None:
    return (result.selection or {}).get("steps")


def _value(result: Result) -> float:
    if result.value is None:
        raise FMError(f"{result.id}: {result.primary} has no value")
    return result.value


def _about(row: str, found: Sequence[Found]) -> dict[str, Any]:
    """What a row is and what was chosen for it, seed by seed."""
    several = [one[row][0] for one in found]
    picked = [result.selection or {} for result in several]
    return {
        "row": row,
        "steps": _steps(several[0]),
        "trained_parameters": picked[0].get("trained_parameters"),
        "chosen": [one.get("chosen") for one in picked],
        "on_edge": [one.get("on_edge") for one in picked],
    }


def chosen(found: Sequence[Found]) -> dict[str, Any]:
    """What val said of each row; no test score is read."""
    rows = []
    for row in found[0]:
        picked = [one[row][0].selection for one in found]
        if all(picked):
            best = [p["scores"][p["grid"].index(p["chosen"])] for p in picked if p]
            rows.append({**_about(row, found), "val": sum(best) / len(best), "runs": best})
    return {"metric": _metric(found), "rows": rows}


def compared(task: Task, found: Sequence[Found]) -> dict[str, Any]:
    """Scores of every row and the differences to what stands against a protocol.

    Args:
        task: the command.
        found: of each seed.

    Raises:
        FMError: a row and its rival did not get the same number of steps.
    """
    metric, seed = _metric(found), 0
    models = [r for p in task.protocols for r in (p, _rival(p, found[0])) if r is not None]
    order = dict.fromkeys([*models, *found[0]])
    answers = {row: [one[row][1].answers for one in found] for row in order}
    rows = [
        {
            **_about(row, found),
            **over_seeds(several, seed)[metric],
            "runs": [_value(one[row][0]) for one in found],
        }
        for row, several in answers.items()
    ]
    differences = []
    floors = [row for row in answers if found[0][row][0].model["kind"] == "floor"]
    for row in task.protocols:
        rival = _rival(row, found[0])
        if rival is None:
            continue
        equal = [rival, *(f"{other}, from scratch" for one, other in task.also if one == row)]
        for other in equal:
            for one in found:
                steps = _steps(one[row][0]), _steps(one[other][0])
                if steps[0] != steps[1]:
                    raise FMError(f"{row} took {steps[0]} steps and {other} {steps[1]}")
        for other in [*equal, *floors]:
            between = paired_over_seeds(answers[row], answers[other], metric, seed)
            single = [_value(one[row][0]) - _value(one[other][0]) for one in found]
            differences.append(
                {
                    "first": row,
                    "second": other,
                    "value": between["difference"],
                    "low": between["low"],
                    "high": between["high"],
                    "runs": single,
                }
            )
    interval = next(iter(found[0].values()))[0].interval or {}
    return {
        "benchmark": task.benchmark,
        "metric": metric,
        "unit": interval.get("unit"),
        "units": interval.get("units"),
        "rows": rows,
        "differences": differences,
    }


def _metric(found: Sequence[Found]) -> str:
    return next(iter(found[0].values()))[0].primary
