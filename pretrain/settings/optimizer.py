"""`optimizer`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fm.config import Config

Beta = Annotated[float, Field(ge=0, lt=1)]

BASE_BATCH = 256
"""Samples in the batch that `base_lr` is stated for (Goyal et al., arXiv 1706.02677)."""


class OptimizerConfig(Config):
    """What turns gradients into steps.

    Attributes:
        kind: `adamw` (Loshchilov and Hutter, arXiv 1711.05101; torch's fused kernel), `lamb` (You
            et al., arXiv 1904.00962) or `muon` (Jordan et al. 2024, with the step sizes of Liu et
            al., arXiv 2502.16982: matrices inside blocks by Muon, the rest by AdamW).
        lr: peak learning rate, as is (not scaled by the batch).
        base_lr: peak learning rate of a batch of 256; given instead of `lr`, which becomes
            `base_lr` x batch / 256.
        weight_decay: on matrices only; biases, norms, positions, tokens and codes are not decayed.
        betas: as in MAE by default.
        eps: added to the denominator.
        clip: maximum gradient norm; 0 does not clip.
        layer_decay: the rate is multiplied by this for every layer between a weight of the
            backbone and its end.
        momentum: of Muon.
    """

    kind: Literal["adamw", "lamb", "muon"] = "adamw"
    lr: float = Field(1.5e-4, gt=0)
    base_lr: float | None = Field(None, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    clip: float = Field(0.0, ge=0)
    layer_decay: float = Field(1.0, gt=0, le=1)
    momentum: Beta = 0.95

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, values: Any) -> Any:
        """Let `lr=null` take a recipe's rate away, so that `base_lr` can be given."""
        absent = isinstance(values, dict) and values.get("lr", 0) is None
        return {k: v for k, v in values.items() if k != "lr"} if absent else values

    def resolved(self, batch_size: int) -> Self:
        """Return the same with `lr` for a global batch.

        Raises:
            ValueError: `lr` and `base_lr` are given and disagree.
        """
        if self.base_lr is None:
            return self
        rate = self.base_lr * batch_size / BASE_BATCH
        if "lr" in self.model_fields_set and self.lr != rate:
            raise ValueError(
                f"optimizer.lr={self.lr:g} is not what optimizer.base_lr={self.base_lr:g} makes of "
                f"a batch of {batch_size} ({rate:g}); set one of them to null"
            )
        return self.model_copy(update={"lr": rate})

    def identity(self) -> dict[str, Any]:
        """Return what decides what is learned."""
        values = self.model_dump(mode="json", exclude={"base_lr"})  # `lr` says it
        for key, usual in (("kind", "adamw"), ("layer_decay", 1.0)):
            if values[key] == usual:  # as if absent: older runs go on
                del values[key]
        if self.kind != "muon":
            del values["momentum"]
        return values
