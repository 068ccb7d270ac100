"""Training all weights."""

from typing import Literal

from pydantic import Field

from fm.config import Config


class Finetune(Config):
    """All weights trained by AdamW; learning rate and epoch chosen on val.

    The head starts as the logistic regression (C = `head_c`) on the frozen features of the same
    training samples, so that a random head does not first distort the backbone.
    `per_class` bounds the training samples of each class (multi-label: the training samples by
    this number times the classes), and `val_per_class` those of val; None takes all. The subsets
    are drawn by the seed, the same for every model. Test is always whole.
    """

    family: Literal["finetune"]
    epochs: int = Field(ge=1)
    learning_rates: tuple[float, ...] = Field(min_length=1)
    batch_size: int = Field(64, ge=1)
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    clip: float = Field(1.0, gt=0)
    head_c: float = Field(1.0, gt=0)
    per_class: int | None = Field(None, ge=1)
    val_per_class: int | None = Field(None, ge=1)
