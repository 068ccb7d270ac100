"""The page of a run: whole, alone, the same bytes, for runs in every state; errors in a line."""

import itertools
import json
import re
import shutil
from argparse import ArgumentParser
from html.parser import HTMLParser
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fm import cli
from fm.errors import FMError, UsageError
from pretrain.report.read import read
from pretrain.report.verb import command
from tests.pretrain.report_run import STEPS, write_export, write_pictures, write_run


def report(*words: str) -> int | None:
    parser = ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args(list(words)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_dataset):
    folder = write_run(tmp_path_factory.mktemp("report") / "run", tiny_dataset)
    write_pictures(folder)
    write_export(folder)
    assert report(str(folder)) == 0
    return folder


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def tags(folder):
    parser = _Tags()
    parser.feed((folder / "report.html").read_text())
    return parser.tags


def test_a_finished_run_has_every_section(finished):
    text = (finished / "report.html").read_text()
    ids = {found["id"] for _, found in tags(finished) if "id" in found}
    sections = {"curves", "pictures", "features", "speed", "timeline", "values", "config"}
    assert sections | {"environment"} <= ids
    for words in (
        "120 of 120 steps, 960 samples, 1 min 15 s of training",
        "true colour: B04 B03 B02",
        "SWIR composite: B12 B8A B05",
        "s2l1c: hidden pixels, mean by wavelength",
        "Online probes: accuracy",
        "Loss of s2l1c by band",
        "went on after step 60",
        "step 70 was not taken",
        "The gradient norm reached 30 at step 90, 30 times its median",
        "Waiting for data took 25.0 % of the time",
        "Differs from the recipe mae_s2_tiny",
        "data.batch_size",
        "with changes that were not committed",
        "first three principal components",
    ):
        assert words in re.sub("<wbr>", "", text), words
    assert len(text) < 5_000_000


def test_nothing_is_loaded_from_outside_and_text_stays_text(finished):
    text = (finished / "report.html").read_text()
    assert "<script>alert(1)" not in text
    for tag, found in tags(finished):
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert found.get(name, "#").startswith(("#", "data:image/png;base64,")), (tag, found)
        assert tag not in ("link", "iframe", "object")
        assert "style" not in found  # the policy would refuse it


def test_no_heading_is_left_out_above_another(finished):
    """Who reads by headings goes down one level at a time."""
    levels = [int(tag[1]) for tag, _ in tags(finished) if tag in ("h1", "h2", "h3", "h4", "h5")]
    assert levels[0] == 1
    assert {2, 3} < set(levels)
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))


def test_the_same_run_gives_the_same_bytes(finished, tmp_path):
    copy = tmp_path / "elsewhere" / "copied"
    shutil.copytree(finished, copy)
    before = (finished / "report.html").read_bytes()
    assert report(str(copy), "--out", str(tmp_path / "again.html")) == 0
    assert (tmp_path / "again.html").read_bytes() == before


def test_pictures_and_charts_say_what_they_are(finished):
    found = tags(finished)
    pictures = [a for tag, a in found if tag == "img"]
    assert len(pictures) > 20
    assert all("alt" in a for a in pictures)
    charts = [a for tag, a in found if a.get("role") == "slider"]
    assert len(charts) > 8
    assert all(a["aria-label"] and a["aria-valuetext"] and a["tabindex"] == "0" for a in charts)
    loss = next(a for a in charts if a["aria-label"].startswith("Loss:"))
    (line,) = json.loads(loss["data-lines"])
    assert line["x"] == list(range(1, STEPS + 1))
    assert line["y"][0] == 2.0


def test_a_run_that_goes_on_or_was_stopped(tmp_path, tiny_dataset):
    for status, words in (("running", "state.json says running"), ("requeue", "was stopped")):
        folder = write_run(tmp_path / status, tiny_dataset, status=status, done=40)
        with open(folder / "metrics.jsonl", "a") as stream:
            stream.write('{"step": 41, "lo')  # a line that is being written
        assert report(str(folder)) == 0
        text = (folder / "report.html").read_text()
        assert "40 of 120 steps" in text
        assert "about 40 s to go" in text
        assert words in text
        assert "There is no export yet" in text
        assert "The run stored none" in text


@pytest.mark.parametrize("status", ["requeue", "stalled", "failed"])
def test_why_a_run_ended_early_is_told_as_text(status, tmp_path, tiny_dataset):
    folder = write_run(tmp_path / "run", tiny_dataset, status=status, done=40)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "reason": "no <b>loss</b>"}))
    assert report(str(folder)) == 0
    text = (folder / "report.html").read_text()
    assert "no &lt;b&gt;loss&lt;/b&gt;" in text
    assert ("The run failed" if status == "failed" else "was stopped before its end") in text


def test_a_run_before_its_first_line(tmp_path, tiny_dataset):
    folder = write_run(tmp_path / "run", tiny_dataset, status="running", done=1)
    for name in ("metrics", "probes", "bands", "skipped", "sessions"):
        (folder / f"{name}.jsonl").unlink()
    (folder / "env.json").unlink()
    assert report(str(folder)) == 0
    assert "No step has been logged yet" in (folder / "report.html").read_text()


def test_data_that_is_gone_is_told_in_a_line(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(re.sub(r"path: .*", "path: gone/for/good", config))
    assert report(str(copy)) == 0
    assert "No feature maps: " in (copy / "report.html").read_text()
    assert "gone/for/good" in (copy / "report.html").read_text()


def test_a_mixture_has_a_curve_a_part(tmp_path, tiny_dataset):
    folder = write_run(tmp_path / "run", tiny_dataset)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row["part"] = "one" if row["step"] % 2 else "two"
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = read(folder)
    assert record.parts == ["one", "two"]
    assert record.named("loss")["two"].steps.tolist() == list(range(2, STEPS + 1, 2))
    whole = record.whole("loss")
    assert whole is not None
    assert whole.steps.tolist() == list(range(1, STEPS + 1))


def test_what_is_no_run_is_refused_in_one_line(tmp_path, tiny_dataset, finished):
    with pytest.raises(UsageError, match="no such folder; give a run folder"):
        report(str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match=r"not a run folder.*give the out="):
        report(str(tiny_dataset))
    with pytest.raises(UsageError, match="its run is the folder above"):
        report(str(finished / "export"))
    assert not (finished / "export" / "report.html").exists()
    with pytest.raises(UsageError, match="is a folder; name a file"):
        report(str(finished), "--out", str(tmp_path))
    with pytest.raises(UsageError, match="give 0 to 16"):
        report(str(finished), "--samples", "99")


def test_the_command_line(finished, tmp_path, monkeypatch, capsys):
    found = {"report": EntryPoint("report", "pretrain.report.verb:command", cli.GROUP)}
    monkeypatch.setattr(cli, "_verbs", lambda: found)
    out = tmp_path / "page.html"
    assert cli.main(["report", str(finished), "--out", str(out), "--samples", "0"]) == 0
    assert out.is_file()
    capsys.readouterr()
    assert cli.main(["report", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fm report: {tmp_path}: not a run folder")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("state.json", "[]", "not the state of a run"),
        ("metrics.jsonl", '{"step": 1}\nnonsense\n{"step": 2}\n', "line 2 is damaged"),
        ("metrics.jsonl", '{"loss": 1}\n', "a line without a step"),
        ("pictures/panels.npz", "nonsense", "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, tiny_dataset, name, content, says):
    folder = write_run(tmp_path / "run", tiny_dataset)
    path: Path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(FMError, match=says) as caught:
        report(str(folder))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.html").exists()
