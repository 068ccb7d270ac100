"""A text tower from a hub: a commit's files come once, into a folder that says where from."""

import shutil
from pathlib import Path

import pytest
import torch

from bench.flaky_server import FlakyServer, Plan
from fm.errors import FMError, UsageError
from fm.pull import download
from pretrain.objectives.contrast.closp.released import FILES, RECORD
from pretrain.objectives.contrast.closp.tower import TextConfig, text_tower
from tests.fm.pull.hub import NEW, OLD, REPO, put
from tests.pretrain.test_text_tower import folder

ADDRESS = f"{REPO}@{OLD}"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub with a tiny BERT at one commit."""
    monkeypatch.setattr(download, "WAIT", 0.0)
    made = folder(tmp_path / "made")
    (made / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    for name in FILES:
        put(tmp_path / "hub", (made / name).read_bytes(), revision=OLD, name=name)
    return tmp_path / "hub"


def config(path: Path, hub: str | None = ADDRESS) -> TextConfig:
    return TextConfig(folder=str(path), hub=hub)


def test_it_comes_once_and_is_that_of_a_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FlakyServer(root, Plan({"drop": 1.0}, most=1)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        found = text_tower(config(tmp_path / "there"))
        assert server.faults["drop"]
    wanted = text_tower(config(tmp_path / "made", None)).state_dict()
    assert found.state_dict().keys() == wanted.keys()
    assert all(torch.equal(value, wanted[name]) for name, value in found.state_dict().items())
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == sorted([*FILES, RECORD])
    text_tower(config(tmp_path / "there"))  # the server is gone: nothing is asked for again
    (tmp_path / "there" / FILES[0]).unlink()
    with FlakyServer(root) as server:  # what was broken off goes on
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        text_tower(config(tmp_path / "there"))


def test_a_plan_fetches_no_weights(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FlakyServer(root) as server, torch.device("meta"):
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        text_tower(config(tmp_path / "there"))
    assert not (tmp_path / "there" / "model.safetensors").exists()


def test_a_hub_need_not_say_the_case(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a folder need not; it is asked once, and the other files are needed."""
    (place,) = root.rglob("tokenizer_config.json")
    place.unlink()
    with FlakyServer(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        found = text_tower(config(tmp_path / "there"))
    wanted = text_tower(config(tmp_path / "made", None))
    assert all(map(torch.equal, found.numbers(["A Lake"]), wanted.numbers(["A Lake"])))
    there = sorted(path.name for path in (tmp_path / "there").iterdir())
    assert there == sorted({*FILES, RECORD} - {"tokenizer_config.json"})
    text_tower(config(tmp_path / "there"))  # the server is gone
    next(root.rglob("vocab.txt")).unlink()
    with FlakyServer(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        words = r"hub: .*404; .*and put it into \S*new and leave objective\.text\.hub out$"
        with pytest.raises(FMError, match=words):
            text_tower(config(tmp_path / "new"))


def test_what_is_not_that_commit_is_refused_in_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: files of another commit, or of nobody knows where, are taken for those asked for."""
    with FlakyServer(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        text_tower(config(tmp_path / "there"))
        with pytest.raises(UsageError, match=f"holds files of {REPO}@a+, not of {REPO}@b+;"):
            text_tower(config(tmp_path / "there", f"{REPO}@{NEW}"))
        with pytest.raises(UsageError, match=r"holds a config\.json that did not come from a hub"):
            text_tower(config(tmp_path / "made"))
        with pytest.raises(FMError, match=r"objective\.text\.hub: http.*404"):
            text_tower(config(tmp_path / "other", f"{REPO}@{NEW}"))
        shutil.rmtree(root)
        server.headers["X-Repo-Commit"] = NEW
        put(root, b"{}", revision=OLD, name="config.json")
        with pytest.raises(FMError, match="refused: the server serves revision"):
            text_tower(config(tmp_path / "third"))
    for address in (REPO, f"{REPO}@main", f"{REPO}@{OLD[:12]}"):
        with pytest.raises(ValueError, match="give OWNER/NAME@COMMIT, with all 40 digits"):
            config(tmp_path / "there", address)
    with pytest.raises(ValueError, match="hub: name the folder"):
        TextConfig(hub=ADDRESS)
