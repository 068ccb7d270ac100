"""What a run folder holds, gathered for a page; the run may be alive, stopped or finished."""

import json
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fm.config import read_yaml
from fm.errors import FMError, UsageError
from fm.files import read_json
from pretrain.runs.folder import CHECKPOINTS, METRICS, STATE
from pretrain.runs.sessions import SESSIONS
from pretrain.runs.skipped import SKIPPED

PROBES, BANDS = "probes.jsonl", "bands.jsonl"
BAND = "band"
"""First word of the figures out of `bands.jsonl`."""
_PLACE = ("step", "samples", "part")


@dataclass(frozen=True)
class Series:
    """One figure over the steps of a run.

    Attributes:
        steps: `[n]` int64, rising.
        values: `[n]` float64, finite.
    """

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Record:
    """A run as its folder tells it.

    Attributes:
        folder: the run folder.
        config: the resolved config.
        state: `state.json`.
        environment: `env.json`; empty when it is missing.
        figures: name (nested ones joined by `/`) and part (`""` without a mixture) to what
            `metrics.jsonl` logged of it, and `band/MODALITY/BAND` to what `bands.jsonl` did.
        unfinite: values in `metrics.jsonl` that are not numbers.
        events: `probes`, `skipped`, `sessions` to the lines of their files.
        quarantined: lines of all ranks' `quarantine-*.jsonl`.
        checkpoints: steps of the checkpoints in the folder.
        card: of the export; None before the run's end.
    """

    folder: Path
    config: Mapping[str, Any]
    state: Mapping[str, Any]
    environment: Mapping[str, Any]
    figures: Mapping[tuple[str, str], Series]
    unfinite: int = 0
    events: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    quarantined: int = 0
    checkpoints: tuple[int, ...] = ()
    card: Mapping[str, Any] | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole run, as planned."""
        return int(at(self.config, "schedule.steps") or self.done)

    @property
    def done(self) -> int:
        """Steps taken, as far as the state or a logged line knows."""
        last = [int(s.steps[-1]) for s in self.figures.values()]
        return max([int(self.state.get("step") or 0), *last])

    @property
    def parts(self) -> list[str]:
        """Names of the parts of a mixture that were logged; `[""]` for one dataset."""
        return sorted({part for name, part in self.figures if name == "loss"}) or [""]

    def named(self, name: str) -> dict[str, Series]:
        """Return a figure by part."""
        return {part: s for (held, part), s in sorted(self.figures.items()) if held == name}

    def whole(self, name: str) -> Series | None:
        """Return a figure over all parts, in the order of the steps."""
        found = list(self.named(name).values())
        if len(found) < 2:
            return found[0] if found else None
        steps = np.concatenate([s.steps for s in found])
        order = np.argsort(steps, kind="stable")
        return Series(steps[order], np.concatenate([s.values for s in found])[order])


def read(folder: Path) -> Record:
    """Gather a run.

    Raises:
        UsageError: the folder is no run folder.
        FMError: a file of it is damaged.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give a run folder (the run's out=)")
    if not (folder / STATE).is_file() or not (folder / "config.yaml").is_file():
        hint = "; its run is the folder above" if (folder / "card.json").is_file() else ""
        raise UsageError(
            f"{folder}: not a run folder, it has no {STATE} and config.yaml{hint}; give the out= "
            f"of fm pretrain"
        )
    state = read_json(folder / STATE, "run state")
    if not isinstance(state, dict) or "status" not in state:
        raise FMError(f"{folder / STATE}: not the state of a run")
    env, card = folder / "env.json", folder / "export" / "card.json"
    figures, unfinite = _figures(folder / METRICS)
    figures |= _figures(folder / BANDS, inside="bands")[0]
    return Record(
        folder=folder,
        config=read_yaml(folder / "config.yaml"),
        state=state,
        environment=read_json(env, "environment") if env.is_file() else {},
        figures=figures,
        unfinite=unfinite,
        events={
            path.stem: list(lines(path))
            for path in (folder / name for name in (PROBES, SKIPPED, SESSIONS))
            if path.is_file()
        },
        quarantined=sum(sum(1 for _ in lines(p)) for p in folder.glob("quarantine-*.jsonl")),
        checkpoints=tuple(
            sorted(
                int(path.name.removeprefix("step-"))
                for path in (folder / CHECKPOINTS).glob("step-*")
                if path.name.removeprefix("step-").isdigit()
            )
        ),
        card=read_json(card, "model card") if card.is_file() else None,
    )


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON lines one by one; a torn last one is left out.

    Raises:
        FMError: a line before the last is damaged.
    """
    torn = 0
    with open(path, encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            if torn:
                raise FMError(f"{path}: line {torn} is damaged; remove it to report the run")
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                torn = number
                continue
            if isinstance(row, dict):
                yield row
            else:
                torn = number


def leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """List the values inside nested mappings, their names joined by `/`."""
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from leaves(item, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", item


def at(values: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a dotted path; None where there is nothing."""
    found: Any = values
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _figures(path: Path, inside: str = "") -> tuple[dict[tuple[str, str], Series], int]:
    """Read the numbers of a log, or those under one of its keys alone."""
    if not path.is_file():
        return {}, 0
    # flat arrays: a month of steps as dictionaries would not fit
    steps: dict[tuple[str, str], array] = {}
    values: dict[tuple[str, str], array] = {}
    unfinite = 0
    for row in lines(path):
        step, part = row.get("step"), str(row.get("part", ""))
        if not isinstance(step, int) or not isinstance(row.get(inside, {}), Mapping):
            raise FMError(f"{path}: a line without a step; this is not the log of a run")
        for name, value in leaves(row.get(inside, {}), f"{BAND}/") if inside else leaves(row):
            if name in _PLACE or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not math.isfinite(value):
                unfinite += 1
                continue
            key = (name, part)
            steps.setdefault(key, array("q")).append(step)
            values.setdefault(key, array("d")).append(value)
    return {
        key: Series(np.frombuffer(s, np.int64), np.frombuffer(values[key], np.float64))
        for key, s in steps.items()
    }, unfinite
