"""`engine`: how the steps are run."""

from typing import Literal

from fm.config import Config
from pretrain.settings.kinds import Positive


class EngineConfig(Config):
    """How the steps are run; nothing here changes what is learned.

    Attributes:
        precision: `bf16` is float32 parameters with bfloat16 autocast.
        micro_batch: samples a rank takes at once; null takes its whole share of the batch.
        deepspeed: name or path of the DeepSpeed settings (`configs/deepspeed`), such as `zero1`.
    """

    precision: Literal["bf16", "fp32"] = "bf16"
    micro_batch: Positive | None = None
    deepspeed: str = "zero0"
