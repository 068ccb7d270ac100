"""Labels of any dataset of ours as a benchmark: rows, targets, splits, what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fm
import shards
from fm.errors import FMError, UsageError
from fm.geo import block_id
from probes.benchmarks import get_benchmark
from probes.benchmarks.samples import LEFT_OUT
from probes.judging.evaluation import evaluate
from shards import splits
from shards.building.writer import Declared, write_dataset
from shards.format import LabelInfo
from shards.sample import Sample

FORMAT1 = Path(__file__).parents[1] / "shards" / "data" / "format1"
CLASSES = ("bare", "crop", "cloud", "wood")
CLOUD = 2
COUNT = 40
LABELS = {
    "cover": LabelInfo("cover", "class", CLASSES, CLOUD),
    "tags": LabelInfo("tags", "multilabel", CLASSES),
    "biomass": LabelInfo("biomass", "regression"),
    "share": LabelInfo("share", "fractions", CLASSES),
}


def number(n: int) -> int | None:
    """Class of a sample: one is not known, one is the number that stands for that."""
    return {3: None, 4: CLOUD}.get(n, (0, 1, 3)[(n - (n == 9)) // 3 % 3])


def write(out: Path, *, split: bool = True, shift: float = 0.0) -> Path:
    """Write grey pictures that are the brighter the higher the class; sample 9 is sample 8."""
    samples = []
    for n in range(COUNT):
        k, m = number(n), n - (n == 9)
        grey = 60 * (number(m) or 0) + m % 7
        picture = np.full((3, 8, 8), grey + shift, np.uint8)
        picture[:, 0, 0] = m
        samples.append(
            Sample(
                key=f"p{n:02d}",
                arrays={"rgb_0": picture},
                lonlat=(10 + 0.05 * n, 50.0),
                split=("train", "val", "test")[n % 3 if n < 30 else n % 2] if split else None,
                labels={
                    "cover": k,
                    "tags": None if k is None else sorted({k, n % 2}),
                    "biomass": None if n == 5 else 2.0 * n,
                    "share": [0.25] * 4,
                },
            )
        )
    write_dataset(
        out,
        samples,
        name="mine",
        modalities={"rgb_0": Declared("rgb", ("R", "G", "B"))},
        labels=LABELS,
        provenance={},
        licence="CC0-1.0",
    )
    return out


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("mine") / "ds")


def test_a_class_is_asked_for_where_it_is_known(mine: Path) -> None:
    data = get_benchmark("class:cover").load(mine)
    kept = [n for n in range(COUNT) if n not in (3, 4)]
    assert data.shards.tolist() == [f"p{n:02d}" for n in kept]
    assert data.targets.tolist() == [number(n) for n in kept]
    assert data.classes == CLASSES
    assert "2 samples without a label 'cover' are left out" in data.notes
    assert "classes without a training sample: cloud" in data.notes
    pixels = data.read(np.array([5])).pixels["rgb_0"]
    assert pixels[0, 0, 0, 0] == kept[5]


def test_several_labels_and_numbers(mine: Path) -> None:
    tags = get_benchmark("multilabel:tags").load(mine)
    assert tags.targets.dtype == bool
    assert np.flatnonzero(tags.targets[1]).tolist() == [0, 1]
    assert np.flatnonzero(tags.targets[2]).tolist() == [0]
    biomass = get_benchmark("regression:biomass").load(mine)
    assert biomass.targets.shape == (COUNT - 1, 1)
    assert biomass.targets[:6, 0].tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 12.0]
    assert biomass.classes == ("biomass",)


def test_a_split_file_decides_and_blocks_are_drawn_whole(mine: Path, tmp_path: Path) -> None:
    file = tmp_path / "block.json"
    ds = shards.open(mine)
    split = splits.by_block(ds, km=20, shares={"train": 0.5, "val": 0.25, "test": 0.25}, seed=0)
    split.write(file)
    benchmark = get_benchmark(f"class:cover:{file}")
    assert benchmark is get_benchmark(f"class:cover:{file}"), "by which a session is known"
    assert (benchmark.unit, get_benchmark("class:cover").unit) == ("block", "image")
    data = benchmark.load(mine)
    for part in ("train", "val", "test"):
        there = set(data.shards[data.of(part)].tolist())
        assert there == set(split.keys(part)) - {"p03", "p04"}
    places = dict(zip(ds.keys, ds.lonlat, strict=True))
    expected = block_id(np.array([places[key] for key in data.shards]), 20)
    assert data.unit.tolist() == expected.tolist()
    assert len(set(data.unit.tolist())) < len(data.unit)


def test_splits_of_one_label_share_their_rows_and_not_their_names(
    mine: Path, tmp_path: Path
) -> None:
    """Features are kept by benchmark, manifest and row; results by the benchmark's name."""
    names, rows = {get_benchmark("class:cover").name}, []
    for seed in (0, 1):
        shares = {"train": 0.5, "val": 0.2, "test": 0.2, "spare": 0.1}
        splits.random(shards.open(mine), shares, seed=seed).write(tmp_path / f"{seed}.json")
        benchmark = get_benchmark(f"class:cover:{tmp_path}/{seed}.json")
        names.add(benchmark.name)
        data = benchmark.load(mine)
        rows.append(data.shards.tolist())
        assert (data.split == LEFT_OUT).any(), "a part that is none of the three"
    assert len(names) == 3
    assert rows[0] == rows[1] == get_benchmark("class:cover").load(mine).shards.tolist()


def test_parts_that_swap_their_names_are_another_benchmark(mine: Path, tmp_path: Path) -> None:
    """Each half is tested once: the second result would replace the first one."""
    names = set()
    for parts in (("train", "val", "test"), ("test", "val", "train")):
        shares = dict(zip(parts, (0.4, 0.2, 0.4), strict=True))
        splits.random(shards.open(mine), shares).write(tmp_path / "split.json")
        benchmark = get_benchmark(f"class:cover:{tmp_path}/split.json")
        data = benchmark.load(mine)
        names.add((benchmark.name, tuple(data.shards[data.of("test")].tolist())))
    (one, halves), (other, swapped) = names
    assert one != other
    assert not set(halves) & set(swapped)


def test_one_split_at_two_places_is_one_benchmark(mine: Path, tmp_path: Path) -> None:
    """The leaderboard ranks results together that say the same of their split."""
    told = set()
    for place in ("a", "b"):
        splits.random(shards.open(mine), {"train": 0.5, "val": 0.2, "test": 0.3}).write(
            tmp_path / f"{place}.json"
        )
        benchmark = get_benchmark(f"class:cover:{tmp_path}/{place}.json")
        told.add((benchmark.name, benchmark.split))
    assert len(told) == 1


def test_numbers_that_stand_for_no_label_are_no_classes(tmp_path: Path) -> None:
    picture = np.zeros((3, 8, 8), np.uint8)
    for ignore in (-1, 255):
        write_dataset(
            tmp_path / f"d{ignore}",
            [
                Sample(f"p{n}", {"rgb_0": picture + n}, split=part, labels={"tags": [n, ignore]})
                for n, part in enumerate(("train", "val", "test"))
            ],
            name="mine",
            modalities={"rgb_0": Declared("rgb", ("R", "G", "B"))},
            labels={"tags": LabelInfo("tags", "multilabel", CLASSES, ignore)},
            provenance={},
            licence="CC0-1.0",
        )
        data = get_benchmark("multilabel:tags").load(tmp_path / f"d{ignore}")
        assert data.targets.tolist() == np.eye(3, 4, dtype=bool).tolist()


def test_datasets_of_format_1_know_no_copies(tmp_path: Path) -> None:
    splits.random(shards.open(FORMAT1), {"train": 0.4, "val": 0.3, "test": 0.3}).write(
        tmp_path / "split.json"
    )
    data = get_benchmark(f"multilabel:tags:{tmp_path}/split.json").load(FORMAT1)
    assert data.shards.tolist() == [f"old_{n}" for n in range(5)]


def test_a_copy_in_another_part_is_told(mine: Path) -> None:
    told = "1 test samples have the pixels of a training or validation sample"
    assert told in get_benchmark("class:cover").load(mine).notes


def test_what_cannot_be_asked_for_is_refused(mine: Path, tmp_path: Path) -> None:
    for name, why in {
        "mask:cover": "of the kinds class, multilabel, regression",
        "class:": "KIND:LABEL",
        "class:cover:": "KIND:LABEL:SPLIT.json",
        "classes": "a label of your own dataset is KIND:LABEL",
    }.items():
        with pytest.raises(UsageError, match=why):
            get_benchmark(name)
    with pytest.raises(FMError, match="ask for class:cover, its kind, not regression:cover"):
        get_benchmark("regression:cover").load(mine)
    with pytest.raises(
        FMError, match=r"can be asked for: class:cover, multilabel:tags, regression:biomass$"
    ):
        get_benchmark("class:share").load(mine)
    with pytest.raises(FMError, match="no such split"):
        get_benchmark(f"class:cover:{tmp_path}/none.json")
    bare = write(tmp_path / "bare", split=False, shift=1.0)
    with pytest.raises(FMError, match="no sample with 'cover' in train, val, test; make a file"):
        get_benchmark("class:cover").load(bare)
    splits.random(shards.open(bare), {"train": 0.5, "val": 0.3, "test": 0.2}).write(
        tmp_path / "other.json"
    )
    with pytest.raises(FMError, match="this split divides the dataset"):
        get_benchmark(f"class:cover:{tmp_path}/other.json").load(mine)
    shares = {"train": 0.5, "val": 0.25, "test": 0.25}
    by_hand = splits.by_block(shards.open(mine), km=20, shares=shares, seed=0)
    replace(by_hand, parameters={}).write(tmp_path / "by_hand.json")
    with pytest.raises(FMError, match="a split by block tells the side of its blocks"):
        get_benchmark(f"class:cover:{tmp_path}/by_hand.json").load(mine)


def test_a_result_of_it(mine: Path, tmp_path: Path) -> None:
    result = evaluate(None, "class:cover", "image-statistics", data=mine, out=tmp_path / "results")
    assert result.benchmark["name"] == "class-cover"
    assert result.benchmark["n_test"] == 10
    assert result.metrics["oa"]["value"] == 1.0, "brightness tells the class"
    assert list((tmp_path / "results").glob("class-cover@1--*.json"))


def test_floors_do_not_replace_those_of_other_data(mine: Path, tmp_path: Path) -> None:
    """`fm shards build rasters` calls the label of every dataset `label`."""
    out, protocol = tmp_path / "results", "image-statistics"
    evaluate(None, "class:cover", protocol, data=mine, out=out)
    files = {path: path.read_bytes() for path in out.iterdir()}
    other = write(tmp_path / "other", shift=1.0)
    with pytest.raises(UsageError, match=r"image-statistics--s0\.json is of other data"):
        evaluate(None, "class:cover", protocol, data=other, out=out)
    model = fm.create_model("vit_nano", bands=fm.sensor("rgb"), width=32)
    with pytest.raises(UsageError, match=r"image-statistics--s0\.json is of other data"):
        evaluate(model, "class:cover", "knn", data=other, out=out)
    assert {path: path.read_bytes() for path in out.iterdir()} == files
    evaluate(model, "class:cover", "knn", data=other, out=out, with_floors=False)
    assert {path: path.read_bytes() for path in files} == files
    evaluate(None, "class:cover", protocol, data=mine, out=out)  # the same again is no other
