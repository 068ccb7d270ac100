"""`optimizer`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fm.config import Config

Beta = Annotated[float, Field(ge=0, lt=1)]

BASE_BATCH = 256
"""Samples in the batch that `base_lr` is stated for (Goyal et al., arXiv 1706.02677)."""

MOMENTUM = {"muon": 0.95, "sgd": 0.9, "lars": 0.9}
"""Kinds that have one, and what it is where it is not told."""

STATE_BYTES = {"adamw": 8, "lamb": 8, "muon": 4, "sgd": 4, "lars": 4}
"""What a kind keeps of a trained parameter, in float32; of Muon its own matrices'."""


class OptimizerConfig(Config):
    """What turns gradients into steps.

    Attributes:
        kind: `adamw` (Loshchilov and Hutter, arXiv 1711.05101; torch's fused kernel), `lamb` (You
            et al., arXiv 1904.00962), `muon` (Jordan et al. 2024, with the step sizes of Liu et
            al., arXiv 2502.16982: matrices inside blocks by Muon, the rest by AdamW), `sgd` (with
            momentum in torch's form, the rate outside of it) or `lars` (You et al., arXiv
            1708.03888: matrices alone get rates of their own, as in Barlow Twins, arXiv
            2103.03230). The last two need a rate and a weight decay.
        lr: peak learning rate, as is (not scaled by the batch).
        base_lr: peak learning rate of a batch of 256; given instead of `lr`, which becomes
            `base_lr` x batch / 256.
        weight_decay: on what `decayed` says. AdamW, LAMB and Muon take it off the weights; `sgd`
            and `lars` add it to the gradient.
        decayed: `matrices` only; biases, norms, positions, tokens and codes are not decayed. Or
            `all` that is trained, as MoCo-v2 does.
        betas: as in MAE by default.
        eps: added to the denominator.
        clip: maximum gradient norm; 0 does not clip.
        layer_decay: the rate is multiplied by this for every layer between a weight of the
            backbone and its end.
        bias_scale: factor of the rate of all that is no matrix.
        momentum: of Muon, SGD and LARS; null is 0.95, 0.9 and 0.9.
        nesterov: of SGD.
        trust: LARS's coefficient: a matrix moves by about this share of its norm times the rate.
    """

    kind: Literal["adamw", "lamb", "muon", "sgd", "lars"] = "adamw"
    lr: float = Field(1.5e-4, gt=0)
    base_lr: float | None = Field(None, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    decayed: Literal["matrices", "all"] = "matrices"
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: float = Field(1e-8, gt=0)
    clip: float = Field(0.0, ge=0)
    layer_decay: float = Field(1.0, gt=0, le=1)
    bias_scale: float = Field(1.0, gt=0)
    momentum: Beta | None = None
    nesterov: bool = False
    trust: float = Field(1e-3, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, values: Any) -> Any:
        """Let `lr=null` take a recipe's rate away, so that `base_lr` can be given."""
        absent = isinstance(values, dict) and values.get("lr", 0) is None
        return {k: v for k, v in values.items() if k != "lr"} if absent else values

    @model_validator(mode="after")
    def _of_this_kind(self) -> Self:
        given = self.model_fields_set
        if self.kind in ("sgd", "lars"):
            rate = "lr" in given or self.base_lr is not None
            if not rate or "weight_decay" not in given:
                raise ValueError(
                    f"kind={self.kind} needs optimizer.lr (or base_lr) and optimizer.weight_decay; "
                    f"the defaults are AdamW's"
                )
        if self.nesterov and not (self.kind == "sgd" and self.inertia > 0):
            raise ValueError("nesterov=true is for kind=sgd with a momentum above 0")
        if self.kind == "lars" and self.decayed == "all":
            raise ValueError(
                "kind=lars leaves biases and norms without decay; set optimizer.decayed=matrices"
            )
        if self.kind != "lars" and self.trust != type(self).model_fields["trust"].default:
            raise ValueError(f"trust is LARS's; kind={self.kind} has none")
        return self

    @property
    def inertia(self) -> float:
        """The momentum of this kind; 0 where it has none."""
        usual = MOMENTUM.get(self.kind, 0.0)
        return self.momentum if self.kind in MOMENTUM and self.momentum is not None else usual

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
        plain = {
            "kind": "adamw",
            "decayed": "matrices",
            "layer_decay": 1.0,
            "bias_scale": 1.0,
            "nesterov": False,
        }
        for key, usual in plain.items():
            if values[key] == usual:  # as if absent: older runs go on
                del values[key]
        values["momentum"] = self.inertia
        theirs = {
            "momentum": MOMENTUM,
            "trust": ("lars",),
            "betas": ("adamw", "lamb", "muon"),
            "eps": ("adamw", "lamb", "muon"),
        }
        return {key: v for key, v in values.items() if self.kind in theirs.get(key, (self.kind,))}
