"""Weights that eofm carries: small checkpoints of its own training, loaded by `eofm/NAME`.

Each is a folder here: what `fm.checkpoint.save` writes (`model.safetensors`, `card.json`,
`README.md`) and beside it

- `recipe.yaml`, the settings of the run, which `fm pretrain` takes;
- `metrics.jsonl`, the run's log;
- `probes.json`, what the weights are worth beside floors, and by their hash which weights.

`python -m bench.weights` makes all of it again (docs/weights.md).
"""

import difflib
import os
import shutil
from pathlib import Path
from typing import Any

from fm.errors import FMError, UsageError, suggest
from fm.files import atomic_folder, read_json, refuse_within, sha256_file

PREFIX = "eofm/"
HERE = Path(__file__).resolve().parent
WEIGHTS, CARD = "model.safetensors", "card.json"
RECIPE, LOG, PROBES = "recipe.yaml", "metrics.jsonl", "probes.json"


def names() -> list[str]:
    """List the weights that are carried, without the prefix."""
    return sorted(path.parent.name for path in HERE.glob(f"*/{CARD}"))


def is_carried(model: object) -> bool:
    """Say whether a model is named as carried weights are; a `Path` is always a folder."""
    return isinstance(model, str) and model.startswith(PREFIX)


def place(model: str | os.PathLike[str]) -> Path:
    """Return the folder of a model: of carried weights by `eofm/NAME`, any other as it is.

    Raises:
        UsageError: no such weights are carried, or a folder of that name is here too.
    """
    if not is_carried(model):
        return Path(model)
    name = str(model).removeprefix(PREFIX)
    if name not in names():
        full = [PREFIX + known for known in names()]
        raise UsageError(f"eofm carries no weights {name!r}; {suggest(str(model), full)}")
    if Path(model).exists():
        raise UsageError(
            f"{model} names weights that eofm carries and a folder that is here; write ./{model} "
            f"for the folder, or go elsewhere"
        )
    return HERE / name


def meant(model: str | os.PathLike[str]) -> str:
    """Return `eofm/NAME` where a model is named so without the prefix, or nearly; else nothing."""
    near = difflib.get_close_matches(str(model).removeprefix(PREFIX), names(), n=1, cutoff=0.8)
    return PREFIX + near[0] if near else ""


def card(name: str) -> dict[str, Any]:
    """Return `card.json` of carried weights as plain values, without loading torch.

    Args:
        name: with or without the prefix.

    Raises:
        UsageError: no such weights are carried.
    """
    found: dict[str, Any] = read_json(_folder(name) / CARD, "model card")
    return found


def probes(name: str) -> dict[str, Any]:
    """Return `probes.json` of carried weights.

    Args:
        name: with or without the prefix.

    Raises:
        UsageError: no such weights are carried.
        FMError: the probes are of other weights than those that lie beside them.
    """
    folder = _folder(name)
    found: dict[str, Any] = read_json(folder / PROBES, "list of probes")
    if found["weights_sha256"] != sha256_file(folder / WEIGHTS):
        raise FMError(f"{folder / PROBES}: of other weights; python -m bench.weights {name}")
    return found


def copy(name: str, to: str | os.PathLike[str], *, overwrite: bool = False) -> dict[str, Any]:
    """Copy carried weights into a folder of one's own, their hash compared with the card's.

    Args:
        name: `eofm/NAME`.
        to: folder to write.
        overwrite: replace what is there.

    Returns:
        what `card.json` says.

    Raises:
        UsageError: no such weights are carried, or `to` holds them.
        FMError: `to` exists or is no checkpoint to replace, or the weights are damaged.
    """
    folder, told = place(name), card(name)
    refuse_within(folder, to)
    with atomic_folder(to, overwrite=overwrite, ours=(CARD,)) as aside:
        shutil.copytree(folder, aside, dirs_exist_ok=True)
        if sha256_file(aside / WEIGHTS) != told["weights_sha256"]:
            raise FMError(f"{folder}: the weights are not those of the card; install eofm again")
    return told


def _folder(name: str) -> Path:
    return place(PREFIX + name.removeprefix(PREFIX))
