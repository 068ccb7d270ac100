"""`engine`: how the steps are run."""

from typing import Any, Literal

from pydantic import field_validator

from fm.config import Config
from pretrain.settings.kinds import Positive

Precision = Literal["bf16", "fp32", "pure-bf16"]


class EngineConfig(Config):
    """How the steps are run; nothing here changes what is learned.

    Attributes:
        precision: `fp32`; `bf16`, float32 parameters with bfloat16 autocast; `pure-bf16`,
            bfloat16 parameters whose float32 copy lies with the optimiser (needs ZeRO 1 to 3).
            Losses are float32 in all of them.
        micro_batch: samples a rank takes at once; null takes its whole share of the batch.
        deepspeed: name or path of the DeepSpeed settings (`configs/deepspeed`), such as `zero1`.
        activation_checkpointing: keep only the inputs of the blocks for the backward pass, which
            computes the rest again: less memory, about a third more arithmetic.
        compile: compile the blocks with `torch.compile`.
    """

    precision: Precision = "bf16"
    micro_batch: Positive | None = None
    deepspeed: str = "zero0"
    activation_checkpointing: bool = False
    compile: bool = False

    @field_validator("precision", mode="before")
    @classmethod
    def _not_half(cls, value: Any) -> Any:
        if value in ("fp16", "float16", "half"):
            raise ValueError(
                "fp16 is not offered: gradients leave its range, and CPUs do not train in it; use "
                "bf16 (float32 parameters) or pure-bf16"
            )
        return value
