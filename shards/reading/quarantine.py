"""Bookkeeping of samples that cannot be read: counted, reported, and stopped when too many.

Two limits. Distinct samples: a share of the dataset, for damage that is spread thin. A rate over
the last samples read: for storage that vanishes in the middle of a run, where every sample from
then on fails and waiting for the first limit would train on nothing for hours.
"""

import datetime
import json
import math
import os
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fm.console import note
from fm.errors import FMError, UsageError
from shards.sample import format_time

WINDOW = 200
"""Samples over which the rate is taken."""
BURST = 0.5
"""Share of the last samples that may be bad, where `max_bad` does not allow more."""
_LISTED = 50


class Quarantine:
    """The samples of one dataset that could not be read.

    For each batch the reader calls `add` for every sample that failed and then `seen` with the
    number of samples it read, good and bad; `seen` raises when a limit is passed, so the list is
    complete for that batch. To be used from one thread.

    Args:
        total: samples in the dataset, as it was filtered.
        max_bad: this share of them, and at least one sample, may be bad.
        window: samples over which the rate is taken.
        burst: share of the last `window` samples read that may be bad; `max_bad` where that is
            larger. A sample that is read twice counts twice here.
        report: a JSON-lines file to which every new bad sample is appended durably (`dataset`,
            `part`, `key`, `shard`, `member`, `reason`, `position`, `time`). What stands there
            already for this part of this dataset counts from the start, so a run that resumes goes
            on counting. One writer a file: each rank has its own.
        on_quarantine: called as `(key, reason)` once for each new bad sample; None prints a line.
        dataset: its path, for the report and for errors.
        part: its name in a mixture, which may hold one dataset twice; None alone.

    Raises:
        UsageError: an argument out of range.
        FMError: the report cannot be read.
    """

    def __init__(
        self,
        total: int,
        max_bad: float = 0.05,
        window: int = WINDOW,
        burst: float = BURST,
        report: str | os.PathLike[str] | None = None,
        on_quarantine: Callable[[str, str], None] | None = None,
        dataset: str = "",
        part: str | None = None,
    ) -> None:
        if not isinstance(max_bad, (int, float)):
            raise UsageError(f"max_bad={max_bad!r}: give a share between 0 and 1")
        if total < 1 or window < 1 or not 0 <= max_bad <= 1 or not 0 < burst <= 1:
            raise UsageError(
                f"quarantine of {total} samples, max_bad={max_bad}, window={window}, "
                f"burst={burst}: counts are at least 1, shares between 0 and 1"
            )
        self.total, self.allowed = total, max(1, math.floor(max_bad * total))
        self._window, self._burst = window, max(burst, max_bad)
        self._dataset, self._part = dataset, part
        self._tell = on_quarantine or _print
        self._report = None if report is None else Path(report)
        self._bad: dict[str, dict[str, Any]] = {}
        self._recent: deque[tuple[int, int]] = deque()
        self._read = self._failed = self._now = 0
        if self._report is not None and self._report.exists():
            self._bad = _read_back(self._report, dataset, part)
        self._inherited = len(self._bad)

    def __len__(self) -> int:
        return len(self._bad)

    def __contains__(self, key: str) -> bool:
        return key in self._bad

    def add(
        self,
        key: str,
        shard: str | None,
        reason: str,
        position: int | None = None,
        member: str | None = None,
    ) -> None:
        """Note that a sample could not be read; a known one only counts for the rate.

        Args:
            key: of the sample.
            shard: the tar in which the member lies that failed.
            reason: in words.
            position: in the stream.
            member: that failed.

        Raises:
            FMError: the report cannot be written.
        """
        self._now += 1
        if key in self._bad:
            return
        entry = {"shard": shard, "member": member, "reason": reason, "position": position}
        self._bad[key] = entry
        self._tell(key, reason)
        if self._report is not None:
            moment = format_time(datetime.datetime.now(datetime.UTC))
            where = {"dataset": self._dataset, "part": self._part, "key": key}
            _append(self._report, json.dumps({**where, **entry, "time": moment}))

    def seen(self, count: int) -> None:
        """Note that a batch of `count` samples was read, with those added since the last call.

        Raises:
            FMError: more samples are bad than allowed; the text lists them and says what to do.
        """
        self._recent.append((count, self._now))
        self._read, self._failed, self._now = self._read + count, self._failed + self._now, 0
        while self._read - self._recent[0][0] >= self._window:
            read, failed = self._recent.popleft()
            self._read, self._failed = self._read - read, self._failed - failed
        if len(self._bad) > self.allowed:
            raise FMError(
                f"{self._where()}{len(self._bad)} of {self.total} samples cannot be read, more "
                f"than the {self.allowed} allowed: {self._listed()}; run `fm shards verify` and "
                f"`fm shards repair`{self._mended()}, or raise max_bad"
            )
        if self._failed > self._burst * max(self._read, self._window):
            reason = next(reversed(self._bad.values()))["reason"] if self._bad else ""
            raise FMError(
                f"{self._where()}{self._failed} of the last {self._read} samples cannot be read "
                f"(the newest: {reason}), so the storage is probably gone: {self._listed()}; "
                f"bring it back and resume{self._mended()}"
            )

    def known(self) -> dict[str, dict[str, Any]]:
        """Return every bad sample: key to shard, member, reason and position, JSON throughout."""
        return {key: dict(entry) for key, entry in self._bad.items()}

    def merge(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in what another rank knows; it is counted, not reported again."""
        for key, entry in known.items():
            self._bad.setdefault(key, dict(entry))

    def _where(self) -> str:
        part = "" if self._part is None else f"part {self._part}"
        where = ", ".join(text for text in (self._dataset, part) if text)
        return f"{where}: " if where else ""

    def _mended(self) -> str:
        if not self._inherited:
            return ""
        return f" (after mending remove {self._report}, which lists {self._inherited} of them)"

    def _listed(self) -> str:
        keys = ", ".join(list(self._bad)[:_LISTED]) + (", ..." if len(self._bad) > _LISTED else "")
        shards = Counter(entry["shard"] for entry in self._bad.values() if entry["shard"])
        places = ", ".join(f"{count} in {name}" for name, count in shards.most_common(3))
        return f"{keys} ({places})" if places else keys


def _print(key: str, reason: str) -> None:
    note(f"quarantined sample {key}: {reason}")


def _read_back(path: Path, dataset: str, part: str | None) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise FMError(f"{path}: cannot read this quarantine report ({error.strerror})") from None
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            key, of = str(entry["key"]), (entry["dataset"], entry.get("part"))
            kept = {name: entry[name] for name in ("shard", "member", "reason", "position")}
        except (ValueError, KeyError, TypeError, RecursionError):
            # a kill in the middle of a write; the sample is found again when it is read again
            note(f"{path}: line {number} is not whole and is passed over")
            continue
        if of == (dataset, part):
            found.setdefault(key, kept)
    return found


def _append(path: Path, line: str) -> None:
    """Append one line and make it durable; a torn last line is closed first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b", buffering=0) as stream:
            end = stream.seek(0, os.SEEK_END)
            if end:
                stream.seek(end - 1)
                line = line if stream.read(1) == b"\n" else "\n" + line
            stream.write((line + "\n").encode())
            os.fsync(stream.fileno())
    except OSError as error:
        raise FMError(
            f"{path}: cannot write the quarantine report ({error.strerror}); "
            "name another file or free the disk"
        ) from None
