"""`fm shards` as a user types it."""

import json
import re
import shlex
import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path

import pytest

from bench.flaky_server import FlakyServer
from fm.cli import main
from fm.sensors import sensor
from shards.cli import VERBS, command
from shards.seeing import land
from shards.sources import SOURCES, get_source
from shards.storage.cache import HOME
from tests.shards.test_sentinel2_scene import write_band

SCENE = ["build", "sentinel2-scene", "--out", "x", "--folder", "/no/such"]


def test_info_and_verify_on_a_good_dataset(tiny_dataset: Path, capsys) -> None:
    assert main(["shards", "info", str(tiny_dataset)]) == 0
    text = capsys.readouterr().out
    assert "tiny: 24 samples" in text
    assert "s2l1c_10: sentinel2-l1c, 4 bands of 10 m, uint16" in text
    assert main(["shards", "info", str(tiny_dataset), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["splits"] == {"train": 12, "val": 6, "test": 6}
    assert {s: sum(n) for s, n in found["class_counts"]["cover"].items()} == found["splits"]
    assert main(["shards", "verify", str(tiny_dataset)]) == 0
    assert "all well" in capsys.readouterr().out


def test_verify_names_the_sample_and_exits_1(tiny_dataset: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "ds"
    shutil.copytree(tiny_dataset, folder)
    shard = sorted(folder.glob("*.tar"))[1]
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 4
    shard.write_bytes(data)
    assert main(["shards", "verify", str(folder), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert any((p["key"] or "").startswith("tiny_") for p in problems)


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["info", "/no/such"], 1, "/no/such"),
        (["verify", "/no/such"], 1, "/no/such"),
        (["build", "nothing", "--out", "x"], 2, "there is no 'nothing'"),
        ([*SCENE, "--sensor", "sentinel2-l1c"], 1, "no such folder"),
        ([*SCENE, "--sensor", "sentinel2-l1d"], 2, "did you mean 'sentinel2-l1c'"),
        (SCENE, 2, "required: --sensor"),
        (["build", "indian-pines", "--out", "/tmp", "--cache", "x"], 1, "exists already"),
        (["build", "indian-pines:x", "--out", "x", "--cache", "x"], 2, "nothing after a colon"),
        (["build", "indian-pins:x", "--out", "x"], 2, "did you mean 'indian-pines'"),
        ([*SCENE, "--sensor", "sentinel2-l1c", "--workers", "two"], 2, "--workers"),
        (["frobnicate"], 2, "there is no 'frobnicate'"),
    ],
)
def test_bad_input_is_one_line(words, status, text, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["shards", *words]) == status
    error = capsys.readouterr().err
    assert text in error
    assert len(error.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["info"],
        ["verify"],
        ["split", "--by", "random", "--out", "split.json"],
        ["show", "--count", "1", "--out", "sheet.png"],
        ["map", "--out", "map.html"],
    ],
    ids=lambda words: words[0],
)
def test_every_verb_reads_a_url(words, tiny_dataset: Path, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EOFM_CACHE", raising=False)
    monkeypatch.setattr(land, "_land", lambda: None)  # its file takes seconds; see test_map.py
    with FlakyServer(tiny_dataset) as server:
        assert main(["shards", words[0], server.url, *words[1:], "--cache", "kept"]) == 0
    assert (tmp_path / "kept" / HOME).is_dir()


def test_repair_takes_a_copy_at_a_url(tiny_dataset: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("EOFM_CACHE", raising=False)
    folder = shutil.copytree(tiny_dataset, tmp_path / "d")
    shard = sorted(folder.glob("*.tar"))[1]
    shard.write_bytes(b"\0" * 100)
    with FlakyServer(tiny_dataset) as server:
        words = ["repair", str(folder), "--from", server.url, "--cache", str(tmp_path / "kept")]
        assert main(["shards", *words]) == 0
    assert shard.read_bytes() == (tiny_dataset / shard.name).read_bytes()


def parse(line: str) -> Namespace:
    """Parse a whole command line of `fm shards`."""
    words = shlex.split(line)
    assert words[:2] == ["fm", "shards"], line
    parser = ArgumentParser()
    command.configure(parser)
    return parser.parse_args(words[2:])


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_has_an_example_that_parses(name: str, capsys) -> None:
    example = get_source(name).EXAMPLE
    parsed = parse(example)
    assert (parsed.verb, parsed.source.partition(":")[0]) == ("build", name)
    assert main(["shards", "build", name, "--help"]) == 0
    text = re.sub(r" \\\n +", " ", capsys.readouterr().out)  # long lines go on in the next
    assert f"example:\n  {example.splitlines()[0]}" in text
    for option in ("--out", "--workers", "--dask", "--min-valid", "--drop-duplicates", "--codec"):
        assert option in text, option


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example(verb: str, capsys) -> None:
    assert main(["shards", verb, "--help"]) == 0
    assert "example:\n  fm shards" in capsys.readouterr().out


def test_what_follows_a_colon_is_the_source_s_spec() -> None:
    parsed = parse("fm shards build 'torchgeo:EuroSAT?split=train&root=a:b' --root d --out x")
    assert parsed.spec == "EuroSAT?split=train&root=a:b"
    assert (parsed.workers, parsed.dask, parsed.samples_per_shard) == (None, None, 128)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Return a fake scene of 24 patches, its first one half empty."""
    folder = tmp_path / "scene"
    folder.mkdir()
    for band in sensor("sentinel2-l1c").bands:
        write_band(folder, band.name, int(band.gsd_m))
    import rasterio

    with rasterio.open(folder / "s2_B02.tif", "r+") as raster:
        data = raster.read()
        data[0, 4:28, 5:53] = 0
        raster.write(data)
    return folder


def test_build_says_what_it_wrote_and_what_it_left_out(scene: Path, tmp_path: Path, capsys) -> None:
    words = ["shards", "build", "sentinel2-scene", "--folder", str(scene), "--patch", "48"]
    words += ["--sensor", "sentinel2-l1c", "--workers", "0", "--samples-per-shard", "10"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    assert "24 samples, 3 shards" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "b"), "--min-valid", "0.9"]) == 0
    said = capsys.readouterr().out
    assert "23 samples, 3 shards" in said
    assert "skipped: 1, valid fraction below 0.9 (scene_00004_00005)" in said
    assert main([*words, "--out", str(tmp_path / "c"), "--min-valid", "0.9", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["quality"]["min_valid"]) == (23, 0.9)
    shown = json.loads((tmp_path / "b" / "dataset.json").read_text())
    assert shown["manifest_hash"] == found["manifest_hash"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 1
    assert "exists already" in capsys.readouterr().err
