"""What is wrong with one tar, found from its bytes in order and from what the index says."""

import hashlib
from dataclasses import dataclass

import numpy as np

from shards.format import ShardInfo
from shards.integrity.spans import Catalogue, Checker, Spans, impossible
from shards.tar import end_of_archive


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: `member`, `sample` (its tar headers, padding or `KEY.json`), `archive` (bytes of a tar
            that belong to no sample), `missing`, `extra` (files), `index`, `columns` (the copy of
            the index in `index.bin`).
        detail: what was found, in words.
        shard: file name, where it is about one.
        key: sample key, where it is about one.
        member: where it is about one.
    """

    kind: str
    detail: str
    shard: str | None = None
    key: str | None = None
    member: str | None = None

    def __str__(self) -> str:
        where = [text for text in (self.shard, self.key, self.member) if text]
        return f"{self.kind}: {': '.join([*where, self.detail])}"


class ShardCheck:
    """What is wrong with one tar, found from its bytes in order.

    Args:
        shard: what is said of it.
        catalogue: where its samples and members lie; None when that is not known.
    """

    def __init__(self, shard: ShardInfo, catalogue: Catalogue | None) -> None:
        self._info, self._catalogue = shard, catalogue
        self.problems: list[Problem] = []
        self._hash, self._place, self._end = hashlib.sha256(), 0, 0
        self._noise = False
        self.sha256: str | None = None
        if catalogue is None:
            none = np.empty(0, np.int64)
            self._samples = self._members = Spans(none, none, none, none, none)
        else:
            self._samples = self._placed(catalogue.samples(shard.name))
            self._members = self._placed(catalogue.members(shard.name))
            self._inside()
        self._ours = len(self._samples) > 0
        if self._ours:
            self._end = int(self._samples.start[-1] + self._samples.size[-1])
        self._checks = Checker(self._samples), Checker(self._members)
        self._bad: tuple[list[int], list[int]] = ([], [])

    def _wrong(self, kind: str, detail: str, span: tuple[Spans, int] | None = None) -> None:
        key = member = None
        if span is not None and self._catalogue is not None:
            key = self._catalogue.key(int(span[0].row[span[1]]))
            member = self._catalogue.member(int(span[0].member[span[1]]))
        self.problems.append(Problem(kind, detail, self._info.name, key, member))

    def _placed(self, spans: Spans) -> Spans:
        """Report ranges that cannot be; return the others."""
        bad = impossible(spans, self._info.bytes)
        for number in np.flatnonzero(bad).tolist():
            place = f"byte range {spans.start[number]}+{spans.size[number]}"
            detail = f"{place} is not inside the tar, or overlaps another"
            self._wrong("index", detail, (spans, number))
        return spans.take(~bad)

    def _inside(self) -> None:
        """Report members that lie outside their sample, and samples that leave a gap."""
        samples, members = self._samples, self._members
        if not len(samples):
            return
        if (
            samples.start[0] != 0
            or (samples.start[1:] != (samples.start + samples.size)[:-1]).any()
        ):
            self._wrong("index", "the byte ranges of the samples do not lie end to end")
        place = np.searchsorted(samples.start, members.start, side="right") - 1
        at = np.maximum(place, 0)
        ends = samples.start[at] + samples.size[at]
        own = (place >= 0) & (members.start + members.size <= ends)
        own &= samples.row[at] == members.row
        for number in np.flatnonzero(~own).tolist():
            place_text = f"byte range {members.start[number]}+{members.size[number]}"
            self._wrong("index", f"{place_text} lies outside its sample", (members, number))
        self._members = members.take(own)

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes."""
        self._hash.update(piece)
        for checker, bad in zip(self._checks, self._bad, strict=True):
            bad += checker.feed(piece)
        if self._ours and not self._noise:
            tail = piece[max(0, self._end - self._place) :]
            self._noise = bool(np.frombuffer(tail, np.uint8).any())
        self._place += len(piece)

    def finish(self, size: int) -> list[Problem]:
        """Return the problems; `size` is that of the file, of which enough was fed."""
        shard, before = self._info, len(self.problems)
        if size != shard.bytes:
            self._wrong("archive", f"{size} bytes, written were {shard.bytes}")
        told: set[int] = set()
        for spans, checker, bad in reversed(
            list(zip((self._samples, self._members), self._checks, self._bad, strict=True))
        ):
            for number in [*bad, *checker.short()]:
                row = int(spans.row[number])
                missing = int(spans.start[number] + spans.size[number]) - self._place
                if spans is self._samples and row in told:
                    continue  # its member says more
                told.add(row)
                if missing > 0:
                    self._wrong("sample", f"the file ends {missing} bytes early", (spans, number))
                elif spans is self._samples:
                    detail = "tar header, padding or JSON does not match its checksum"
                    self._wrong("sample", detail, (spans, number))
                else:
                    self._wrong("member", "checksum mismatch", (spans, number))
        if len(self.problems) > before:
            return self.problems
        if self._noise:
            self._wrong("archive", "bytes after the last sample are not zero")
        elif self._ours and size != self._end + end_of_archive(self._end):
            self._wrong("archive", f"{size - self._end} bytes after the last sample")
        self.sha256 = self._hash.hexdigest()
        if self.sha256 != shard.sha256 and not self.problems:
            self._wrong("archive", "SHA-256 is not that of dataset.json")
        return self.problems
