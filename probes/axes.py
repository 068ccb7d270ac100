"""Cells of a table: a protocol with some of its axes changed, and what the cell is called."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import ValidationError

from fm.errors import UsageError, suggest
from probes.protocols import Protocol
from probes.settings.features import Axes

PRECISIONS = ("float32", "bfloat16")


def cells(choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Combine the values of each axis: every combination is a cell, the last axis fastest."""
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def vary(protocol: Protocol, cell: Mapping[str, Any]) -> tuple[Protocol, dict[str, Any]]:
    """Change the axes of a protocol.

    Args:
        protocol: the recipe; one that looks at pixels alone has no axes and stays as it is.
        cell: axis to value; beside the axes `precision`, of what the model computes.

    Returns:
        the changed protocol, and the axes whose value is not the recipe's own.

    Raises:
        UsageError: an unknown axis or value, or a protocol without axes.
    """
    if not protocol.needs_model or not cell:
        return protocol, {}
    if "precision" in cell:
        rest = {name: value for name, value in cell.items() if name != "precision"}
        protocol, changed = vary(protocol, rest)
        return _reduced(protocol, cell["precision"], changed)
    own = getattr(protocol.settings, "axes", None)
    if own is None:
        raise UsageError(
            f"{protocol.full_name} has no axes; leave {', '.join(map(_option, cell))} out"
        )
    for name in cell:
        if name not in Axes.model_fields:
            raise UsageError(f"there is no axis {name!r}; {suggest(name, Axes.model_fields)}")
    try:
        axes = Axes.model_validate({**own.model_dump(), **cell})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise UsageError(f"{_option(name)} {cell[name]!r}: {first['msg']}") from None
    changed = {k: v for k, v in axes.model_dump(mode="json").items() if v != getattr(own, k)}
    settings = protocol.settings.model_copy(update={"axes": axes})
    return protocol.model_copy(update={"settings": settings}), changed


def _reduced(
    protocol: Protocol, precision: Any, changed: dict[str, Any]
) -> tuple[Protocol, dict[str, Any]]:
    """Change the precision that the model computes in."""
    own = getattr(protocol.settings, "precision", None)
    if own is None:
        raise UsageError(f"{protocol.full_name} has no precision to choose; leave --precision out")
    if precision == own:
        return protocol, changed
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision!r}: give {' or '.join(PRECISIONS)}")
    settings = protocol.settings.model_copy(update={"precision": precision})
    made = protocol.model_copy(update={"settings": settings})
    return made, {**changed, "precision": precision}


def tag(changed: Mapping[str, Any]) -> str:
    """Name a cell, such as `normaliser-zscore+resize-224`; empty for the recipe's own axes."""
    words = []
    for key in sorted(changed):
        value = "native" if changed[key] is None else changed[key]
        words.append(f"{key}-{str(value).lower() if isinstance(value, bool) else value}")
    return "+".join(words)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
