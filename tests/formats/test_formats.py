"""What earlier commits wrote opens, verifies, streams, goes on and gives the numbers it gave then.

`README.md` beside this says which commit wrote what; datasets of format 1 are in `tests/shards`.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import fm
import pretrain
import shards
from fm import location
from fm.cli import main
from fm.errors import FMError
from fm.version import WRITER
from probes.embed import parquet
from probes.result import Result
from tests.formats.write import BANDS, FORMAT1, words

HERE = Path(__file__).parent
FIRST, SECOND, PLACE, LAST = (HERE / name for name in ("b3758db", "43fb12c", "8805886", "1d4a8c3"))


def expected(folder: Path, part: str) -> dict[str, Any]:
    return json.loads((folder / "expected.json").read_text())[part]


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.mark.parametrize(("commit", "version"), [(SECOND, 2), (LAST, 3)])
def test_datasets_open_verify_and_stream(commit: Path, version: int) -> None:
    want = expected(commit, "dataset")
    ds = shards.open(commit / "dataset")
    assert ds.info.format_version == version
    assert ds.manifest_hash == want["manifest_hash"]  # runs recorded it
    assert shards.verify(commit / "dataset").ok
    assert list(want["sums"]) == list(ds.keys)
    (batch,) = ds.loader(4, shuffle=False, pad=True)
    sums = batch.pixels["s2l1c_10"].to(torch.int64).flatten(1).sum(1).tolist()
    assert dict(zip(batch.keys, sums, strict=True)) == want["sums"]
    valid = batch.valid("s2l1c_10")[1]
    assert not valid[..., :3, :].any()
    assert valid[..., 3:, :].all()
    assert ds.modalities["s2l1c_10"].bands == BANDS
    assert len(shards.open(commit / "dataset", where="split == 'val'")) == 2
    sample = ds[2]
    assert (sample.crs, sample.lonlat) == ("EPSG:32632", (9.0, 50.0))
    if version == 3:
        assert sample.labels == {"cover": [0, 1], "share": [0.25, 0.75]}
        assert sample.times == ["2020-03-01T10:00:00Z", "2020-07-01T10:00:00Z"]
    else:
        assert sample.labels == {"cover": 0}


@pytest.mark.parametrize(
    ("commit", "data"), [(FIRST, FORMAT1), (SECOND, SECOND / "dataset")], ids=["first", "second"]
)
def test_checkpoints_give_the_features_they_gave(commit: Path, data: Path) -> None:
    model = fm.load(commit / "export")
    assert model.card is not None
    assert model.card.format_version == 1
    pixels = torch.from_numpy(shards.open(data)[0].arrays["s2l1c_10"].astype("int32"))
    with torch.no_grad():
        pooled = model.encode({"s2l1c_10": pixels[None]}).pooled[0]
    torch.testing.assert_close(pooled, torch.tensor(expected(commit, "run")["pooled"]))


@pytest.mark.parametrize("commit", [FIRST, SECOND], ids=["first", "second"])
def test_a_run_begins_with_them(commit: Path, tmp_path: Path) -> None:
    chosen = words(tmp_path / "run", SECOND / "dataset", "late")
    more = [f"init_from={commit / 'export'}", "schedule.steps=1", "schedule.warmup=0"]
    made = pretrain.run("mae_s2_tiny", overrides=[*chosen, *more, "optimizer.lr=1e-9"])
    now, then = (fm.load(f).state_dict() for f in (made.export, commit / "export"))
    for name, value in then.items():
        torch.testing.assert_close(now[name], value, atol=1e-7, rtol=0)
    assert fm.load(made.export).card.parent == f"mae-s2-tiny ({commit / 'export'})"


def test_a_killed_run_goes_on_as_it_would_have(tmp_path: Path) -> None:
    shutil.copytree(SECOND / "killed", tmp_path / "run")
    pretrain.run("mae_s2_tiny", overrides=words(tmp_path / "run", SECOND / "dataset", "late"))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses == pytest.approx(expected(SECOND, "run")["losses"], rel=1e-6)
    state = json.loads((tmp_path / "run" / "state.json").read_text())
    assert (state["format_version"], state["written_by"]) == (1, WRITER)


def test_its_checkpoint_is_exported(tmp_path: Path) -> None:
    assert main(["pretrain", str(SECOND / "killed"), "--export", str(tmp_path / "model")]) == 0
    assert fm.load(tmp_path / "model").card.training["steps"] == 2


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_runs_of_the_first_version_are_refused_before_anything_is_touched(
    force: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(FIRST / "killed", tmp_path / "run"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["pretrain", "mae_s2_tiny", *words(run, FORMAT1, "late"), *force]) == 1
    (line,) = [line for line in told(capsys).splitlines() if "begun by" in line]
    assert "begun by eofm 0.1.0 (commit b3758db7)" in line
    assert "begin a new run in another out=FOLDER" in line
    after = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before


@pytest.mark.parametrize("commit", [FIRST, SECOND], ids=["first", "second"])
def test_runs_are_reported(commit: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(commit / "killed", tmp_path / "run"))
    assert main(["report", str(run), "--out", str(tmp_path / "page.html")]) == 0
    assert "mae-s2-tiny" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(("commit", "place"), [(PLACE, "location"), (LAST, "pair/location")])
def test_location_encoders_give_the_embeddings_they_gave(commit: Path, place: str) -> None:
    encoder = location.load(commit / place)
    with torch.no_grad():
        made = encoder(torch.tensor([[7.0, 50.0], [-179.5, -33.0]], dtype=torch.float64))
    torch.testing.assert_close(made, torch.tensor(expected(commit, "location")["embeddings"]))


def test_a_pair_of_encoders_is_found_again() -> None:
    pair = location.pair(LAST / "pair")
    made = pair.embed(shards.open(LAST / "dataset").loader(2, shuffle=False, pad=True))
    assert made.keys.shape == (4, 8)
    assert made.features.shape == (4, 12)


def test_results_are_checked_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, commit in ((1, FIRST), (2, SECOND)):
        for path in (commit / "results").glob("*.json"):
            assert json.loads(path.read_text())["format_version"] == number
            assert Result.load(path).environment["eofm"] == "0.1.0"
        assert main(["leaderboard", "check", str(commit / "results")]) == 0
        out = tmp_path / commit.name
        assert main(["leaderboard", "build", str(commit / "results"), "--out", str(out)]) == 0
        assert "bigearthnet-s2" in (out / "index.html").read_text()
    capsys.readouterr()


def test_embeddings_are_searched(capsys: pytest.CaptureFixture[str]) -> None:
    found = parquet.read(FIRST / "features.parquet")
    assert found.about["model"] == "mae-s2-tiny"
    assert main(["search", str(FIRST / "features.parquet"), "old_0", "--count", "2", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert len(hits) == 2


NEWER = {
    "dataset": (LAST / "dataset", "dataset.json", shards.open),
    "card": (SECOND / "export", "card.json", fm.load),
    "location": (LAST / "pair" / "location", "location.json", location.load),
}


@pytest.mark.parametrize("kind", NEWER)
@pytest.mark.parametrize("version", [99, 0, True, "2"])
def test_a_newer_or_impossible_format_is_one_line(
    kind: str, version: object, tmp_path: Path
) -> None:
    source, name, opened = NEWER[kind]
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    document = json.loads((copy / name).read_text())
    later = {**document, "format_version": version, "written_by": "eofm 9.8.7"}
    (copy / name).write_text(json.dumps(later))
    with pytest.raises(FMError) as caught:
        opened(copy)
    text = str(caught.value)
    assert "\n" not in text
    assert str(copy) in text
    if version == 99:
        assert f"format 99, written by eofm 9.8.7, is newer than {WRITER} reads" in text
        assert "upgrade eofm" in text


def test_a_newer_result_and_run_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = (SECOND / "results").glob("*--knn@1--VisionTransformer--*.json")
    later = json.loads(path.read_text())
    later |= {"format_version": 3, "environment": {"eofm": "9.8.7"}}
    (tmp_path / path.name).write_text(json.dumps(later))
    with pytest.raises(FMError, match=r"format 3, written by eofm 9\.8\.7, is newer"):
        Result.load(tmp_path / path.name)
    assert main(["leaderboard", "check", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "written by eofm 9.8.7" in captured.out + captured.err
    run = Path(shutil.copytree(SECOND / "killed", tmp_path / "run"))
    state = json.loads((run / "state.json").read_text())
    later = {**state, "format_version": 2, "written_by": "eofm 9.8.7"}
    (run / "state.json").write_text(json.dumps(later))
    chosen = words(run, SECOND / "dataset", "late")
    assert main(["pretrain", "mae_s2_tiny", *chosen]) == 1
    assert "state.json: format 2, written by eofm 9.8.7, is newer" in told(capsys)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (
            b'{"format_version": 2, "written_by": "eofm 9.8.7"}',
            "format 2, written by eofm 9.8.7, is",
        ),
        (b'{"model": ', "eofm in its metadata is damaged"),
        (b"[1]", "eofm in its metadata is damaged"),
        (b"\xff\xfe\xff", "eofm in its metadata is damaged"),
    ],
)
def test_newer_or_damaged_embeddings_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], about: bytes, said: str
) -> None:
    columns = {"key": ["a"], "lon": [0.0], "lat": [0.0], "embedding": [[1.0, 2.0]]}
    table = pa.table(columns).replace_schema_metadata({"eofm": about})
    pq.write_table(table, tmp_path / "e.parquet")
    assert main(["search", str(tmp_path / "e.parquet"), "a"]) == 1
    line = told(capsys)
    assert said in line
    assert "e.parquet" in line


def test_a_position_of_another_version_is_one_line(tmp_path: Path) -> None:
    run = Path(shutil.copytree(SECOND / "killed", tmp_path / "run"))
    position = run / "checkpoints" / "step-00000002" / "position.json"
    position.write_text(json.dumps({**json.loads(position.read_text()), "phase": 3}))
    with pytest.raises(FMError, match=r"position\.json: .*'phase'; eofm .* did not write it"):
        pretrain.run("mae_s2_tiny", overrides=words(run, SECOND / "dataset", "late"))


def test_what_is_written_today_says_so(tmp_path: Path, tiny_dataset: Path) -> None:
    assert json.loads((tiny_dataset / "dataset.json").read_text())["written_by"] == WRITER
    fm.checkpoint.save(tmp_path / "model", fm.load(FIRST / "export"))
    assert json.loads((tmp_path / "model" / "card.json").read_text())["written_by"] == WRITER
    location.save(tmp_path / "place", location.load(PLACE / "location"))
    told = json.loads((tmp_path / "place" / "location.json").read_text())
    assert told["written_by"] == WRITER
