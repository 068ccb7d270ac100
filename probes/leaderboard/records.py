"""Result JSON as the leaderboard reads it: every key checked, every error one line.

A key that a result lacks is an error and never a default, so a misspelt key cannot vanish from
the page. Keys beyond the schema are ignored: a later writer may say more.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fm.errors import FMError
from probes.leaderboard.metrics import fraction
from probes.result import WARNING, is_warning

FORMAT_VERSIONS = (1, 2)
"""The schema versions that are read; 2 added the keys of `SINCE_2`."""
SINCE_2 = ("axes", "cost", "diagnostics", "robustness", "contamination", "examples")

Name = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name that is shown: not empty and without control characters or line breaks."""

Kind = Literal["pretrained", "random-init", "floor", "supervised"]


class _Record(BaseModel):
    # strict: "0.8" is not a number; NaN and infinities are refused because JSON has none
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class Model(_Record):
    """Who was judged."""

    name: Name
    kind: Kind
    path: str | None
    weights_sha256: str | None
    parameters: int | None
    architecture: str | None
    adapted: dict[str, Any] | None
    card: dict[str, Any] | None = None


class Benchmark(_Record):
    """On what: data, split and task."""

    name: Name
    version: str | int
    dataset: str
    manifest_hash: str | None
    task: str
    n_train: int = Field(ge=0)
    n_val: int = Field(ge=0)
    n_test: int = Field(ge=0)
    classes: tuple[str, ...] | None
    verified: str | bool
    split: str
    notes: tuple[str, ...] = ()


class Protocol(_Record):
    """How: the named recipe and its settings."""

    name: Name
    version: str | int
    settings: dict[str, Any]


class Metric(_Record):
    """A test score with its interval; `better` is only needed for metrics we do not know."""

    value: float
    low: float | None = None
    high: float | None = None
    better: Literal["higher", "lower"] | None = None


class Interval(_Record):
    """How every interval of this result was made."""

    kind: str
    unit: str
    resamples: int
    level: float = Field(gt=0, lt=1)


class Selection(_Record):
    """The grid that was swept on the selection split and what it chose."""

    split: str
    name: str
    grid: tuple[Any, ...]
    scores: tuple[float | None, ...]
    chosen: Any
    on_edge: bool


class Versus(_Record):
    """This result minus another on the same test samples."""

    name: Name
    kind: Kind
    metric: str
    difference: float
    low: float | None
    high: float | None
    paired: str | None


class Overlap(_Record):
    """What pretraining and benchmark share."""

    statement: str
    shared_samples: int | None
    transductive: bool


class Record(_Record):
    """One Result JSON document (`docs/leaderboard.md`)."""

    format_version: Literal[1, 2]
    id: Name
    created: str
    command: str | None
    model: Model
    benchmark: Benchmark
    protocol: Protocol
    seed: int
    metrics: dict[Name, Metric] = Field(min_length=1)
    primary: str
    interval: Interval | None
    selection: Selection | None
    versus: tuple[Versus, ...]
    overlap: Overlap
    environment: dict[str, Any]
    seconds: float | None
    per_class: tuple[Any, ...] | None
    confusion: tuple[tuple[float, ...], ...] | None
    # of format 2: parse() insists on them there
    axes: dict[str, Any] | None = None
    cost: dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None
    robustness: tuple[dict[str, Any], ...] | None = None
    contamination: dict[str, Any] | None = None
    examples: tuple[dict[str, Any], ...] | None = None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Notes that put the score in doubt: wrong units, normaliser or bands."""
        told = dict.fromkeys(note for note in self.benchmark.notes if is_warning(note))
        return tuple(note.removeprefix(WARNING) for note in told)


def _key(location: tuple[int | str, ...]) -> str:
    # union branches put names such as `tuple[any, ...]` into the location: not keys of the file
    parts = [str(part) for part in location if not (isinstance(part, str) and "[" in part)]
    return ".".join(parts)


def _problems(record: Record) -> list[str]:
    """What no single key can show: keys that contradict one another."""
    found = []
    if record.primary not in record.metrics:
        found.append(
            f"key 'primary': {record.primary!r} is not under 'metrics'; name one of "
            + ", ".join(record.metrics)
        )
    ranges = [(f"metrics.{name}", score.low, score.high) for name, score in record.metrics.items()]
    ranges += [(f"versus.{at}", item.low, item.high) for at, item in enumerate(record.versus)]
    for key, low, high in ranges:
        if (low is None) != (high is None):
            found.append(f"key {key!r}: one end of the interval is missing; give low and high")
        elif low is not None and high is not None and low > high:
            found.append(f"key {key!r}: low {low} is above high {high}; swap or recompute them")
    selection = record.selection
    if selection is not None and len(selection.grid) != len(selection.scores):
        found.append(
            f"key 'selection': {len(selection.grid)} grid values but {len(selection.scores)} "
            "scores; give one score for each"
        )
    for name, score in record.metrics.items():
        ends = [v for v in (score.value, score.low, score.high) if v is not None]
        if score.better is None and fraction(name) and max(ends) > 1 + 1e-9:
            found.append(
                f"key 'metrics.{name}': {max(ends):g} is above 1, the best there is; give a "
                "fraction, not a percentage"
            )
    matrix, classes = record.confusion, record.benchmark.classes
    if matrix is not None and any(len(row) != len(matrix) for row in matrix):
        found.append("key 'confusion': not square; give one row and one column a class")
    if matrix is not None and classes is not None and len(matrix) != len(classes):
        found.append(
            f"key 'confusion': {len(matrix)} rows for {len(classes)} classes; give one a class"
        )
    return found


def _version_problem(raw: Any) -> str | None:
    if not isinstance(raw, dict):
        return "a Result is a JSON object; write it with fm probe"
    version = raw.get("format_version")
    if version is None:
        return "key 'format_version' is missing; this is not a Result written by fm probe"
    if isinstance(version, bool) or version not in FORMAT_VERSIONS:
        known = " and ".join(map(str, FORMAT_VERSIONS))
        return (
            f"key 'format_version': {version!r} is unknown, this eofm reads {known}; "
            f"repeat the probe or update eofm (it was written by eofm {_writer(raw)})"
        )
    return None


def _writer(raw: dict[str, Any]) -> str:
    told = raw.get("environment")
    return str(told.get("eofm", "unknown"))[:40] if isinstance(told, dict) else "unknown"


def parse(path: Path) -> tuple[Record | None, list[str]]:
    """Read one Result.

    Args:
        path: a JSON file.

    Returns:
        the record (None when it cannot be used) and its problems, each one line that names the
        file and the key.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        return None, [f"{path}: cannot be read ({error.strerror}); check the path"]
    try:
        raw = json.loads(data)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        return None, [f"{path}: this result is not valid JSON ({error}); repeat the probe"]
    problem = _version_problem(raw)
    if problem:
        return None, [f"{path}: {problem}"]
    try:
        record = Record.model_validate_json(data)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            key = _key(item["loc"])
            if item["type"] == "missing":
                lines.append(f"{path}: key {key!r} is missing; repeat the probe or add it")
            else:
                message = item["msg"][0].lower() + item["msg"][1:]
                lines.append(f"{path}: key {key!r}: {message}; mend it or repeat the probe")
        return None, list(dict.fromkeys(lines))
    lost = [key for key in SINCE_2 if record.format_version == 2 and key not in raw]
    lines = [f"{path}: key {key!r} is missing; repeat the probe or add it" for key in lost]
    lines += [f"{path}: {text}" for text in _problems(record)]
    return (None if lines else record), lines


def paths(results: Path) -> list[Path]:
    """List the result files of a folder."""
    return sorted(path for path in results.glob("*.json") if not path.name.startswith("."))


def scan(results: Path) -> tuple[list[Record], list[str]]:
    """Read every Result of a folder, in the order of their ids.

    Args:
        results: a folder that holds `*.json` files.

    Returns:
        the records and all problems found, duplicate ids included.

    Raises:
        FMError: there is no such folder or no result in it.
    """
    if not results.is_dir():
        raise FMError(f"{results}: no such folder of results; name the folder fm probe wrote to")
    if not paths(results):
        raise FMError(f"{results}: no results (*.json) in this folder; run fm probe first")
    records: list[Record] = []
    lines: list[str] = []
    first: dict[str, Path] = {}
    for path in paths(results):
        record, problems = parse(path)
        lines += problems
        if record is None:
            continue
        if record.id in first:
            lines.append(
                f"{path}: key 'id': {record.id!r} is already that of {first[record.id].name}; "
                "remove one of the two files"
            )
            continue
        first[record.id] = path
        records.append(record)
    return sorted(records, key=lambda record: record.id), lines


def load(results: Path) -> list[Record]:
    """Read every Result of a folder and refuse the folder at the first problem.

    Raises:
        FMError: no folder, no result, or a result that breaks the schema.
    """
    records, lines = scan(results)
    if lines:
        more = f" (and {len(lines) - 1} more; fm leaderboard check lists them)"
        raise FMError(lines[0] + (more if len(lines) > 1 else ""))
    return records


def sources(results: Path) -> dict[str, bytes]:
    """Return id to the bytes of its file, for a folder that `load` accepts."""
    found = [path.read_bytes() for path in paths(results)]
    return {json.loads(data)["id"]: data for data in found}
