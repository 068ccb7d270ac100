"""One file over HTTP from a real server that breaks off, lies and changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.flaky_server import FlakyServer, Plan
from fm.errors import FMError
from fm.pull import download as module
from fm.pull.download import Wanted, fetch, sidecar
from tests.fm.pull.hub import NEW, OLD, REPO, put

DATA = bytes(range(256)) * 800


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(module, "WAIT", 0.0)


def address(server: FlakyServer, revision: str = OLD) -> str:
    return f"{server.url}/{REPO}/resolve/{revision}/w.pth"


def no_trace(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("fault", ["drop", "truncate", "unavailable"])
def test_a_server_that_breaks_off_is_asked_for_the_rest(tmp_path: Path, fault: str) -> None:
    sha256 = put(tmp_path / "hub", DATA)
    target = tmp_path / "out" / "w.pth"
    with FlakyServer(tmp_path / "hub", Plan({fault: 1.0}, most=2)) as server:
        assert fetch(Wanted(address(server), sha256), target) == sha256
        assert server.faults[fault] >= 2
        # what had come was not sent again
        assert fault != "truncate" or server.bytes_sent <= len(DATA)
    assert target.read_bytes() == DATA
    assert [p.name for p in target.parent.iterdir()] == ["w.pth"]


def test_what_came_is_kept_and_the_next_run_goes_on(tmp_path: Path, monkeypatch) -> None:
    sha256 = put(tmp_path / "hub", DATA)
    target = tmp_path / "out" / "w.pth"
    monkeypatch.setattr(module, "TRIES", 1)
    with FlakyServer(tmp_path / "hub", Plan({"truncate": 1.0}, most=1)) as server:
        monkeypatch.setattr(module, "_receive", half(module._receive))
        with pytest.raises(FMError, match=r"broke off at 102,400 of 204,800 bytes.* to go on$"):
            fetch(Wanted(address(server), sha256), target)
        assert not target.exists()
        assert sidecar(target).stat().st_size == len(DATA) // 2
        monkeypatch.undo()
        server.plan = Plan()
        asked = ranges(monkeypatch)
        assert fetch(Wanted(address(server), sha256), target) == sha256
        assert asked == [f"bytes={len(DATA) // 2}-"]
    assert target.read_bytes() == DATA


def ranges(monkeypatch) -> list[str]:
    """Write down what is asked for: what a server sent may lie in a socket that nobody reads."""
    asked = []
    get = module.requests.Session.get

    def told(session, url, headers, **options):
        asked.append(headers["Range"])
        return get(session, url, headers=headers, **options)

    monkeypatch.setattr(module.requests.Session, "get", told)
    return asked


def half(receive):
    """Take one answer and lose the line for good."""
    seen = []

    def once(answer, state, bar):
        if seen:
            raise module.requests.ConnectionError("Connection broken")
        seen.append(1)
        receive(answer, state, bar)

    return once


def test_a_killed_process_goes_on(tmp_path: Path, monkeypatch) -> None:
    sha256 = put(tmp_path / "hub", DATA)
    target = tmp_path / "out" / "w.pth"
    with FlakyServer(tmp_path / "hub", Plan(connection=100_000)) as server:
        code = (
            "import sys; from pathlib import Path; from fm.pull.download import Wanted, fetch\n"
            "import fm.pull.download as m; m._PIECE = 4096\n"
            "fetch(Wanted(sys.argv[1], sys.argv[2]), Path(sys.argv[3]))"
        )
        words = [sys.executable, "-c", code, address(server), sha256, str(target)]
        process = subprocess.Popen(words, cwd=Path(__file__).parents[3], env={**os.environ})
        while not sidecar(target).exists() or sidecar(target).stat().st_size < 50_000:
            assert process.poll() is None
        process.kill()
        process.wait()
        came = sidecar(target).stat().st_size
        assert 0 < came < len(DATA)
        assert not target.exists()
        server.plan = Plan()
        asked = ranges(monkeypatch)
        assert fetch(Wanted(address(server), sha256), target) == sha256
        assert asked == [f"bytes={came}-"]
    assert target.read_bytes() == DATA


def test_a_file_that_changed_is_begun_anew(tmp_path: Path) -> None:
    put(tmp_path / "hub", DATA)
    target = tmp_path / "out" / "w.pth"
    target.parent.mkdir()
    with FlakyServer(tmp_path / "hub") as server:
        sidecar(target).write_bytes(b"x" * 1000)
        about = f'{{"url": "{address(server)}", "tag": "\\"old\\"", "bytes": 204800}}'
        sidecar(target).with_name(".w.pth.part.json").write_text(about)
        fetch(Wanted(address(server)), target)
    assert target.read_bytes() == DATA


def test_a_rest_of_another_file_is_not_joined(tmp_path: Path, monkeypatch) -> None:
    """A proxy may take no notice of `If-Range` and send the rest of the file that is there now."""
    put(tmp_path / "hub", DATA)
    target = tmp_path / "out" / "w.pth"
    target.parent.mkdir()
    get = module.requests.Session.get

    def unconditional(session, url, headers, **options):
        return get(
            session, url, headers={k: headers[k] for k in headers if k != "If-Range"}, **options
        )

    monkeypatch.setattr(module.requests.Session, "get", unconditional)
    with FlakyServer(tmp_path / "hub") as server:
        sidecar(target).write_bytes(b"x" * 1000)
        about = f'{{"url": "{address(server)}", "tag": "\\"old\\"", "bytes": {len(DATA)}}}'
        sidecar(target).with_name(".w.pth.part.json").write_text(about)
        fetch(Wanted(address(server)), target)
    assert target.read_bytes() == DATA


def test_a_part_of_another_address_is_not_gone_on_with(tmp_path: Path) -> None:
    put(tmp_path / "hub", DATA)
    sha256 = put(tmp_path / "hub", DATA[::-1], revision=NEW)
    target = tmp_path / "out" / "w.pth"
    target.parent.mkdir()
    with FlakyServer(tmp_path / "hub") as server:
        tag = module.requests.head(address(server, NEW)).headers["ETag"].replace('"', '\\"')
        sidecar(target).write_bytes(DATA[:1000])
        about = f'{{"url": "{address(server)}", "tag": "{tag}", "bytes": 204800}}'
        sidecar(target).with_name(".w.pth.part.json").write_text(about)
        assert fetch(Wanted(address(server, NEW), sha256), target) == sha256
    assert target.read_bytes() == DATA[::-1]


@pytest.mark.parametrize("digits", [64, 8])
def test_wrong_bytes_are_refused_and_leave_nothing(tmp_path: Path, digits: int) -> None:
    sha256 = put(tmp_path / "hub", DATA)
    target = tmp_path / "out" / "w.pth"
    said = f"refused: SHA-256 is [0-9a-f]{{64}}, pinned is {sha256[:digits]}"
    plan = Plan({"corrupt": 1.0})
    with FlakyServer(tmp_path / "hub", plan) as server, pytest.raises(FMError, match=said):
        fetch(Wanted(address(server), sha256[:digits]), target)
    assert no_trace(target.parent)


def test_another_revision_is_refused(tmp_path: Path) -> None:
    sha256 = put(tmp_path / "hub", DATA)
    target = tmp_path / "out" / "w.pth"
    with FlakyServer(tmp_path / "hub") as server:
        server.headers["X-Repo-Commit"] = NEW
        with pytest.raises(FMError, match=f"refused: the server serves revision {NEW}, pinned is"):
            fetch(Wanted(address(server), sha256, OLD), target)
        server.headers = {"X-Linked-ETag": f'"{"0" * 64}"', "X-Repo-Commit": OLD}
        with pytest.raises(FMError, match="refused before any of it came"):
            fetch(Wanted(address(server), sha256, OLD), target)
    assert not target.parent.exists()


def test_limits_and_answers_in_words(tmp_path: Path, monkeypatch) -> None:
    sha256 = put(tmp_path / "hub", DATA)
    target = tmp_path / "out" / "w.pth"
    with FlakyServer(tmp_path / "hub") as server:
        for wanted, said in (
            (Wanted(address(server), sha256, max_bytes=1000), "204,800 bytes, above the limit of"),
            (Wanted(address(server, NEW), sha256), "answered 404; it has no such file"),
        ):
            with pytest.raises(FMError, match=said) as caught:
                fetch(wanted, target)
            assert "\n" not in str(caught.value)
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("D", (), {"free": 10})())
        with pytest.raises(FMError, match="204,800 bytes are to come and 10 are free"):
            fetch(Wanted(address(server), sha256), target)
        monkeypatch.undo()
        server.status = 503
        monkeypatch.setattr(module, "WAIT", 0.0)
        with pytest.raises(FMError, match="answered status 503, 5 times in a row"):
            fetch(Wanted(address(server), sha256), target)
        gone = address(server)
    with pytest.raises(FMError, match=r"cannot be reached \(connection refused\); offline, give"):
        fetch(Wanted(gone, sha256), target)
    assert not target.parent.exists()


def test_nothing_stays_that_cannot_be_gone_on_with(tmp_path: Path, monkeypatch) -> None:
    """Defect: a try that never reached the server left an empty part and its folders."""
    target, mine = tmp_path / "far" / "out" / "w.pth", tmp_path / "mine"
    mine.mkdir()
    for path in (target, mine / "w.pth"):
        with pytest.raises(FMError, match="cannot be reached"):
            fetch(Wanted("http://127.0.0.1:9/w.pth"), path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert no_trace(mine)
    put(tmp_path / "hub", DATA)
    monkeypatch.setattr(module, "TRIES", 1)
    monkeypatch.setattr(module, "_receive", half(module._receive))
    ask = module._ask

    def weak(*given):
        answer = ask(*given)
        answer.headers["ETag"] = 'W/"x"'  # does not tell whether the bytes are the same
        return answer

    monkeypatch.setattr(module, "_ask", weak)
    said = "broke off at .* of 204,800 bytes.* no strong tag to go on by: the next try begins anew"
    plan = Plan({"truncate": 1.0}, most=1)
    with FlakyServer(tmp_path / "hub", plan) as server, pytest.raises(FMError, match=said):
        fetch(Wanted(address(server)), target)
    assert not target.parent.parent.exists()


def test_two_at_once_do_not_write_one_file(tmp_path: Path) -> None:
    target = tmp_path / "w.pth"
    with module._alone(sidecar(target)), pytest.raises(FMError, match="another process is"):
        fetch(Wanted("http://127.0.0.1:9/w.pth"), target)
