import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import shards
from fm.errors import FMError, UsageError
from shards.format import info_from_dict, read_info, write_info
from shards.index import parquet as index
from tests.conftest import TINY, tiny_samples


def test_a_dataset_says_what_it_holds(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    assert len(ds) == TINY
    assert ds.keys == [f"tiny_{i:03d}" for i in range(TINY)]
    assert ds.sensors == ("sentinel2-l1c",)
    assert list(ds.modalities) == ["s2l1c_10", "s2l1c_20", "s2l1c_60"]
    assert [ds.modalities[name].gsd_m for name in ds.modalities] == [10.0, 20.0, 60.0]
    assert ds.index.num_rows == TINY
    assert ds.lonlat[7].tolist() == list(list(tiny_samples(8))[7].lonlat)
    assert "24 samples" in repr(ds)


def test_where_keeps_samples_and_the_hash(tiny_dataset: Path) -> None:
    whole, part = shards.open(tiny_dataset), shards.open(tiny_dataset, where="split == 'val'")
    assert part.keys == whole.keys[2::4]
    assert part.manifest_hash == whole.manifest_hash == whole.info.manifest_hash
    for i in (0, -1, 3):
        assert np.array_equal(
            part.read(i)["s2l1c_60"], whole.read(whole.keys.index(part.keys[i]))["s2l1c_60"]
        )
    batch = next(part.loader(6, shuffle=False, steps=1))
    assert batch.keys == part.keys
    assert np.array_equal(batch.pixels["s2l1c_60"][5].numpy(), part.read(5)["s2l1c_60"])


def test_single_members_are_read(tiny_dataset: Path) -> None:
    ds = shards.open(tiny_dataset)
    assert list(ds.read(0, ["s2l1c_60"])) == ["s2l1c_60"]
    with pytest.raises(UsageError, match="did you mean 's2l1c_60'"):
        ds.read(0, ["s2l1c_6"])
    with pytest.raises(UsageError, match="did you mean 's2l1c_60'"):
        ds.statistics("s2l1c_6")
    with pytest.raises(IndexError):
        ds[TINY]


def test_where_that_keeps_nothing_is_one_line(tiny_dataset: Path) -> None:
    with pytest.raises(UsageError, match="no sample has split == 'tset'"):
        shards.open(tiny_dataset, where="split == 'tset'")


def test_an_empty_dataset_is_one_line(tiny_dataset: Path, tmp_path: Path) -> None:
    info = read_info(tiny_dataset)
    index.write(tmp_path / "index.parquet", [], info.members, {})
    data = (tmp_path / "index.parquet").read_bytes()
    empty = {"shards": (), "labels": {}, "index_sha256": hashlib.sha256(data).hexdigest()}
    value = json.loads(json.dumps(info.to_dict() | empty))
    with pytest.raises(FMError, match="altered"):
        info_from_dict(value)
    write_info(tmp_path, dataclasses.replace(info, **empty))
    with pytest.raises(FMError, match="holds no samples") as caught:
        shards.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_index_that_leaves_the_folder_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    info = read_info(tiny_dataset)
    rows = index.read(tiny_dataset / "index.parquet", info).to_pylist()
    for row in rows:
        row["shard"] = "../../etc/passwd"
    index.write(tmp_path / "index.parquet", rows, info.members, info.labels)
    with pytest.raises(FMError, match="not those of dataset"):
        index.read(tmp_path / "index.parquet", info, check_hash=False)


def test_importing_shards_loads_nothing_heavy() -> None:
    code = (
        "import sys, shards; heavy = {'torch', 'pyarrow', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy; shards.open; assert 'torch' not in sys.modules; "
        "from shards import decode; assert decode is shards.webdataset_decode; "
        "assert set(shards.__all__) <= set(dir(shards)); "
        "[getattr(shards, name) for name in shards.__all__]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = shards.opne
