"""Typed configs: YAML and `key=value` overrides into pydantic models, strictly.

An unknown key is refused with the nearest valid one; a wrong value names its key. Recipes ship
with the package and are found by name.
"""

import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fm.errors import UsageError, suggest


class Config(BaseModel):
    """Base of every config: unknown keys are errors, numbers are finite, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


C = TypeVar("C", bound=BaseModel)


def recipe_folder() -> Path:
    """Return the folder of shipped recipes (inside the wheel, or the checkout's `configs/`)."""
    here = Path(__file__).resolve().parent
    inside = here / "configs"
    return inside if inside.is_dir() else here.parent / "configs"


def list_recipes(kind: str) -> list[str]:
    """List the names of the recipes of a kind, such as `"pretrain"`."""
    return sorted(path.stem for path in (recipe_folder() / kind).glob("*.yaml"))


def find_recipe(kind: str, name: str) -> Path:
    """Find a recipe by name or by path.

    Raises:
        UsageError: there is neither such a file nor such a recipe.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.parent != Path():
        if path.is_file():
            return path
        raise UsageError(f"{path}: no such config file")
    known = list_recipes(kind)
    if name in known:
        return recipe_folder() / kind / f"{name}.yaml"
    raise UsageError(f"there is no {kind} recipe {name!r}; {suggest(name, known)}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping with the safe loader.

    Raises:
        UsageError: the file is missing, is not YAML, or is not a mapping.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such config file") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        raise UsageError(f"{path}: not valid YAML ({text})") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: a config is a mapping of keys, this is {type(value).__name__}")
    return value


def override(values: Mapping[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """Apply `a.b=value` words to nested values; the value is read as YAML.

    Raises:
        UsageError: a word is not of that form.
    """
    result: dict[str, Any] = {k: _copy(v) for k, v in values.items()}
    for word in words:
        key, equals, text = word.partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            raise UsageError(f"{word!r} is not an override; write key=value, such as seed=1")
        try:
            value = yaml.safe_load(text) if text else None
        except (yaml.YAMLError, ValueError):  # a date that is none is a ValueError
            raise UsageError(f"{word!r}: the value is not valid YAML; quote it") from None
        place = result
        for part in parts[:-1]:
            inner = place.setdefault(part, {})
            if inner is None:
                inner = place[part] = {}
            if not isinstance(inner, dict):
                raise UsageError(f"{word!r}: {part!r} holds a value, not keys")
            place = inner
        place[parts[-1]] = value
    return result


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, dict) else value


def parse(kind: type[C], values: Mapping[str, Any], where: str) -> C:
    """Turn plain values into a typed config.

    Args:
        kind: the config's class.
        values: nested mapping.
        where: the file or command line the values come from, for errors.

    Raises:
        UsageError: names the first wrong key, what is wrong with it, and the nearest valid name.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # an unknown key is often why another is missing
        first = next((e for e in found if e["type"] == "extra_forbidden"), found[0])
        path = [str(part) for part in first["loc"]]
        key = ".".join(path)
        if first["type"] == "extra_forbidden":
            parent, prefix = _at(kind, path[:-1]), ".".join(path[:-1])
            fields = parent.model_fields if parent else {}
            valid = [field.alias or name for name, field in fields.items()]
            inside = f" in {prefix}" if prefix else ""
            text = f"unknown key {path[-1]!r}{inside}; {suggest(path[-1], valid)}"
        elif first["type"] == "missing":
            text = f"{key} is missing; give it in the file or as {key}=VALUE"
        else:
            reason = first["msg"].removeprefix("Value error, ")
            given = "" if isinstance(first["input"], Mapping) else f"={first['input']!r}"
            text = f"{key}{given}: {reason}" if key else reason
        raise UsageError(f"{where}: {' '.join(text.split())}") from None


def _at(kind: type[BaseModel], path: list[str]) -> type[BaseModel] | None:
    """Follow keys (and the tags of unions) to the config class they lead to."""
    current: type[BaseModel] | None = kind
    for part in path:
        if current is None or part not in current.model_fields:
            # the tag of a discriminated union: stay on the member with that tag
            continue
        current = _model_in(current.model_fields[part].annotation, path)
    return current


def _model_in(annotation: Any, path: list[str]) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, dict):
        members = (_model_in(part, path) for part in typing.get_args(annotation))
        found = [member for member in members if member is not None]
        for member in found:
            tags = {
                value
                for field in member.model_fields.values()
                for value in typing.get_args(field.annotation)
                if isinstance(value, str)
            }
            if tags & set(path):
                return member
        return found[0] if found else None
    return None


def dump_yaml(config: BaseModel) -> str:
    """Write a resolved config as YAML, keys in the order of the class."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
