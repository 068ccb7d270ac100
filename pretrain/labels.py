"""Labels that an objective reads, as vectors: one number a class, NaN where nothing is known."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import shards
from fm.errors import UsageError, suggest
from pretrain.objective import Objective
from shards.format import LabelInfo

UNREADABLE = ("mask", "text")
"""Kinds of labels that are no vector of a sample."""
MADE = ("multilabel", "fractions")
"""Kinds that `fm shards label` makes."""


class ReadLabels:
    """The labels of a run: which are read, and what they are.

    Args:
        names: labels that the objective reads.
        parts: name to dataset, as in `RunData`.
        kinds: label to the kinds that the objective can use; all where it is not named.

    Attributes:
        names: as given.
        classes: label to its classes, the same in every part; a regression has one, its name.

    Raises:
        UsageError: a part has not the label, has it as pixels or text, or with other classes.
    """

    def __init__(
        self,
        names: Sequence[str],
        parts: Mapping[str, shards.Dataset],
        kinds: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.classes: dict[str, tuple[str, ...]] = {}
        self._infos: dict[str, dict[str, LabelInfo]] = {}
        for part, ds in parts.items():
            self._infos[part] = {
                name: _found(ds, name, (kinds or {}).get(name)) for name in self.names
            }
            for name, info in self._infos[part].items():
                own = info.classes or (name,)
                if self.classes.setdefault(name, own) != own:
                    raise UsageError(
                        f"data.parts.{part}: label {name} has other classes there than in the "
                        f"parts before; give every part the same ones"
                    )

    def vectors(self, batch: Any) -> dict[str, Tensor]:
        """Return the labels of a loader's batch.

        Args:
            batch: a `shards` batch that holds `names`.

        Returns:
            label to `[B, classes]` float32, or `[B, T, classes]` of labels of each image: a class
            is one-hot, several are multi-hot, fractions and numbers are as stored. A row without
            label is NaN, never zero.
        """
        infos = self._infos[batch.part or ""] if self.names else {}
        return {name: _vector(batch.labels[name], info) for name, info in infos.items()}


def _found(ds: shards.Dataset, name: str, kinds: tuple[str, ...] | None) -> LabelInfo:
    labels = ds.info.labels
    if name not in labels:
        told = suggest(name, labels) if labels else "it has no labels"
        raise UsageError(
            f"{ds.place}: the objective reads the label {name!r}, which is not there; {told} "
            f"(fm shards label adds one)"
        )
    if labels[name].kind in UNREADABLE:
        raise UsageError(
            f"{ds.place}: label {name} is a {labels[name].kind}, and the objective reads one vector"
            f" a sample; fm shards label makes one of it"
        )
    if kinds is not None and labels[name].kind not in kinds:
        made = [f"; fm shards label --kind {kind} makes one" for kind in kinds if kind in MADE]
        raise UsageError(
            f"{ds.place}: label {name} is a {labels[name].kind}, the objective needs "
            f"{' or '.join(kinds)}{made[0] if made else ''}"
        )
    return labels[name]


def _vector(values: Tensor, info: LabelInfo) -> Tensor:
    if info.kind == "regression":
        return values.float()[..., None]
    if info.kind != "class":
        return values.float()
    count = len(info.classes)
    known = (values >= 0) & (values < count)
    if info.ignore is not None:
        known &= values != info.ignore
    rows = torch.nn.functional.one_hot(values.where(known, 0).long(), count).float()
    return rows.masked_fill(~known[..., None], float("nan"))


def made_up(objective: Objective, count: int, device: torch.device | str) -> dict[str, Tensor]:
    """Return labels for samples that are only measured: `[count, classes]`, equal shares.

    Args:
        objective: names its labels, and the number of classes where it is built for one (else 2).
        count: of samples.
        device: of the tensors.
    """
    sizes = {name: objective.label_sizes.get(name, 2) for name in objective.label_names}
    return {name: torch.ones(count, size, device=device) / size for name, size in sizes.items()}
