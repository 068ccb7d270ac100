"""What the run is: its config, how that differs from the recipe, its machine, its last values."""

from collections.abc import Mapping
from typing import Any

import yaml

from fm.config import find_recipe, list_recipes, parse, read_yaml
from fm.errors import FMError
from fm.page.html import MISSING, Markup, el, flat, pairs, plain, scroll, small_table
from pretrain.report.names import kind, short
from pretrain.report.read import Record
from pretrain.report.thin import ends

_ROWS = 300
"""Rows of the table of last values; more figures than that are bands of many."""
_OWN = ("out", "follows")


def config(record: Record) -> list[Markup]:
    """Show the resolved config, and what of it is not the recipe's."""
    made: list[Markup] = []
    if follows := record.config.get("follows"):
        made.append(el("p", str(follows)))
    name, values = _recipe(record)
    if values is None:
        text = "No shipped recipe has the name of this run; all keys are below."
        made.append(el("p", text, class_="facts"))
    else:
        rows = differences(values, record.config)
        if rows:
            caption = f"Differs from the recipe {name}"
            made.append(small_table(("key", "recipe", "this run"), rows, caption))
        else:
            made.append(el("p", f"As the recipe {name}, but for paths.", class_="facts"))
    text = yaml.safe_dump(dict(record.config), sort_keys=False, allow_unicode=True)
    body = scroll(el("pre", text), "The resolved config", "wide")
    made.append(el("details", el("summary", el("span", "Resolved config")), body))
    return made


def differences(recipe: Mapping[str, Any], own: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """List the keys of a run whose values are not the recipe's; paths and words are left out."""
    theirs = dict(flat(recipe))
    return [
        (key, plain(theirs[key]) if key in theirs else MISSING, plain(value))
        for key, value in flat(own)
        if key not in _OWN and not key.endswith(("path", "cache")) and theirs.get(key) != value
    ]


def _recipe(record: Record) -> tuple[str, Mapping[str, Any] | None]:
    """Find the recipe that a run was started from: the one named as the run, or on its command."""
    from pretrain.config import RunConfig

    known = list_recipes("pretrain")
    command = record.environment.get("command")
    typed = [word for word in command if word in known] if isinstance(command, list) else []
    same = str(record.config.get("name", "")).replace("-", "_")
    for name in [*typed, *[one for one in known if one == same]]:
        path = find_recipe("pretrain", name)
        try:
            return name, parse(RunConfig, read_yaml(path), str(path)).model_dump(mode="json")
        except FMError:  # a recipe that needs words to be whole
            continue
    return "", None


def environment(record: Record) -> list[Markup]:
    """Show the machine, the versions and the state of the source of the last session."""
    env = record.environment
    if not env:
        return [el("p", "The folder holds no env.json.", class_="facts")]
    git = env.get("git")
    source = MISSING
    if isinstance(git, Mapping):
        changed = "with changes that were not committed" if git.get("changed") else "unchanged"
        source = f"{git.get('commit')}, {changed}"
    command = env.get("command")
    first = [
        ("device", env.get("cuda") or "CPU"),
        ("ranks", env.get("world_size")),
        ("source", source),
        ("command", " ".join(map(str, command)) if isinstance(command, list) else command),
    ]
    shown = {"cuda", "world_size", "git", "command"}
    rest = [(key, value) for key, value in flat(env) if key.split(".")[0] not in shown]
    return [pairs([*first, *rest])]


def values(record: Record) -> Markup:
    """Write every logged figure's first and last values, its extremes and its last step."""
    rows = []
    for (name, part), series in sorted(record.figures.items()):
        held = kind(name)
        first, last = (end * held.factor for end in ends(series))
        low, high = series.values.min() * held.factor, series.values.max() * held.factor
        label = f"{held.title}, {part}" if part else held.title
        rows.append(
            (
                label,
                held.unit,
                short(first),
                short(last),
                short(float(low)),
                short(float(high)),
                f"{int(series.steps[-1]):,}",
            )
        )
    head = ("figure", "unit", "first tenth", "last tenth", "lowest", "highest", "last step")
    caption = "Means over the first and the last tenth of the logged steps, at most ten each"
    if len(rows) > _ROWS:
        caption += f"; {_ROWS} of {len(rows)} figures"
    return small_table(head, rows[:_ROWS], caption)
