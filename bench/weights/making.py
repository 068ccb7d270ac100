"""From a plan's entry to a folder of `fm/weights`: data, run, probes, card, all of it again."""

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from bench import machine
from bench.studies.learns import QUIET
from bench.studies.scoring import pretrained
from bench.weights.page import table
from bench.weights.plan import PLAN, PRETRAINING_SEED, SEEDS, Carried, data_of
from fm.card import WORTH, Card
from fm.checkpoint import README, WEIGHTS, read_card
from fm.config import find_recipe, override, read_yaml
from fm.console import note
from fm.export.hub_card import page
from fm.files import atomic_folder, read_json, write_atomic, write_json
from fm.weights import CARD, LOG, PROBES, RECIPE
from probes.judging.evaluation import evaluate_many, opened
from probes.judging.kept import Kept, beside
from probes.judging.session import Session
from probes.result import Result
from probes.statistics.bootstrap import over_seeds, paired_over_seeds

FORMAT_VERSION = 1
LICENCE = "Apache-2.0"
"""Of the weights, as of the project; those of the data stand with the data in the card."""


class Making:
    """The making of some checkpoints; what lies in the work folder is used again.

    Args:
        work: folder for datasets, runs and features.
        cache: of downloaded packages.
        into: folder for the finished ones, `fm/weights`.
    """

    def __init__(self, work: Path, cache: Path, into: Path) -> None:
        self.work, self.cache, self.into = work, cache, into
        self.sessions: dict[tuple[str, int], Session] = {}

    def run(self, names: Iterable[str]) -> None:
        """Pretrain, then judge and write, one after the other."""
        names = list(names)
        exports = {name: self.pretrained(name) for name in names}
        for name in names:
            begun = time.perf_counter()
            probed = self.probed(name, exports[name])
            probed["seconds"]["probing"] = round(time.perf_counter() - begun, 1)
            self.write(name, exports[name], probed)
            note(f"{name}: in {self.into / name}")

    def pretrained(self, name: str) -> Path:
        """Run the recipe that the folder will hold, or find it run; return its checkpoint."""
        carried = PLAN[name]
        recipe = self.work / "recipes" / f"{name}.yaml"
        write_atomic(recipe, recipe_of(name))
        paths = [f"{key}={data_of(s, self.work, self.cache)}" for key, s in carried.paths.items()]
        export, _ = pretrained(str(recipe), [*paths, *QUIET], self.work / "runs" / name)
        return export

    def probed(self, name: str, export: Path) -> dict[str, Any]:
        """Judge a checkpoint by its benchmarks; return what `probes.json` says."""
        carried, results = PLAN[name], self.work / "results" / name
        shutil.rmtree(results, ignore_errors=True)
        tables, first = [], None
        for benchmark in carried.judged:
            for protocol in carried.protocols:
                runs = []
                for seed in SEEDS:
                    session = self._session(carried, benchmark, seed)
                    rows = evaluate_many(
                        export,
                        benchmark,
                        [protocol],
                        data=session.data.folder,
                        out=results,
                        session=session,
                    )
                    note(f"{name}: {rows[0].id} {rows[0].value:.3f}")
                    runs.append(rows)
                tables.append(tabled(results, runs))
                first = first or runs[0][0]
        assert first is not None
        state = read_json(export.parent / "state.json")
        return {
            "format_version": FORMAT_VERSION,
            "name": name,
            "weights_sha256": first.model["weights_sha256"],
            "parameters": first.model["parameters"],
            "worth": carried.worth,
            "seeds": {"pretraining": PRETRAINING_SEED, "probes": list(SEEDS)},
            "tables": tables,
            "seconds": {"pretraining": round(state["seconds"], 1)},
            "environment": first.environment,
            "machine": machine.describe(),
            "command": f"python -m bench.weights {name}",
        }

    def _session(self, carried: Carried, benchmark: str, seed: int) -> Session:
        """A benchmark is opened once for all checkpoints: its floors on pixels are the same."""
        if (benchmark, seed) not in self.sessions:
            folder = data_of(carried.judged[benchmark], self.work, self.cache)
            self.sessions[benchmark, seed] = opened(
                benchmark, folder, seed=seed, cache=self.work / "features"
            )
        return self.sessions[benchmark, seed]

    def write(self, name: str, export: Path, probed: Mapping[str, Any]) -> None:
        """Write the folder, whole or not at all."""
        card = replace(read_card(export), name=name, licence=LICENCE)
        card = replace(card, data=self._licensed(name, card.data))
        with atomic_folder(self.into / name, overwrite=True) as aside:
            shutil.copyfile(export / WEIGHTS, aside / WEIGHTS)
            shutil.copyfile(export.parent / "metrics.jsonl", aside / LOG)
            write_json(aside / CARD, card.to_dict())
            write_json(aside / PROBES, probed)
            write_atomic(aside / RECIPE, recipe_of(name))
            write_atomic(aside / README, readme(card, probed))

    def _licensed(self, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Put the licence of each dataset beside its name in what a card says of data."""
        parts = dict(data["parts"]) if "parts" in data else {"": data}
        for key, source in PLAN[name].paths.items():
            part = key.removeprefix("data.").removesuffix("path").strip(".").removeprefix("parts.")
            told = read_json(data_of(source, self.work, self.cache) / "dataset.json")
            parts[part] = {**parts[part], "source": source, "licence": told["licence"]}
        return {**data, "parts": parts} if "parts" in data else parts[""]


def recipe_of(name: str) -> str:
    """Return the recipe of a run with what is changed in it, paths of data as it has them."""
    carried = PLAN[name]
    words = [f"name={name}", f"out=runs/{name}", f"seed={PRETRAINING_SEED}", *carried.words]
    values = override(read_yaml(find_recipe("pretrain", carried.recipe)), words)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def readme(card: Card, probed: Mapping[str, Any]) -> str:
    """Return the model card that people read, with the probes and their floors."""
    body = card.readme(f"eofm/{card.name}")
    lines = [body.rstrip(), "", WORTH, "", probed["worth"], ""]
    return page(card, (), "\n".join([*lines, *table({card.name: probed})]))


def tabled(results: Path, runs: list[list[Result]]) -> dict[str, Any]:
    """Put the results of several seeds together.

    Args:
        results: their folder, where their answers lie too.
        runs: of each seed the model's result and those of its floors, in the same order.

    Returns:
        what the table is about, and `rows`, the checkpoint first, then its random weights: mean
        over the seeds with an interval over test units and seeds together, and `gain`, the paired
        difference of the checkpoint and the row.
    """
    order = ("pretrained", "random-init", "floor")
    runs = [sorted(run, key=lambda result: order.index(result.model["kind"])) for run in runs]
    (head, *_), rows = runs[0], []
    metric, about = head.primary, head.benchmark
    answers = [
        [Kept.load(beside(results / f"{row.id}.json")).answers for row in column]
        for column in zip(*runs, strict=True)
    ]
    for column, own in zip(zip(*runs, strict=True), answers, strict=True):
        kind = column[0].model["kind"]
        named = {"pretrained": "pretrained", "random-init": "random weights"}
        entry: dict[str, Any] = {
            "row": named.get(kind, column[0].protocol["name"]),
            "kind": kind,
            "runs": [result.value for result in column],
            **{k: over_seeds(own, 0)[metric][k] for k in ("value", "low", "high")},
        }
        if kind != "pretrained":
            entry["gain"] = paired_over_seeds(answers[0], own, metric, 0)
        rows.append(entry)
    return {
        "benchmark": f"{about['name']}@{about['version']}",
        "verified": about["verified"],
        "manifest_hash": about["manifest_hash"],
        "samples": {name: about[f"n_{name}"] for name in ("train", "val", "test")},
        "protocol": f"{head.protocol['name']}@{head.protocol['version']}",
        "metric": metric,
        "interval": head.interval,
        "overlap": head.overlap,
        "rows": rows,
    }
