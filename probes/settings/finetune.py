"""Training all weights, or low-rank updates of them."""

from typing import Literal

from pydantic import Field

from probes.settings.training import Tuning


class Finetune(Tuning):
    """Backbone and head trained together; learning rate and epoch chosen on val.

    The head starts as the logistic regression (C = `head_c`) on the frozen features of the same
    training samples, for a regression as the ridge regression of that C, so that a random head
    does not first distort the backbone.
    `mixup` is a of the Beta(a, a) that mixes two samples (Zhang et al., arXiv 1710.09412), for one
    class a sample alone.
    `per_class` bounds the training samples of each class (of several labels or numbers: the
    training samples by this number times the labels or targets), and `val_per_class` those of val;
    None takes all. The subsets are drawn by the seed, the same for every model. Test is always
    whole.
    """

    family: Literal["finetune"]
    mixup: float = Field(0.0, ge=0)
    head_c: float = Field(1.0, gt=0)
    per_class: int | None = Field(None, ge=1)
    val_per_class: int | None = Field(None, ge=1)
