"""The page is the declarations', and every declaration can be held to."""

from pathlib import Path

import pytest

from fm.sensors import sensor
from probes.benchmarks import DECLARATIONS, get_benchmark, list_benchmarks
from probes.benchmarks.declare import Declaration
from probes.benchmarks.holdout import deal
from probes.benchmarks.page import page
from probes.cli import probe
from probes.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_up_to_date():
    found = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert found == page(), "run python -m probes.benchmarks.page > docs/benchmarks.md"


@pytest.mark.parametrize("one", DECLARATIONS, ids=lambda one: one.name)
def test_a_declaration_names_real_sensors_and_sane_splits(one: Declaration):
    assert one.full_name in list_benchmarks()
    assert get_benchmark(one.name).checked_on in ("fixtures only", "samples", "real files")
    assert one.task in TASKS
    assert len(set(one.classes)) == len(one.classes)
    for array in one.arrays:
        table = {band.name for band in sensor(array.sensor).bands}
        assert set(array.bands) <= table
        assert array.take is not None or set(array.file_bands) <= table
        family = {band.modality.rpartition("_")[0] for band in sensor(array.sensor).bands}
        assert array.modality.rpartition("_")[0] in family
        assert array.modality.rpartition("_")[2] in (f"{array.gsd_m:.0f}", "0")
        assert len(array.order) == len(array.bands) > 0
    made = set(one.holdout.parts) if one.holdout else set()
    counted = set(one.published) - {"all"}  # lists whose size no source tells are not counted
    assert made | (counted or {"train", "test"}) >= {"train", "test"}
    if one.holdout is not None:
        assert sum(one.holdout.parts.values()) == pytest.approx(1)
        assert "val" in made
    else:
        assert counted in ({"train", "val", "test"}, set())


def test_the_list_says_on_what_each_was_checked(capsys):
    from argparse import ArgumentParser

    parser = ArgumentParser()
    probe.configure(parser)
    assert probe.run(parser.parse_args(["--list"])) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.split()[:1] == ["eurosat@1"]]
    assert line.split()[1:3] == ["fixtures", "only"]
    (line,) = [line for line in lines if line.split()[:1] == ["indian-pines@1"]]
    assert line.split()[1:3] == ["real", "files"]


def test_groups_are_dealt_whole_by_a_hash_and_in_no_order():
    groups = [f"city{n % 7}" for n in range(70)]
    shares = {"val": 0.2, "train": 0.8}
    dealt = deal(groups, shares, seed=0)
    parts = {
        group: {p for g, p in zip(groups, dealt, strict=True) if g == group} for group in groups
    }
    assert all(len(found) == 1 for found in parts.values())
    assert dealt.count("val") == 20  # two of seven cities: the first alone is below 20 %
    back = deal(groups[::-1], shares, seed=0)
    assert back[::-1] == dealt
    others = {tuple(deal(groups, shares, seed=seed)) for seed in range(20)}
    assert len(others) > 5
    # the rule, by hand
    import hashlib

    first = min(set(groups), key=lambda g: hashlib.sha256(f"0/{g}".encode()).digest())
    assert parts[first] == {"val"}


def test_every_part_gets_a_group_even_of_a_large_one():
    dealt = deal(["a"] * 98 + ["b", "c"], {"train": 0.6, "val": 0.2, "test": 0.2}, seed=3)
    assert set(dealt) == {"train", "val", "test"}
