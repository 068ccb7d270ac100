"""A result: one JSON document with everything needed to repeat it."""

import dataclasses
import math
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from fm.errors import FMError
from fm.files import read_json, write_json
from fm.version import __version__, check_format
from probes.axes import tag

FORMAT_VERSION = 2
"""2 added the keys of `_SINCE_2`; files of version 1 are read with None in their place."""
KINDS = ("pretrained", "random-init", "floor", "supervised")
WARNING = "WARNING: "
"""How a note begins that puts a score in doubt: wrong units, normaliser or bands."""
_NEEDED: dict[str, tuple[str, ...]] = {
    "model": (
        *("name", "kind", "path", "weights_sha256", "parameters", "architecture", "adapted"),
    ),
    "benchmark": (
        *("name", "version", "dataset", "manifest_hash", "task", "n_train", "n_val", "n_test"),
        *("classes", "verified", "split"),
    ),
    "protocol": ("name", "version", "settings"),
    "overlap": ("statement", "shared_samples", "transductive"),
}
_FLAT: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "created": (str,),
    "command": (str, type(None)),
    "seed": (int,),
    "metrics": (dict,),
    "primary": (str,),
    "interval": (dict, type(None)),
    "selection": (dict, type(None)),
    "versus": (list,),
    "environment": (dict,),
    "seconds": (int, float, type(None)),
    "per_class": (list, type(None)),
    "confusion": (list, type(None)),
    "axes": (dict, type(None)),
    "cost": (dict, type(None)),
    "diagnostics": (dict, type(None)),
    "robustness": (list, type(None)),
    "contamination": (dict, type(None)),
    "examples": (list, type(None)),
}
_SINCE_2 = ("axes", "cost", "diagnostics", "robustness", "contamination", "examples")


@dataclass
class Result:
    """One model judged by one protocol on one benchmark. The keys are those of the JSON file.

    Attributes:
        model: name, kind (one of `KINDS`), path, weights_sha256, parameters, architecture,
            adapted (the report of `fm.adapt`, or None).
        benchmark: name, version, dataset, manifest_hash, task, counts, classes, verified, split,
            notes.
        protocol: name, version, settings, and what else its file says: help, reference, floors.
        seed: of everything that is random.
        metrics: metric to value, low, high.
        primary: the metric that selection and differences use.
        overlap: what pretraining saw of the test set: statement, shared_samples, transductive.
        interval: kind, unit, resamples, level of all intervals.
        selection: split, name, grid, scores, chosen, on_edge; None where nothing was selected.
        versus: paired differences to floors: name, kind, metric, difference, low, high, paired.
        environment: versions and machine.
        seconds: wall time of this row.
        per_class: one row a class.
        confusion: [K, K] counts, rows are the truth; None for multi-label.
        axes: how pixels came to the model: resize, interpolation, normaliser, bands (names and what
            was done about missing ones), changed (those that are not the protocol's own, also in
            the id); None where the protocol has no such choice.
        cost: parameters, flops (of one sample, counted, two a multiply-add), samples_per_second.
        diagnostics: name to number: calibration, effective rank, uniformity, and their like.
        robustness: one row a disturbance: name, metric, value, low, high, drop.
        contamination: benchmark samples near what pretraining saw: counts and rules.
        examples: a few test samples: key, truth, prediction, score.
        command: the command line, None from Python.
        created: UTC time, ISO-8601.
    """

    model: dict[str, Any]
    benchmark: dict[str, Any]
    protocol: dict[str, Any]
    seed: int
    metrics: dict[str, dict[str, float | None]]
    primary: str
    overlap: dict[str, Any]
    interval: dict[str, Any] | None = None
    selection: dict[str, Any] | None = None
    versus: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    per_class: list[dict[str, Any]] | None = None
    confusion: list[list[int]] | None = None
    axes: dict[str, Any] | None = None
    cost: dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None
    robustness: list[dict[str, Any]] | None = None
    contamination: dict[str, Any] | None = None
    examples: list[dict[str, Any]] | None = None
    command: str | None = None
    created: str = field(
        default_factory=lambda: datetime.now(UTC).replace(microsecond=0).isoformat()
    )

    @property
    def id(self) -> str:
        """`BENCHMARK--PROTOCOL--MODEL--sSEED`, also the file's name.

        Axes that are not the protocol's own stand before the seed, and what was left out of the
        test samples.
        """
        return identify(
            (self.benchmark["name"], self.benchmark["version"]),
            (self.protocol["name"], self.protocol["version"]),
            self.model["name"],
            {
                **((self.axes or {}).get("changed") or {}),
                **without((self.contamination or {}).get("excluded"), self.benchmark),
            },
            self.seed,
        )

    @property
    def value(self) -> float | None:
        """The primary metric."""
        return self.metrics[self.primary]["value"]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {"format_version": FORMAT_VERSION, "id": self.id, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, value: Any, where: str = "result") -> Self:
        """Read a JSON document.

        Args:
            value: what `to_dict` returned.
            where: the file, for errors.

        Raises:
            FMError: another format version, a key that is missing, unknown or of a wrong type.
        """
        if not isinstance(value, dict) or "format_version" not in value:
            raise FMError(f"{where}: no format_version; this is not a result of `fm probe`")
        told = value.get("environment")
        by = told.get("eofm") if isinstance(told, dict) else None
        check_format({**value, "written_by": by and f"eofm {by}"}, FORMAT_VERSION, where)
        if value["format_version"] == 1:
            value = {**value, **dict.fromkeys(_SINCE_2)}
        known = {"format_version", *_NEEDED, *_FLAT}
        for key in (*sorted(known - set(value)), *sorted(set(value) - known)):
            state = "is missing" if key in known else "is unknown"
            raise FMError(f"{where}: key {key!r} {state}; repeat the probe")
        for key, needed in _NEEDED.items():
            missing = [k for k in needed if not isinstance(value[key], dict) or k not in value[key]]
            if missing:
                raise FMError(f"{where}: key '{key}.{missing[0]}' is missing; repeat the probe")
        for key, kinds in _FLAT.items():
            if not isinstance(value[key], kinds) or isinstance(value[key], bool):
                raise FMError(f"{where}: key {key!r} is no {kinds[0].__name__}; repeat the probe")
        if value["model"]["kind"] not in KINDS:
            raise FMError(f"{where}: model.kind {value['model']['kind']!r} is none of {KINDS}")
        for name, metric in value["metrics"].items():
            number = metric.get("value") if isinstance(metric, dict) else None
            if not isinstance(number, int | float) or not math.isfinite(number):
                raise FMError(f"{where}: key 'metrics.{name}.value' is no number; repeat the probe")
        if value["primary"] not in value["metrics"]:
            raise FMError(f"{where}: primary metric {value['primary']!r} is not under metrics")
        result = cls(**{k: v for k, v in value.items() if k not in ("format_version", "id")})
        if result.id != value["id"]:
            raise FMError(f"{where}: id {value['id']!r} is not that of its content ({result.id})")
        return result

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `ID.json` into a folder, whole or not at all; an older one is replaced."""
        path = Path(folder) / f"{self.id}.json"
        write_json(path, self.to_dict())
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a result file; FMError says what is wrong with it."""
        return cls.from_dict(read_json(path, "result"), str(path))


def is_warning(note: str) -> bool:
    """Say whether a note of a result puts its score in doubt."""
    return note.startswith(WARNING)


def without(excluded: Mapping[str, Any] | None, benchmark: Mapping[str, Any]) -> dict[str, str]:
    """What the id says of test samples near pretraining that were left out, and which are left.

    Args:
        excluded: `contamination.excluded` of a result.
        benchmark: of the result; its `split_lists` names the samples that are left.
    """
    if excluded is None:
        return {}
    days = "" if excluded["days"] is None else f"-{excluded['days']:g}d"
    left = benchmark["split_lists"]["test"]["sha256"][:6]
    return {"without": f"{excluded['km']:g}km{days}-{left}"}


def identify(
    benchmark: tuple[str, Any],
    protocol: tuple[str, Any],
    model: str,
    changed: Mapping[str, Any],
    seed: int,
) -> str:
    """Name a result, see `Result.id`; benchmark and protocol are name and version."""
    parts = ["@".join(map(str, benchmark)), "@".join(map(str, protocol)), model]
    if text := tag(changed):
        parts.append(text)
    return "--".join([*map(in_a_file, parts), f"s{seed}"])


def in_a_file(word: str) -> str:
    """Return how a word stands in the names of files; several may stand there alike."""
    return re.sub(r"[^A-Za-z0-9@._+-]+", "-", word).strip("-.")


def environment() -> dict[str, Any]:
    """Versions and machine, for the result."""
    from importlib.metadata import version

    import torch

    return {
        "eofm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
