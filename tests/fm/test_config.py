"""Configs are strict: what is wrong is named with its key and the nearest valid name."""

from pathlib import Path
from typing import Literal

import pytest

from fm.config import (
    Config,
    dump_yaml,
    find_recipe,
    list_recipes,
    override,
    parse,
    read_yaml,
)
from fm.errors import UsageError, suggest


class Inner(Config):
    learning_rate: float = 0.1
    kind: Literal["a", "b"] = "a"


class Outer(Config):
    name: str
    inner: Inner = Inner()


def test_overrides_nest_and_keep_types() -> None:
    values = override({"name": "x"}, ["inner.learning_rate=1e-3", "inner.kind=b"])
    config = parse(Outer, values, "words")
    assert config.inner.learning_rate == 1e-3
    assert config.inner.kind == "b"


def test_override_does_not_change_its_argument() -> None:
    values = {"inner": {"kind": "a"}}
    override(values, ["inner.kind=b"])
    assert values == {"inner": {"kind": "a"}}


@pytest.mark.parametrize("word", ["novalue", "=3", "a..b=1", "name.x=1", "a=[1"])
def test_malformed_override_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=r"override|holds a value|not valid YAML"):
        override({"name": "x"}, [word])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"name": "x", "iner": {}}, r"unknown key 'iner'; did you mean 'inner'"),
        (
            {"name": "x", "inner": {"learning_rat": 1}},
            r"'learning_rat' in inner; did you mean 'learning_rate'",
        ),
        ({}, "name is missing"),
        ({"name": "x", "inner": {"kind": "c"}}, r"inner.kind='c'"),
        ({"name": "x", "inner": {"learning_rate": float("inf")}}, "learning_rate=inf: .*finite"),
        ({"name": "x", "inner": {"learning_rate": float("nan")}}, "learning_rate=nan: .*finite"),
    ],
)
def test_wrong_values_name_their_key(values: dict, text: str) -> None:
    with pytest.raises(UsageError, match=text) as error:
        parse(Outer, values, "file.yaml")
    assert str(error.value).startswith("file.yaml: ")
    assert "\n" not in str(error.value)


def test_yaml_round_trip(tmp_path: Path) -> None:
    config = Outer(name="x", inner=Inner(learning_rate=3e-4))
    path = tmp_path / "c.yaml"
    path.write_text(dump_yaml(config))
    assert parse(Outer, read_yaml(path), "c") == config


def test_missing_and_broken_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such config file"):
        find_recipe("pretrain", str(tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match="did you mean 'mae_s2_tiny'"):
        find_recipe("pretrain", "mae_s2_tinny")
    broken = tmp_path / "b.yaml"
    broken.write_text("a: [1")
    with pytest.raises(UsageError, match="not valid YAML"):
        read_yaml(broken)
    broken.write_text("- 1")
    with pytest.raises(UsageError, match="mapping"):
        read_yaml(broken)


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("a: !!python/object/apply:os.getcwd []")
    with pytest.raises(UsageError, match="not valid YAML"):
        read_yaml(path)


def test_recipes_are_found_by_name() -> None:
    assert "mae_s2_tiny" in list_recipes("pretrain")
    assert find_recipe("pretrain", "mae_s2_tiny").is_file()


def test_a_wrong_name_is_answered_in_a_line() -> None:
    assert suggest("vit_smal", ["vit_small", "less"]) == "did you mean 'vit_small'?"
    assert suggest("zzz", ["b", "a"]) == "valid names: a, b"
    assert suggest("zzz", []) == "valid names: none"
    assert suggest("zzz", map(str, range(61))) == "it is near none of the 61 valid names"
