"""One file over HTTP: resumable, bounded, and absent until its hash was compared.

huggingface_hub is not used for this: it compares sizes, not SHA-256, keeps its files in a cache of
its own, and serves one hub, while released weights lie on others too. Byte ranges over `requests`
do the same on any server.
"""

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests

from fm.console import Bar, note, progress
from fm.errors import FMError
from fm.files import fsync_folder, passing_folder, read_json, sha256_file, write_json

TRIES = 5
"""Requests in a row that bring not one byte before the download is given up."""
UNREACHED = 2
"""The same while the server never answered."""
SECONDS = (10.0, 30.0)
"""Longest wait for a connection, and for the next bytes of an answer."""
WAIT = 0.5
"""Seconds before the second try, doubled for each that brings nothing."""
_PIECE = 1 << 20
_TOTAL = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_SHA256 = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')


@dataclass(frozen=True)
class Wanted:
    """A file on a server.

    Attributes:
        url: where.
        sha256: of its content, or the digits of its beginning that are known; may be empty.
        revision: commit that the server must say it serves, if it says one.
        max_bytes: a longer file is refused.
        otherwise: what to do with a file that was had in another way, for errors.
    """

    url: str
    sha256: str = ""
    revision: str = ""
    max_bytes: int = 1 << 33
    otherwise: str = "give it with --from FILE"


def sidecar(path: Path) -> Path:
    """Return where the part of `path` that has come lies."""
    return path.with_name(f".{path.name}.part")


def fetch(wanted: Wanted, path: Path) -> str:
    """Fetch a file, going on where an earlier try broke off.

    What has come lies beside `path` under another name; `path` itself appears when the file is
    whole, its SHA-256 compared and its bytes on the disk. A part is gone on with only if the server
    still has the very file (its entity tag, sent as `If-Range` and compared with the answer's).

    Args:
        wanted: the file.
        path: where it shall be; its folder is made, and does not stay for nothing.

    Returns:
        its SHA-256.

    Raises:
        FMError: no connection, the server lacks the file or serves another revision, it breaks off
            again and again (what can be gone on with is kept), no room on the disk, or another
            hash (nothing is kept). `path` is not there then.
    """
    part = sidecar(path)
    with passing_folder(path.parent), _alone(part) as stream:
        _complete(wanted, path, stream)
        stream.flush()
        os.fsync(stream.fileno())
        found = sha256_file(part)
        if not found.startswith(wanted.sha256):
            _forget(part)
            raise FMError(
                f"{wanted.url}: refused: SHA-256 is {found}, pinned is {_shown(wanted.sha256)}; "
                f"nothing was kept"
            )
        os.replace(part, path)
        _forget(part)
        fsync_folder(path.parent)
    return found


def _complete(wanted: Wanted, path: Path, stream: BinaryIO) -> None:
    """Ask for what is missing until nothing is."""
    state = _Part(sidecar(path), wanted.url, stream)
    state.recall()
    with contextlib.ExitStack() as stack:
        bar: Bar | None = None
        most, fruitless, answered, why = state.here, 0, False, ""
        session = stack.enter_context(requests.Session())
        while state.total is None or state.here < state.total:
            if state.here and not state.tag:
                state.begin()  # nothing tells whether the server still has the same file
            try:
                with _ask(session, wanted, state) as answer:
                    _look(answer, wanted, state)
                    if bar is None and state.total is not None:
                        if state.here:
                            note(f"{path.name}: going on at {state.here:,} of {state.total:,}")
                        shown = progress(f"{path.name} bytes", state.total, done=state.here)
                        bar = stack.enter_context(shown)
                    _receive(answer, state, bar)
            except requests.RequestException as error:
                why = _reason(error)
            except _BusyError as error:
                answered, why = True, str(error)
            fruitless = 0 if state.here > most else fruitless + 1
            most = max(most, state.here)
            if fruitless >= (TRIES if answered or state.total else UNREACHED):
                raise FMError(_given_up(wanted, state, fruitless, why))
            if fruitless:
                time.sleep(WAIT * 2 ** (fruitless - 1))


class _BusyError(Exception):
    """The server asks to come again."""


class _Part:
    """What has come of a file, and of which file it is a part."""

    def __init__(self, path: Path, url: str, stream: BinaryIO) -> None:
        self.path, self.url, self.stream = path, url, stream
        self.total: int | None = None
        self.tag = ""

    @property
    def here(self) -> int:
        return os.fstat(self.stream.fileno()).st_size

    @property
    def about(self) -> Path:
        return _about(self.path)

    def recall(self) -> None:
        """Believe an earlier part only of the same address, with a strong tag."""
        said: Any = {}
        with contextlib.suppress(FMError):
            said = read_json(self.about)
        if isinstance(said, dict) and said.get("url") == self.url and said.get("tag"):
            self.tag = str(said["tag"])
            self.total = said.get("bytes") if isinstance(said.get("bytes"), int) else None
            if self.total is not None and self.here > self.total:
                self.begin()
        else:
            self.begin()

    def begin(self) -> None:
        """Throw away what is here."""
        self.stream.truncate(0)
        self.about.unlink(missing_ok=True)
        self.tag, self.total = "", None

    def describe(self, tag: str, total: int) -> None:
        """Note of which file the bytes are."""
        self.total = total
        if tag != self.tag:
            self.tag = tag
            write_json(self.about, {"url": self.url, "tag": tag, "bytes": total})


def _ask(session: requests.Session, wanted: Wanted, state: _Part) -> requests.Response:
    headers = {"Range": f"bytes={state.here}-", "Accept-Encoding": "identity"}
    if state.here:
        headers["If-Range"] = state.tag
    return session.get(wanted.url, headers=headers, stream=True, timeout=SECONDS)


def _look(answer: requests.Response, wanted: Wanted, state: _Part) -> None:
    """Say what an answer is of, before any of it is taken.

    Raises:
        FMError: it is no answer to go on with.
        _BusyError: it may be another time.
    """
    chain = [*answer.history, answer]
    if wanted.url.startswith("https:") and any(not a.url.startswith("https:") for a in chain):
        raise FMError(f"{wanted.url}: leads to an address without https; not followed")
    if answer.status_code == 416:  # what is here is not of the file that is there
        state.begin()
        raise _BusyError("the part did not fit the file")
    if answer.status_code in (408, 425, 429, 500, 502, 503, 504):
        raise _BusyError(f"status {answer.status_code}")
    if answer.status_code not in (200, 206):
        hint = {
            401: "; it asks for a login",
            403: "; it asks for a login",
            404: "; it has no such file",
        }.get(answer.status_code, "")
        raise FMError(
            f"{wanted.url}: the server answered {answer.status_code}{hint}; get the file otherwise "
            f"and {wanted.otherwise}"
        )
    for one in chain:
        served = one.headers.get("X-Repo-Commit", "")
        if wanted.revision and served and served != wanted.revision:
            raise FMError(
                f"{wanted.url}: refused: the server serves revision {served}, pinned is "
                f"{wanted.revision}"
            )
        named = _SHA256.fullmatch(one.headers.get("X-Linked-ETag", ""))
        if named and not named[1].startswith(wanted.sha256):
            raise FMError(
                f"{wanted.url}: refused before any of it came: the server's file has SHA-256 "
                f"{named[1]}, pinned is {_shown(wanted.sha256)}"
            )
    total = _place(answer, wanted, state)
    if total > wanted.max_bytes:
        raise FMError(
            f"{wanted.url}: {total:,} bytes, above the limit of {wanted.max_bytes:,}; raise it by "
            f"--max-bytes if you trust the file"
        )
    room = shutil.disk_usage(state.path.parent).free
    if total - state.here > room:
        raise FMError(
            f"{state.path.parent}: {total - state.here:,} bytes are to come and {room:,} are "
            f"free; make room or name another folder with --to"
        )
    tag = answer.headers.get("ETag", "")
    state.describe("" if tag.startswith("W/") else tag, total)


def _place(answer: requests.Response, wanted: Wanted, state: _Part) -> int:
    """Return the length of the whole file; a server that sends it from the start is let do so."""
    if answer.status_code == 206:
        found = _TOTAL.fullmatch(answer.headers.get("Content-Range", ""))
        other = found is not None and (
            # a server that takes no notice of If-Range sends the rest of whatever is there
            state.here and (int(found[3]), answer.headers.get("ETag")) != (state.total, state.tag)
        )
        if found is None or int(found[1]) != state.here or other:
            state.begin()
            raise _BusyError("the server sent another range than asked for")
        return int(found[3])
    state.begin()
    length = answer.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise FMError(
            f"{answer.url}: the server does not say how long the file is; get it otherwise and "
            f"{wanted.otherwise}"
        )
    return int(length)


def _receive(answer: requests.Response, state: _Part, bar: Bar | None) -> None:
    assert state.total is not None
    for piece in answer.iter_content(_PIECE):
        room = state.total - state.here
        if len(piece) > room:
            raise FMError(f"{answer.url}: more bytes than the {state.total:,} it told of; refused")
        state.stream.write(piece)
        state.stream.flush()
        if bar is not None:
            bar.advance(len(piece))


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """Open a part for appending, for one process at a time."""
    with open(part, "ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FMError(f"{part}: another process is downloading it; wait for it") from None
        try:
            yield stream
        except BaseException:
            if not (os.fstat(stream.fileno()).st_size and _about(part).exists()):
                _forget(part)  # nothing that could be gone on with
            raise


def _about(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    for path in (part, _about(part)):
        path.unlink(missing_ok=True)


def _given_up(wanted: Wanted, state: _Part, tries: int, why: str) -> str:
    url = wanted.url
    host = urlsplit(url).netloc
    if why.startswith("status"):
        return f"{url}: the server answered {why}, {tries} times in a row; try again later"
    if state.total is None and not state.here:
        return (
            f"{host} cannot be reached ({why}); offline, {wanted.otherwise} (it comes from {url})"
        )
    kept = (
        "what came is kept: run the same command again to go on"
        if state.tag
        else "the server gives no strong tag to go on by: the next try begins anew"
    )
    return (
        f"{url}: broke off at {state.here:,} of {state.total or 0:,} bytes, {tries} times in a row "
        f"({why}); {kept}"
    )


def _reason(error: Exception) -> str:
    text = str(error)
    for sign, words in (
        ("NameResolution", "its name is not known here"),
        ("refused", "connection refused"),
        ("timed out", "no answer in time"),
        ("IncompleteRead", "the connection broke off"),
        ("Connection broken", "the connection broke off"),
        ("reset", "the connection was reset"),
        ("ProxyError", "the proxy does not let it through"),
        ("certificate", "its certificate is not trusted"),
    ):
        if sign in text:
            return words
    return type(error).__name__


def _shown(sha256: str) -> str:
    return sha256 if len(sha256) == 64 else f"{sha256}..."
