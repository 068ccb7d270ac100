"""Nearest neighbours of frozen features."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from probes.settings.features import OnFeatures


class Knn(OnFeatures):
    """Nearest neighbours; what is chosen is chosen on val, the first of equal ones.

    `k` is a grid, and so is `scale`: features as they are (`none`), or standardised with the
    training mean and deviation. `vote` weighs the neighbours by exp(cosine / temperature), or all
    alike. `center` subtracts the training mean. `planes` is `by-name` for every protocol but the
    seed paper's two, see `probes.checks.corley`. `compute` is the type of the matrix product; who
    is a neighbour does not hang on it, see `probes.solvers.knn`.
    """

    family: Literal["knn"]
    k: tuple[int, ...]
    metric: Literal["cosine", "euclidean"] = "cosine"
    vote: Literal["temperature", "uniform"] = "temperature"
    temperature: float = Field(0.07, gt=0)
    center: bool = True
    scale: tuple[Literal["none", "standard"], ...] = Field(("none",), min_length=1)
    planes: Literal["by-name", "corley", "corley-fixed"] = "by-name"
    compute: Literal["float32", "float64"] = "float64"

    @field_validator("k")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1 or list(value) != sorted(set(value)):
            raise ValueError("give ascending whole numbers from 1")
        return value

    @field_validator("scale")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("name each scaling once")
        return value

    @model_validator(mode="after")
    def _cosines(self) -> "Knn":
        if self.metric == "euclidean" and self.vote == "temperature":
            raise ValueError("a vote by temperature needs cosines: metric cosine, or vote uniform")
        return self
