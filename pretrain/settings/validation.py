"""`validation`: samples that are held out, on which the objective is judged while it is trained."""

from typing import Self

from pydantic import Field, model_validator

from fm.config import Config
from pretrain.settings.kinds import Positive


class ValidationConfig(Config):
    """Held-out samples; nothing is learned from them, and nothing is chosen by them.

    What is read of them (modalities, bands, crop) is as `data` says; a crop is that of the centre.

    Attributes:
        path: dataset folder or URL; the run's own when null.
        where: index filter, such as `"split == 'val'"`.
        split: `[file, part]`: the samples of one part of a split that `fm shards split` wrote.
        every_samples: samples of training between two validations; the weights before the first
            step and after the last are validated too.
        batch_size: samples of a rank that are encoded at once.
    """

    path: str | None = None
    where: str | None = None
    split: tuple[str, str] | None = None
    every_samples: Positive
    batch_size: Positive = Field(64)

    @model_validator(mode="after")
    def _held_out(self) -> Self:
        if self.path is None and self.where is None and self.split is None:
            raise ValueError(
                "say which samples are held out: where (such as split == 'val'), split or path"
            )
        return self
