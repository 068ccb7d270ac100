"""One model on one benchmark at a time, kept so that a second call need not judge it again."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.studies.board_plan import AXES, FLOORS, FOREIGN, Task
from fm.errors import FMError
from fm.files import read_json, write_json
from probes import backbones
from probes.benchmarks import get_benchmark
from probes.judging.evaluation import evaluate_many, opened
from probes.judging.judge import answers_task
from probes.judging.kept import beside
from probes.judging.session import Session
from probes.protocols import get_protocol


@dataclass(frozen=True)
class Judged:
    """What one model gave on one benchmark.

    Attributes:
        model: its name, or `FLOORS`.
        ids: of its results and of the floors that came with it.
        seconds: that it took, with the opening of the benchmark for the first model of it.
        cpu: seconds of the processor, which other work on the machine hardly changes.
        refused: why it was not judged, in a line; None where it was.
        again: it was judged by an earlier call.
    """

    model: str
    ids: list[str]
    seconds: float
    cpu: float
    refused: str | None
    again: bool = False


class Judging:
    """All of a board's judging.

    Args:
        work: the board's folder.
        code: hash of what judges.
        seed: of everything that is random.
        exports: name to checkpoint folder of ours.
        packages: folder of downloaded packages, for the foreign ones.
        weights: of all models, in order, name to SHA-256.
    """

    def __init__(
        self,
        work: Path,
        code: str,
        seed: int,
        exports: Mapping[str, Path],
        packages: Path,
        weights: Mapping[str, str],
    ) -> None:
        self.results, self.cache, self.done = work / "results", work / "features", work / "judged"
        self.code, self.seed, self.exports = code, seed, dict(exports)
        self.packages, self.weights = packages, dict(weights)
        for folder in (self.results, self.cache, self.done):
            folder.mkdir(parents=True, exist_ok=True)

    def all_of(self, benchmark: str, task: Task, folder: Path) -> list[Judged]:
        """Judge the floors on pixels, then every model, on one benchmark."""
        found: list[Judged] = []
        session: Session | None = None
        for model in (FLOORS, *self.weights):
            key = self._key(benchmark, task, folder, model)
            kept = self._kept(key, model)
            if kept is not None:
                found.append(kept)
                continue
            begun, worked = time.perf_counter(), time.process_time()
            session = session or opened(benchmark, folder, seed=self.seed, cache=self.cache)
            ids, refused = self._judge(session, task, folder, model)
            seconds = round(time.perf_counter() - begun, 2)
            cpu = round(time.process_time() - worked, 2)
            made = Judged(model, ids, seconds, cpu, refused)
            write_json(self.done / f"{key}.json", asdict(made))
            found.append(made)
        return found

    def kept_of(self, benchmark: str, task: Task, folder: Path) -> list[Judged] | None:
        """What earlier calls judged on one benchmark; None unless it is everything."""
        found = [
            self._kept(self._key(benchmark, task, folder, model), model)
            for model in (FLOORS, *self.weights)
        ]
        return None if None in found else [one for one in found if one is not None]

    def forget_others(self, found: Sequence[Judged]) -> None:
        """Remove results that are not among these, of an earlier plan or other weights."""
        known = {name for one in found for name in one.ids}
        for path in self.results.glob("*.json"):
            if path.stem not in known:
                beside(path).unlink(missing_ok=True)
                path.unlink()

    def _judge(
        self, session: Session, task: Task, folder: Path, model: str
    ) -> tuple[list[str], str | None]:
        common: dict[str, Any] = {"data": folder, "out": self.results, "session": session}
        name = session.benchmark.name
        if model == FLOORS:
            made = evaluate_many(None, name, pixel_floors(task, name), **common)
            return [result.id for result in made], None
        foreign = model in FOREIGN
        options: dict[str, Any] = {}
        if foreign:
            options["cells"] = [AXES if task.side is None else {**AXES, "resize": task.side}]
        elif task.scratch is not None and task.scratch[1] == model:
            options["scratch"] = task.scratch[0]
        # a benchmark that takes no model says so itself
        protocols = (task.protocols or ("linear",)) + (() if foreign else task.tokens)
        try:
            made = evaluate_many(self._load(model), name, protocols, **options, **common)
        except FMError as error:
            return [], str(error)
        return [result.id for result in made if result.model["kind"] != "floor"], None

    def _load(self, model: str) -> Any:
        if model in FOREIGN:
            return backbones.load(FOREIGN[model], seed=self.seed, packages=self.packages)
        return self.exports[model]

    def _key(self, benchmark: str, task: Task, folder: Path, model: str) -> str:
        names = {*task.protocols, *task.tokens, *pixel_floors(task, benchmark)}
        names |= {task.scratch[0]} if task.scratch else set()
        about = {
            "code": self.code,
            "seed": self.seed,
            "benchmark": get_benchmark(benchmark).full_name,
            "data": hashlib.sha256((folder / "dataset.json").read_bytes()).hexdigest(),
            "task": asdict(task),
            "axes": AXES,
            "protocols": {n: get_protocol(n).model_dump(mode="json") for n in sorted(names)},
            "model": model,
            "weights": self.weights.get(model),
        }
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]

    def _kept(self, key: str, model: str) -> Judged | None:
        """What an earlier call judged, unless a result of it is gone."""
        path = self.done / f"{key}.json"
        if not path.is_file():
            return None
        kept = Judged(**{**read_json(path), "again": True})
        files = [self.results / f"{name}.json" for name in kept.ids]
        whole = all(file.is_file() and beside(file).is_file() for file in files)
        return kept if whole and kept.model == model else None


def pixel_floors(task: Task, benchmark: str, protocol: str | None = None) -> list[str]:
    """Names of the protocols on pixels alone that stand beside one protocol, or beside any."""
    asked = [*task.protocols, *task.tokens] if protocol is None else [protocol]
    named = [name for p in asked for name in (*get_protocol(p).floors, *task.floors.get(p, ()))]
    wanted = dict.fromkeys([*named, *task.floors.get(FLOORS, ())])
    about = get_benchmark(benchmark)
    return [name for name in wanted if answers_task(get_protocol(name), about)]
