"""Settings of everything that is trained by gradient steps."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fm.config import Config
from probes.settings.features import Axes


class Training(Config):
    """AdamW, linear warm-up and half a cosine; rate and epoch are chosen on val."""

    epochs: int = Field(ge=1)
    learning_rates: tuple[float, ...] = Field(min_length=1)
    batch_size: int = Field(64, ge=1)
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    clip: float = Field(1.0, gt=0)


class Lora(Config):
    """Low-rank updates of frozen linear layers (Hu et al., arXiv 2106.09685, section 4.1).

    Weights become `W + alpha / rank * B A`; `targets` are the last parts of the names of linear
    layers inside the backbone's blocks.
    """

    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    targets: tuple[str, ...] = Field(("qkv", "proj"), min_length=1)


class Tuning(Training):
    """What is done to a backbone whose weights are trained.

    `layer_decay` multiplies the rate once for every block between a weight and the head (BEiT,
    arXiv 2106.08254, appendix H); `head_multiple` multiplies the head's rate; `drop_path` is the
    probability to skip the last block, falling to 0 at the first (arXiv 1603.09382); with `lora`
    the backbone's own weights stay as they are.
    """

    layer_decay: float = Field(1.0, gt=0, le=1)
    head_multiple: float = Field(1.0, gt=0)
    drop_path: float = Field(0.0, ge=0, lt=1)
    lora: Lora | None = None

    def scratch(self) -> Self | None:
        """Settings of the same number of steps from random weights, None where none are trained.

        All weights are trained there, at one rate: a low-rank update of random weights, or random
        first blocks that hardly move, would be a weaker rival than training from scratch is.
        """
        return self.model_copy(update={"layer_decay": 1.0, "lora": None})


class OnMaps(Tuning):
    """Settings that all protocols of one class a pixel share.

    `backbone` is `frozen` (token maps are made once) or `tuned`. `channels` is the width of the
    heads that have one. A class k with the share p_k of the counted training pixels weighs
    p_k^-balance in the loss: 0 counts every pixel alike. `axes` says how pixels come to a foreign
    backbone.
    """

    axes: Axes = Axes()
    input: Literal["model", "raw-pixel"] = "model"
    head: Literal["linear", "fcn", "upernet"]
    backbone: Literal["frozen", "tuned"] = "frozen"
    channels: int = Field(64, ge=8, multiple_of=4)
    balance: float = Field(0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _tuned_only(self) -> Self:
        if self.input == "raw-pixel" and (self.backbone == "tuned" or self.head == "upernet"):
            raise ValueError("input raw-pixel has no backbone to tune and no levels for upernet")
        neutral = (self.layer_decay, self.drop_path, self.lora) == (1.0, 0.0, None)
        if self.backbone == "frozen" and not neutral:
            raise ValueError("layer_decay, drop_path and lora need backbone: tuned")
        return self

    def scratch(self) -> Self | None:
        """See `Tuning.scratch`; a frozen random backbone is no training from scratch."""
        return super().scratch() if self.backbone == "tuned" else None
