"""Key and shape inventories of released layouts: `inventories/*.json`, data with their source.

A shape is written in symbols (`["3*D", "D"]`), a repeated key with `{i}` (`blocks.{i}.norm1.bias`),
so the same inventory describes a released file and the tiny ones of the tests. A layout may include
another one's keys under a prefix (`includes`: MoCo's encoder is a ResNet), first names exchanged.
"""

import ast
import json
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from typing import Any

from fm.errors import UsageError, suggest

_OPERATIONS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


@dataclass(frozen=True)
class Inventory:
    """One layout.

    Attributes:
        name: of the layout; a family may have several.
        family: see `fm.foreign.recognise`.
        title: what it is, in words.
        source: where the names were read.
        counts: loop variable of the keys to the symbol that counts it.
        keys: rows `key`, `shape` (symbols) and `part` (`encoder`, `decoder`, `head`, `alias`, or
            `beside`: other networks, projectors and queues).
        released: the symbols of a released file.
        tiny: symbols of a small one with the same names.
    """

    name: str
    family: str
    title: str
    source: str
    counts: Mapping[str, str]
    keys: tuple[Mapping[str, Any], ...]
    released: Mapping[str, int]
    tiny: Mapping[str, int]

    def expand(self, symbols: Mapping[str, int] | None = None) -> dict[str, tuple[int, ...]]:
        """Return every key with its shape.

        Args:
            symbols: numbers; `released` when None.
        """
        numbers = dict(self.released if symbols is None else symbols)
        result = {}
        for row in self.keys:
            loops = [v for v in self.counts if f"{{{v}}}" in row["key"]]
            ranges = [range(numbers[self.counts[v]]) for v in loops]
            for place in product(*ranges):
                here = dict(zip(loops, place, strict=True))
                shape = tuple(_number(item, {**numbers, **here}) for item in row["shape"])
                result[row["key"].format(**here)] = shape
        return result

    def known(self, key: str) -> bool:
        """Say whether a key has a name of this layout."""
        return bool(_names(self.name).fullmatch(key))

    def part(self, key: str) -> str:
        """Return the part that a key belongs to."""
        for row in self.keys:
            if _pattern(row["key"]).fullmatch(key):
                return str(row["part"])
        raise UsageError(f"{key} is no key of {self.name}")


def layouts() -> list[str]:
    """List the layouts that have an inventory."""
    folder = resources.files("fm.foreign") / "inventories"
    return sorted(f.name.removesuffix(".json") for f in folder.iterdir() if f.name[-5:] == ".json")


@cache
def inventory(name: str) -> Inventory:
    """Read one inventory.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in layouts():
        raise UsageError(f"no inventory {name!r}; {suggest(name, layouts())}")
    folder = resources.files("fm.foreign") / "inventories"
    values = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    rows = [
        {"key": key, "shape": shape, "part": part}
        for part, keys in values["keys"].items()
        for key, shape in keys.items()
    ]
    counts: dict[str, str] = {}
    released: dict[str, int] = {}
    tiny: dict[str, int] = {}
    for item in values.get("includes", ()):
        other = inventory(item["layout"])
        rows += _included(other, **{k: v for k, v in item.items() if k != "layout"})
        counts |= other.counts
        released |= other.released
        tiny |= other.tiny
    return Inventory(
        name,
        values["family"],
        values["title"],
        values["source"],
        counts | values.get("counts", {}),
        tuple(rows),
        released | values["released"],
        tiny | values["tiny"],
    )


def _included(
    other: Inventory,
    prefix: str = "",
    part: str = "encoder",
    names: Mapping[str, str] | None = None,
    symbols: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Take another layout's encoder over.

    Args:
        other: the layout.
        prefix: in front of its keys.
        part: what its keys are here.
        names: first name of a key (`conv1`) to the one it has here.
        symbols: symbol of its shapes to the one it has here.
    """
    rows = []
    for row in other.keys:
        if row["part"] != "encoder":
            continue
        first, dot, rest = row["key"].partition(".")
        key = f"{prefix}{(names or {}).get(first, first)}{dot}{rest}"
        shape = [(symbols or {}).get(item, item) for item in row["shape"]]
        rows.append({"key": key, "shape": shape, "part": part})
    return rows


@cache
def _pattern(key: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", r"\\d+", re.escape(key)))


@cache
def _names(name: str) -> re.Pattern[str]:
    return re.compile("|".join(_pattern(row["key"]).pattern for row in inventory(name).keys))


def _number(item: int | str, symbols: Mapping[str, int]) -> int:
    if isinstance(item, int):
        return item
    return _evaluate(ast.parse(item, mode="eval").body, symbols)


def _evaluate(node: ast.expr, symbols: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return symbols[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        left, right = _evaluate(node.left, symbols), _evaluate(node.right, symbols)
        return int(_OPERATIONS[type(node.op)](left, right))
    raise ValueError(f"not arithmetic: {ast.dump(node)}")
