"""A headless Chromium driven over a pipe (Chrome DevTools Protocol), without another package."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
"""Of tests that need one."""
_KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Space": 32,
    "End": 35,
    "Home": 36,
    "ArrowRight": 39,
    "ArrowDown": 40,
}
_TEXT = {"Enter": "\r", "Space": " "}


class Browser:
    """One page; `requests` are the addresses it asked for, `errors` what it complained of."""

    def __init__(self, profile: Path):
        down, up = os.pipe(), os.pipe()
        self._out, self._in = os.fdopen(down[1], "wb"), os.fdopen(up[0], "rb", buffering=0)
        words = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"),
            *("--disable-background-networking", "--disable-dev-shm-usage", "about:blank"),
        ]
        # the protocol is spoken on descriptors 3 and 4, which a shell can set
        script = f'exec "$0" "$@" 3<&{down[0]} 4>&{up[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, CHROMIUM, *words],
            pass_fds=(down[0], up[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down[0])
        os.close(up[1])
        self._number, self._session, self._rest = 0, None, b""
        self.requests, self.errors, self._loaded = [], [], False
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def close(self):
        self._session = None
        self.send("Browser.close")
        self._process.wait(20)
        self._out.close()
        self._in.close()

    def send(self, method, **params):
        """Give a command and wait for its answer."""
        self._number += 1
        number, message = self._number, {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            got = self._read()
            if got.get("id") == number:
                assert "error" not in got, f"{method}: {got['error']}"
                return got["result"]

    def _read(self):
        while b"\0" not in self._rest:
            part = os.read(self._in.fileno(), 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        got = json.loads(line)
        params = got.get("params", {})
        match got.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(params["exceptionDetails"]["text"])
            case "Runtime.consoleAPICalled":
                self.errors.append(str(params["args"]))
            case "Log.entryAdded":
                self.errors.append(params["entry"]["text"])
            case "Page.loadEventFired":
                self._loaded = True
        return got

    def open(self, path: Path, fragment=""):
        """Open a page of a site and wait until it has loaded."""
        self._loaded = False
        self.send("Page.navigate", url="about:blank")
        self._wait_loaded()
        self._loaded = False
        self.send("Page.navigate", url=path.as_uri() + fragment)
        self._wait_loaded()

    def _wait_loaded(self):
        end = time.monotonic() + 30
        while not self._loaded:
            assert time.monotonic() < end, "the page did not load"
            self.run("1")

    def wait(self, expression):
        """Wait until an expression is true."""
        end = time.monotonic() + 30
        while not self.run(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.02)

    def run(self, expression):
        """The value of a JavaScript expression."""
        got = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def press(self, key, count=1):
        """Press a key, as a person would."""
        for _ in range(count):
            what = {"key": key if key != "Space" else " ", "code": key}
            what["windowsVirtualKeyCode"] = _KEYS.get(key, ord(key[0].upper()))
            text = _TEXT.get(key, key if len(key) == 1 else "")
            more = {"text": text} if text else {}
            self.send("Input.dispatchKeyEvent", type="keyDown", **what, **more)
            self.send("Input.dispatchKeyEvent", type="keyUp", **what)

    def size(self, width, height=900, *, dark=False):
        """Take the size of a screen, and its colours."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path, *, whole=True):
        """Save a PNG of the page."""
        got = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(got["data"]))


@contextlib.contextmanager
def alone(browser: Browser, *pages: str) -> Iterator[Browser]:
    """Begin anew in a wide window; at the end nothing was complained of or asked for elsewhere.

    Args:
        browser: that several tests share.
        pages: with what addresses that may be asked for begin.
    """
    browser.requests.clear()
    browser.errors.clear()
    browser.size(1280)
    yield browser
    browser.run("1")  # what the page still had to say has come by now
    assert browser.errors == []
    own = ("about:blank", *pages)
    assert [url for url in browser.requests if not url.startswith(own)] == []
