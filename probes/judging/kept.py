"""Test answers kept beside a result, so that any two results of a benchmark can be compared.

`ID.answers.npz` lies beside `ID.json`: numbers alone, never pickled objects.
"""

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from fm.errors import FMError, UsageError
from fm.files import write_atomic
from probes.benchmarks.base import Data
from probes.result import Result
from probes.statistics.answers import ClassAnswers, LabelAnswers, QueryAnswers, Scored, ValueAnswers
from probes.statistics.bootstrap import over_seeds, paired
from probes.statistics.permutation import mcnemar, sign_flip
from probes.statistics.places import PlaceAnswers
from probes.statistics.tries import TryAnswers

FORMAT = 1
_KINDS = {
    kind.__name__: kind
    for kind in (ClassAnswers, LabelAnswers, QueryAnswers, ValueAnswers, PlaceAnswers)
}


@dataclasses.dataclass(frozen=True)
class Kept:
    """The test answers of one result.

    Attributes:
        answers: as the bootstrap takes them.
        right: [N] bool, which test samples got the right class; None where that is not asked.
        test: SHA-256 over the test samples, their units and the dataset.
    """

    answers: Scored
    right: np.ndarray | None
    test: str

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        arrays: dict[str, np.ndarray] = {}
        tries = self.answers.tries if isinstance(self.answers, TryAnswers) else [self.answers]
        about: dict[str, Any] = {
            "format": FORMAT,
            "test": self.test,
            "kind": type(tries[0]).__name__,
            "tries": len(tries) if isinstance(self.answers, TryAnswers) else None,
        }
        for n, one in enumerate(tries):
            for name, value in _fields(one).items():
                if isinstance(value, dict):
                    arrays |= {f"{n}.{name}.{key}": part for key, part in value.items()}
                elif isinstance(value, np.ndarray):
                    arrays[f"{n}.{name}"] = value
                else:
                    about[name] = value
        if self.right is not None:
            arrays["right"] = self.right
        stream = io.BytesIO()
        np.savez_compressed(stream, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
        write_atomic(path, stream.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            FMError: it is missing, damaged or of another format.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = json.loads(str(stored["about"]))
                arrays = {name: stored[name] for name in stored.files if name != "about"}
            if about["format"] != FORMAT:
                raise FMError(f"{path}: format {about['format']}, this eofm reads {FORMAT}")
            tries = [_answers(about, arrays, n) for n in range(about["tries"] or 1)]
            whole: Any = tries[0] if about["tries"] is None else TryAnswers(tries)
            return cls(whole, arrays.get("right"), about["test"])
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise FMError(
                f"{path}: no test answers to compare ({error}); repeat the probe with --out"
            ) from None


def of(answers: Scored, right: np.ndarray | None, data: Data) -> Kept:
    """Keep the answers of the test split of a benchmark."""
    test = data.of("test")
    digest = hashlib.sha256(data.manifest_hash.encode())
    digest.update(np.ascontiguousarray(data.shards[test].astype("U")).tobytes())
    digest.update(np.ascontiguousarray(data.unit[test], np.int64).tobytes())
    digest.update(np.ascontiguousarray(data.targets[test], np.float64).tobytes())
    return Kept(answers, right, digest.hexdigest())


def beside(result: Path) -> Path:
    """Where the answers of a result file lie."""
    return result.with_name(f"{result.stem}.answers.npz")


def compare(first: Path | str, second: Path | str, metric: str | None = None) -> dict[str, Any]:
    """Compare any two results of a benchmark by their kept answers.

    Args:
        first: a result file that `fm probe --out` wrote.
        second: another, on the same test samples.
        metric: None takes the primary one.

    Returns:
        `difference` (first - second), `low`, `high` (bootstrap by unit), `p` and `flips`
        (`probes.statistics.permutation.sign_flip`), and `mcnemar` for tasks of one class a sample.

    Raises:
        FMError: a file cannot be read.
        UsageError: they are not of the same test samples, or the metric is none of theirs.
    """
    paths = [Path(first), Path(second)]
    results = [Result.load(path) for path in paths]
    kept = [Kept.load(beside(path)) for path in paths]
    name = metric or results[0].primary
    _same_test(paths, results, kept)
    for path, result in zip(paths, results, strict=True):
        if name not in result.metrics:
            raise UsageError(f"{path}: no metric {name!r}; there are {', '.join(result.metrics)}")
    return {
        "first": results[0].id,
        "second": results[1].id,
        "metric": name,
        "unit": results[0].benchmark["unit"],
        **differ(kept[0], kept[1], name, results[0].seed),
    }


def differ(first: Kept, second: Kept, metric: str, seed: int) -> dict[str, Any]:
    """The difference of two rows with its interval and tests; see `compare`."""
    one, other = (_alone(kept.answers) for kept in (first, second))
    found: dict[str, Any] = paired(one, other, metric, seed)
    if type(one) is type(other):
        flipped = sign_flip(one, other, metric, seed)
        found |= dict(flipped) if flipped is not None else {"p": None}
    if first.right is not None and second.right is not None:
        found["mcnemar"] = mcnemar(first.right, second.right)
    return found


def _alone(answers: Any) -> Any:
    """A single try is compared as what it is."""
    single = isinstance(answers, TryAnswers) and len(answers.tries) == 1
    return answers.tries[0] if single else answers


def combine(results: Sequence[Path | str]) -> dict[str, dict[str, float | None]]:
    """Combine results that differ in their seed alone.

    Returns:
        metric to `value` (mean over the seeds), `low`, `high` (bootstrap over units and seeds
        together), `between` (deviation between the seeds) and `runs`.

    Raises:
        FMError: a file cannot be read.
        UsageError: fewer than two, or they differ in more than the seed.
    """
    paths = [Path(path) for path in results]
    if len(paths) < 2:
        raise UsageError("give two results or more that differ in their seed")
    rows = [Result.load(path) for path in paths]
    kept = [Kept.load(beside(path)) for path in paths]
    _same_test(paths, rows, kept)
    for path, row in zip(paths, rows, strict=True):
        if row.id.rpartition("--s")[0] != rows[0].id.rpartition("--s")[0]:
            raise UsageError(f"{path}: another row than {paths[0]}; only seeds may differ")
    if len({row.seed for row in rows}) < len(rows):
        raise UsageError(f"{paths[0]}: a seed comes twice; each run counts once")
    return over_seeds([one.answers for one in kept], rows[0].seed)


def _same_test(paths: Sequence[Path], results: Sequence[Result], kept: Sequence[Kept]) -> None:
    for path, result, one in zip(paths, results, kept, strict=True):
        if one.test != kept[0].test:
            raise UsageError(
                f"{path}: other test samples ({result.benchmark['name']}, "
                f"{result.benchmark['n_test']}) than {paths[0]}; only results on the same ones "
                f"can be compared"
            )


def _fields(answers: Any) -> dict[str, Any]:
    return {f.name: getattr(answers, f.name) for f in dataclasses.fields(answers) if f.init}


def _answers(about: dict[str, Any], arrays: dict[str, np.ndarray], n: int) -> Any:
    kind = _KINDS[about["kind"]]
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        start = f"{n}.{field.name}"
        if start in arrays:
            values[field.name] = arrays[start]
        elif field.name in about:
            values[field.name] = tuple(about[field.name])
        else:
            inside = {k: v for k, v in arrays.items() if k.startswith(f"{start}.")}
            values[field.name] = {k.removeprefix(f"{start}."): v for k, v in inside.items()}
    return kind(**values)
