"""Nearest neighbours of frozen features."""

from typing import Literal

from pydantic import Field, field_validator

from probes.settings.features import OnFeatures


class Knn(OnFeatures):
    """Cosine nearest neighbours; k is chosen on val, the smallest of equal ones."""

    family: Literal["knn"]
    k: tuple[int, ...]
    temperature: float = Field(0.07, gt=0)
    center: bool = True

    @field_validator("k")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 1 or list(value) != sorted(set(value)):
            raise ValueError("give ascending whole numbers from 1")
        return value
