import copy
import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import shards
from fm.errors import FMError
from fm.version import WRITER
from shards.format import DESCRIPTION, check_key, check_shard, info_from_dict, manifest_hash


@pytest.fixture
def value(tiny_dataset: Path) -> dict:
    return json.loads((tiny_dataset / DESCRIPTION).read_text())


def test_the_description_round_trips(value: dict) -> None:
    read = json.loads(json.dumps(info_from_dict(value).to_dict()))
    assert {**read, "written_by": WRITER} == value


def test_the_manifest_hash_is_of_the_data_not_of_the_prose(value: dict) -> None:
    info = info_from_dict(value)
    prose = dataclasses.replace(info, name="other", licence="other", provenance={})
    assert manifest_hash(prose) == info.manifest_hash
    with pytest.raises(FMError, match="checksum"):  # and still nobody alters it unseen
        info_from_dict(value | {"licence": "other"})
    for path in (("shards", 0, "sha256"), ("modalities", "s2l1c_10", "bands"), ("index_sha256",)):
        changed = copy.deepcopy(value)
        parent = changed
        for step in path[:-1]:
            parent = parent[step]
        old = parent[path[-1]]
        parent[path[-1]] = old[::-1]
        with pytest.raises(FMError, match=r"manifest_hash|lists other bands"):
            info_from_dict(changed)


@pytest.mark.parametrize(
    "name",
    ["../x.tar", "/etc/x.tar", "a/b/c.tar", "a/../b.tar", "./b.tar", "..", ".tar", "x.zip", ""],
)
def test_shard_names_cannot_leave_the_folder(name: str, value: dict) -> None:
    with pytest.raises(FMError, match="not a plain"):
        check_shard(name)
    value["shards"][0]["name"] = name
    with pytest.raises(FMError, match="not a plain"):
        info_from_dict(value)


@pytest.mark.parametrize("key", ["a.b", "a/b", "../a", "", "ä", "a b", "a\n", "-a", None, 3])
def test_unsafe_keys_are_refused(key: object) -> None:
    with pytest.raises(FMError, match="sample key"):
        check_key(key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": 99}, "upgrade eofm"),
        ({"format_version": "1"}, "not a dataset description"),
        ({"shards": None}, "'shards' is missing"),
        ({"modalities": {"../x": {}}}, "name '../x'"),
        ({"modalities": {"s2l1c_10": {"bands": [], "sensor": 3}}}, "'sensor'"),
        ({"labels": {"cover": {"kind": "clas", "classes": []}}}, "did you mean 'class'"),
        ({"labels": {"cover": None}}, "no object"),
    ],
)
def test_a_bad_description_is_one_line(change: dict, reason: str, value: dict) -> None:
    with pytest.raises(FMError) as caught:
        info_from_dict(value | change)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_opening_what_is_no_dataset_is_one_line(tmp_path: Path, tiny_dataset: Path) -> None:
    cases = {tmp_path / "absent": "no such dataset folder", tmp_path: "not a dataset"}
    newer = tmp_path / "newer"
    shutil.copytree(tiny_dataset, newer)
    text = (newer / DESCRIPTION).read_text()
    (newer / DESCRIPTION).write_text(text.replace('"format_version": 2', '"format_version": 4'))
    cases[newer] = f"format 4, written by {WRITER}, is newer than {WRITER} reads (3); upgrade"
    for path, reason in cases.items():
        with pytest.raises(FMError) as caught:
            shards.open(path)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
