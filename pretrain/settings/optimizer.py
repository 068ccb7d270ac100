"""`optimizer`."""

from typing import Annotated

from pydantic import Field

from fm.config import Config

Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Config):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101), torch's fused kernel.

    Attributes:
        lr: peak learning rate, as is (not scaled by the batch).
        weight_decay: on matrices only; biases, norms and codes are not decayed.
        betas: as in MAE by default.
        eps: added to the denominator.
        clip: maximum gradient norm; 0 does not clip.
    """

    lr: float = Field(1.5e-4, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    clip: float = Field(0.0, ge=0)
