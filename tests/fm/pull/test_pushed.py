"""`fm models pull OWNER/NAME`: a pushed checkpoint comes back whole, or not at all."""

import json
import os
from pathlib import Path

import pytest
import torch

import fm
from bench.flaky_server import FlakyServer, Plan
from fm import checkpoint
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.export.push import push
from fm.hub import is_repository
from fm.pull import download
from fm.pull.released import pull
from tests.fm.export.models import vit
from tests.fm.pull.hub import NEW, OLD, REPO, main_is, put

FILES = (checkpoint.CARD, checkpoint.README, checkpoint.WEIGHTS)


@pytest.fixture
def pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint that lies on a hub, in `tmp_path/hub`, as `push` puts it there."""
    monkeypatch.setattr(download, "WAIT", 0.0)
    own = tmp_path / "own"
    checkpoint.save(own, vit())
    (own / "notes.txt").write_text("beside it")
    sent = push(own, REPO, dry=True)
    assert set(sent.files) == {*FILES, "notes.txt"}
    for name in sent.files:
        data = sent.readme.encode() if name == checkpoint.README else (own / name).read_bytes()
        put(tmp_path / "hub", data, name=name)
    main_is(tmp_path / "hub", OLD)
    return own


def served(pushed: Path, name: str) -> Path:
    return pushed.parent / "hub" / REPO / "resolve" / OLD / name


def serve(pushed: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan | None = None) -> FlakyServer:
    server = FlakyServer(pushed.parent / "hub", plan)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    return server


def test_it_is_the_folder_that_was_pushed(pushed: Path, monkeypatch, capsys) -> None:
    to = pushed.parent / "mine"
    with serve(pushed, monkeypatch, Plan({"drop": 1.0}, most=1)) as server:
        assert main(["models", "pull", REPO, "--revision", OLD, "--to", str(to)]) == 0
        assert server.faults["drop"] > 1
    assert sorted(path.name for path in to.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (to / name).read_bytes() == served(pushed, name).read_bytes()
    digest = checkpoint.read_card(pushed).weights_sha256
    assert f"{REPO}: {REPO}@{OLD}, sha256 {digest}; licence unknown" in capsys.readouterr().out
    x = {"s2l2a_10": torch.rand(1, 3, 16, 16)}
    assert torch.equal(fm.load(to).encode(x).pooled, fm.load(pushed).encode(x).pooled)
    assert not (pushed.parent / ".mine.pull").exists()
    with serve(pushed, monkeypatch):
        words = ["models", "pull", REPO, "--revision", OLD, "--to", str(to)]
        assert main(words) == 1
        assert "exists already" in capsys.readouterr().err
        assert main([*words, "--overwrite", "--json", "--sha256", digest.upper()]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["sha256"], told["report"]) == (REPO, digest, None)


def test_the_commit_is_what_is_pinned(pushed: Path, monkeypatch, capsys) -> None:
    to = pushed.parent / "mine"
    with serve(pushed, monkeypatch) as server:
        with pytest.raises(UsageError, match="is unpinned: give --revision"):
            pull(REPO, to)
        with pytest.raises(UsageError, match="'main' is no commit"):
            pull(REPO, to, revision="main")
        with pytest.raises(UsageError, match="taken as it is; leave out file, heads"):
            pull(REPO, to, revision=OLD, file=pushed / "card.json", heads=3)
        assert not server.requests
        with pytest.raises(FMError, match=r"answered 404.*bring the folder over by hand"):
            pull(REPO, to, revision=NEW)
        with pytest.raises(FMError, match="refused: the card says weights of SHA-256"):
            pull(REPO, to, revision=OLD, sha256="0" * 64)
        # card and page come anew each time: there is nothing to go on with
        assert sorted(path.name for path in to.parent.iterdir()) == ["hub", "own"]
        done = pull(REPO, to, accept_unpinned=True)
        assert done.parent.startswith(f"{REPO}@{OLD}, sha256 ")
        assert f"unpinned; revision {OLD} is the newest now" in capsys.readouterr().err
        server.headers["X-Repo-Commit"] = NEW
        with pytest.raises(FMError, match="refused: the server serves revision"):
            pull(REPO, pushed.parent / "other", revision=OLD)
    with pytest.raises(FMError, match=f"no such checkpoint folder; .* pull {REPO} brings"):
        fm.load(REPO)
    assert main(["models", "pull", REPO, "--heads", "3", "--from", "x"]) == 2
    assert "whole checkpoint, taken as it is; leave out --" in capsys.readouterr().err


def test_weights_that_are_not_the_card_s_are_refused(pushed: Path, monkeypatch) -> None:
    hub, to = pushed.parent / "hub", pushed.parent / "mine"
    put(hub, b"x" * (pushed / checkpoint.WEIGHTS).stat().st_size, name=checkpoint.WEIGHTS)
    with serve(pushed, monkeypatch):
        with pytest.raises(FMError, match="refused: SHA-256 is"):
            pull(REPO, to, revision=OLD)
        card = json.loads((pushed / checkpoint.CARD).read_text())
        card["architecture"]["depth"] = 3
        put(hub, json.dumps(card).encode(), name=checkpoint.CARD)
        put(hub, (pushed / checkpoint.WEIGHTS).read_bytes(), name=checkpoint.WEIGHTS)
        with pytest.raises(FMError, match="the weights do not fit the model: 12 missing"):
            pull(REPO, to, revision=OLD)
        for wrong in ({"depth": 1}, {"name": 3}, {"name": "vit_nano", "token_groups": 3}):
            put(hub, json.dumps(card | {"architecture": wrong}).encode(), name=checkpoint.CARD)
            with pytest.raises(FMError, match=r"card\.json: .*; it is damaged"):
                pull(REPO, to, revision=OLD)
        put(hub, b"[]", name=checkpoint.CARD)
        with pytest.raises(FMError, match="not the card of an eofm checkpoint"):
            pull(REPO, to, revision=OLD)
    assert not to.exists()


def test_what_came_whole_is_not_fetched_again(pushed: Path, monkeypatch) -> None:
    to = pushed.parent / "mine"
    weights = (pushed / checkpoint.WEIGHTS).read_bytes()
    (pushed.parent / ".mine.pull").mkdir()
    (pushed.parent / ".mine.pull" / checkpoint.WEIGHTS).write_bytes(weights)
    with serve(pushed, monkeypatch) as server:
        pull(REPO, to, revision=OLD)
        assert server.bytes_sent < len(weights)
    assert (to / checkpoint.WEIGHTS).read_bytes() == weights


def test_a_target_that_may_not_be_replaced_is_told_before_anything_comes(
    pushed: Path, monkeypatch
) -> None:
    (pushed.parent / "yours").mkdir()
    (pushed.parent / "yours" / "thesis.tex").write_text("x")
    (pushed.parent / "link").symlink_to(pushed)
    with serve(pushed, monkeypatch) as server:
        for name, words in (("yours", "holds no card.json"), ("link", "is a link")):
            with pytest.raises(FMError, match=words):
                pull(REPO, pushed.parent / name, revision=OLD, overwrite=True)
        assert not server.requests


def test_an_error_at_the_end_loses_nothing(pushed: Path, monkeypatch) -> None:
    """Defect: what had come was moved into the folder that was given up."""
    to, replace = pushed.parent / "mine", os.replace

    def full(source, target) -> None:
        if Path(target) == to:
            raise OSError(28, "No space left on device")
        replace(source, target)

    weights = (pushed / checkpoint.WEIGHTS).stat().st_size
    with serve(pushed, monkeypatch) as server:
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            pull(REPO, to, revision=OLD)
        monkeypatch.setattr(os, "replace", replace)
        assert not to.exists()
        before = server.bytes_sent
        pull(REPO, to, revision=OLD)
        assert server.bytes_sent - before < weights
    assert (to / checkpoint.WEIGHTS).read_bytes() == (pushed / checkpoint.WEIGHTS).read_bytes()


@pytest.mark.parametrize("name", ["./mine", "../mine", ".hidden/x", "a/b/c", "a/.b", "-a/b", "é/b"])
def test_what_is_no_repository_is_not_asked_for(name: str) -> None:
    assert is_repository(REPO)
    assert not is_repository(name)
    with pytest.raises(UsageError):
        pull(name, "mine", revision=OLD)
