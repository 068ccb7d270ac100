"""Settings of protocols that may be given a part of the training labels."""

from typing import Self

from pydantic import Field, model_validator

from fm.config import Config


class FewLabels(Config):
    """How many training samples are used; val and test are whole.

    `per_class` bounds the samples of each class, `fraction` is a share of all of them. The list is
    drawn without replacement and fixed by dataset, amount and seed: `probes.families.labels.draw`.
    """

    per_class: int | None = Field(None, ge=1)
    fraction: float | None = Field(None, gt=0, le=1)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.per_class is not None and self.fraction is not None:
            raise ValueError("give per_class or fraction, not both")
        return self
