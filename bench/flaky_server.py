"""A slow and unreliable HTTP server of a folder, on this machine alone.

It knows `Range`, limits its bandwidth, answers late, and does harm by a seeded plan: whether and
how a request is harmed depends on the seed, the path, the range and how often that range was asked
for, so that threads that come in another order meet the same faults.
"""

import hashlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

FAULTS = ("drop", "truncate", "unavailable", "stall", "corrupt")
"""Connection reset in mid-body; a body shorter than asked for, said to be whole; status 503; no
bytes for `stall` seconds after half of the body; one byte changed."""
_PIECE = 1 << 16
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Plan:
    """How bad the server is.

    Attributes:
        rates: share of the requests of each fault, 0 to 1 together.
        seed: of the plan.
        most: a range is harmed at most so often in a row; after that it is served well.
        bandwidth: bytes a second over all connections; None has no limit.
        connection: bytes a second of one connection; None has no limit.
        latency: seconds before the first byte of an answer.
        stall: seconds without a byte in a stalled answer.
    """

    rates: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    most: int = 3
    bandwidth: float | None = None
    connection: float | None = None
    latency: float = 0.0
    stall: float = 5.0

    def __post_init__(self) -> None:
        if unknown := set(self.rates) - set(FAULTS):
            raise ValueError(f"unknown faults {sorted(unknown)}; valid: {FAULTS}")
        if not 0 <= sum(self.rates.values()) <= 1:
            raise ValueError(f"rates {dict(self.rates)} must add up to at most 1")

    def fault(self, path: str, span: str, attempt: int) -> str | None:
        """Return what happens to the `attempt`-th request of a range, counted from 0."""
        if attempt >= self.most:
            return None
        text = f"{self.seed}/{path}/{span}/{attempt}"
        draw = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
        for name, rate in self.rates.items():
            if draw < rate:
                return name
            draw -= rate
        return None


class _Throttle:
    """A rate that callers share: each piece waits until those before it would have gone."""

    def __init__(self, rate: float | None) -> None:
        self._rate, self._free, self._lock = rate, 0.0, threading.Lock()

    def wait(self, count: int) -> None:
        if self._rate is None:
            return
        with self._lock:
            self._free = max(self._free, time.monotonic()) + count / self._rate
            until = self._free
        time.sleep(max(0.0, until - time.monotonic()))


class FlakyServer:
    """Serves a folder while the `with` block lasts.

    Args:
        folder: with the files.
        plan: of the harm.

    Attributes:
        url: of the folder.
        requests: number by method.
        faults: number by kind of what was done.
        bytes_sent: of bodies.
        status: every request gets this error status instead while it is not None.
        headers: sent with every answer besides.
        goes: requests that came are answered while it is set.
    """

    def __init__(self, folder: Path, plan: Plan | None = None) -> None:
        self.folder, self.plan = Path(folder).resolve(), plan or Plan()
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.bytes_sent = 0
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self.throttle = _Throttle(self.plan.bandwidth)
        self.stopped, self.goes = threading.Event(), threading.Event()
        self.goes.set()
        handler = type("Handler", (_Handler,), {"flaky": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "FlakyServer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stopped.set()
        self.goes.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def again(self, seed: int) -> None:
        """Forget what was asked for, and do harm by another seed from now on."""
        with self._lock:
            self.plan = replace(self.plan, seed=seed)
            self._attempts.clear()

    def next_fault(self, path: str, span: str) -> str | None:
        """Decide on one request for bytes, and count it."""
        with self._lock:
            fault = self.plan.fault(path, span, self._attempts[path, span])
            self._attempts[path, span] += 1
            if fault:
                self.faults[fault] += 1
        return fault

    def count(self, method: str) -> None:
        """Count a request."""
        with self._lock:
            self.requests[method] += 1

    def sent(self, count: int) -> None:
        """Count bytes of a body."""
        with self._lock:
            self.bytes_sent += count


def serve(folder: Path, plan: Plan, pipe: Connection) -> None:
    """Serve a folder in a process of its own, so that it takes no time from its clients.

    Args:
        folder: with the files.
        plan: of the harm.
        pipe: gives the URL first; then each seed that comes starts the plan over and is answered
            with the counts of faults so far, and None ends the server.
    """
    with FlakyServer(folder, plan) as server:
        pipe.send(server.url)
        while (seed := pipe.recv()) is not None:
            server.again(seed)
            pipe.send(dict(server.faults))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        """Say nothing: clients that give up are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    flaky: FlakyServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the terminal free."""

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _answer(self, *, body: bool) -> None:
        flaky = self.flaky
        flaky.count(self.command)
        flaky.stopped.wait(flaky.plan.latency)
        flaky.goes.wait()
        path = unquote(urlsplit(self.path).path).lstrip("/")
        file = (flaky.folder / path).resolve()
        if flaky.status is not None:
            return self._refuse(flaky.status)
        if not file.is_relative_to(flaky.folder) or not file.is_file():
            return self._refuse(404)
        stat = file.stat()
        tag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        start, end, span = 0, stat.st_size, self.headers.get("Range", "")
        if self.headers.get("If-Range", tag) != tag:
            span = ""  # another file than the one that was begun
        if span:
            found = _RANGE.fullmatch(span)
            if found is None or int(found[1]) >= stat.st_size:
                return self._refuse(416)
            start = int(found[1])
            end = min(end, int(found[2]) + 1) if found[2] else end
        fault = flaky.next_fault(path, span) if body else None
        if fault == "unavailable":
            return self._refuse(503)
        with open(file, "rb") as stream:
            stream.seek(start)
            data = bytearray(stream.read(end - start)) if body else bytearray()
        if fault == "truncate":
            del data[len(data) // 2 :]
        elif fault == "corrupt" and data:
            data[len(data) // 3] ^= 0x40
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{stat.st_size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", tag)
        for name, value in flaky.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if body else end - start))
        self.end_headers()
        self._send(data, fault)
        return None

    def _send(self, data: bytearray, fault: str | None) -> None:
        own, half = _Throttle(self.flaky.plan.connection), len(data) // 2
        for at in range(0, len(data), _PIECE):
            piece = data[at : at + _PIECE]
            if at + len(piece) > half and fault in ("drop", "stall"):
                self.wfile.write(piece[: half - at])
                if fault == "drop":
                    # reset, so that the client sees the loss at once
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                piece, fault = piece[half - at :], None
                self.flaky.stopped.wait(self.flaky.plan.stall)
            own.wait(len(piece))
            self.flaky.throttle.wait(len(piece))
            self.flaky.sent(len(piece))  # before: a client that has a byte finds it counted
            self.wfile.write(piece)
