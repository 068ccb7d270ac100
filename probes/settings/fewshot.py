"""Few labels, several draws."""

from typing import Literal, Self

from pydantic import Field, model_validator

from probes.settings.features import OnFeatures
from probes.settings.few import FewLabels
from probes.settings.grid import Grid


class Fewshot(OnFeatures, FewLabels):
    """A classifier on each of `tries` fixed lists of few samples; metrics are means over tries.

    `head`: `prototype` (nearest class mean, nothing to choose), `knn` (its `k`), `linear` (its
    `c`). k or C is the one whose mean score on val over the tries is best, the smallest of equals.
    """

    family: Literal["fewshot"]
    head: Literal["prototype", "knn", "linear"]
    tries: int = Field(ge=1, le=100)
    k: tuple[int, ...] = ()
    temperature: float = Field(0.07, gt=0)
    c: Grid | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.per_class is None and self.fraction is None:
            raise ValueError("give per_class or fraction")
        if (self.head == "knn") != bool(self.k) or (self.head == "linear") != (self.c is not None):
            raise ValueError("k goes with head knn, c with head linear, nothing with prototype")
        if any(k < 1 for k in self.k) or list(self.k) != sorted(set(self.k)):
            raise ValueError("k: give ascending whole numbers from 1")
        return self
