"""A run's folder: its lock, its newest checkpoint, its metrics and its state."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fm.errors import FMError
from fm.files import read_json, write_json
from fm.version import WRITER, check_format

STATE, METRICS, LATEST, CHECKPOINTS = "state.json", "metrics.jsonl", "latest", "checkpoints"
TAG = "deepspeed"
"""The folder of DeepSpeed's own files inside a checkpoint."""
FORMAT_VERSION = 1
"""Of a run's folder. 0.1.0 wrote none; its first runs cannot be gone on with (`check_going_on`)."""


@dataclass(frozen=True)
class Position:
    """Where a checkpoint stands.

    Attributes:
        step: optimiser steps done.
        samples: position in the stream of samples.
        world_size: ranks that wrote it.
        zero_stage: DeepSpeed stage that wrote it.
        guard: what `pretrain.guard.Guard` knows of the steps before.
    """

    step: int
    samples: int
    world_size: int
    zero_stage: int
    guard: dict[str, Any] = field(default_factory=dict)


def read_position(checkpoint: Path) -> Position:
    """Read where a checkpoint of a run stands.

    Raises:
        FMError: it says less or more than this version knows of.
    """
    values = read_json(checkpoint / "position.json", "checkpoint position")
    try:
        return Position(**values)
    except TypeError as error:
        why = str(error).removeprefix("Position.__init__() ")
        raise FMError(
            f"{checkpoint / 'position.json'}: {why}; {WRITER} did not write it: go on with the "
            f"version that env.json of the run names"
        ) from None


def check_going_on(path: Path, state: Mapping[str, Any]) -> None:
    """Refuse to go on with a run whose objective had other parts.

    Until `model.options` was there, every band of MAE had a head of its own, and groups a code.

    Args:
        path: of the run.
        state: of the run.

    Raises:
        FMError: the run was begun by such a version.
    """
    model = state["identity"].get("model")
    if not isinstance(model, Mapping) or "options" in model:
        return
    env = path / "env.json"
    told = read_json(env, "environment") if env.is_file() else {}
    commit = (told.get("git") or {}).get("commit")
    by = f"eofm {told.get('packages', {}).get('eofm', '0.1.0')}" + (
        f" (commit {commit[:8]})" if isinstance(commit, str) else ""
    )
    weights = f", init_from={path / 'export'}" if (path / "export").is_dir() else ""
    raise FMError(
        f"{path}: begun by {by}, whose objectives had other parts, so that it cannot be gone on "
        f"with: end it with that version, or begin a new run in another out=FOLDER{weights}"
    )


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / CHECKPOINTS
        self.export = self.path / "export"
        self.pictures = self.path / "pictures"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run while it lives; the kernel frees the lock when the process dies.

        Raises:
            FMError: another process runs here, or the path is not a folder or holds other files.
        """
        self.state()  # refuse a folder of something else before touching it
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise FMError(f"{self.path} is not a folder; name another out=FOLDER") from None
        with open(self.path / ".lock", "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FMError(
                    f"{self.path}: a run is alive in this folder; wait for it or name another out"
                ) from None
            yield

    def state(self) -> dict[str, Any] | None:
        """Return what `state.json` says; None for a new run.

        Raises:
            FMError: the folder holds files of something else.
        """
        if (self.path / STATE).is_file():
            value: dict[str, Any] = read_json(self.path / STATE, "run state")
            if not isinstance(value, dict) or not {"status", "step", "identity"} <= set(value):
                raise FMError(
                    f"{self.path / STATE}: not the state of a run; name another out=FOLDER"
                )
            check_format({"format_version": 1, **value}, FORMAT_VERSION, str(self.path / STATE))
            return value
        if self.path.is_dir() and any(p.name != ".lock" for p in self.path.iterdir()):
            raise FMError(f"{self.path} is not empty and holds no run; name another out=FOLDER")
        return None

    def write_state(self, **values: Any) -> None:
        """Write `state.json`."""
        about = {"format_version": FORMAT_VERSION, "written_by": WRITER}
        write_json(self.path / STATE, {**values, **about})

    def latest(self) -> tuple[Path, Position] | None:
        """Return the newest complete checkpoint, or None."""
        pointer = self.path / LATEST
        if not pointer.is_file():
            return None
        folder = self.checkpoints / pointer.read_text().strip()
        return folder, read_position(folder)

    def quarantine(self, rank: int) -> Path:
        """Return the file of what a rank could not read (`shards.reading.quarantine`)."""
        return self.path / f"quarantine-{rank}.jsonl"

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of `metrics.jsonl`, without a torn last one."""
        return read_lines(self.path / METRICS)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line cut short by a crash is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def differing_keys(
    old: Mapping[str, Any], new: Mapping[str, Any], chosen: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """List the keys whose values differ, nested keys joined by dots.

    A key that the old run did not know yet and that has its default now is no difference.

    Args:
        old: identity of the run in the folder.
        new: identity of what is asked for.
        chosen: what of the new differs from the defaults.
        prefix: of the keys.
    """
    keys = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        here = chosen.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            inner = here if isinstance(here, Mapping) else {}
            keys += differing_keys(a, b, inner, f"{prefix}{key}.")
        elif a != b and (key in old or key in chosen):
            keys.append(prefix + key)
    return keys
