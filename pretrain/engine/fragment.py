"""The DeepSpeed settings that a config names."""

from typing import Any

from fm.config import find_recipe, read_yaml
from fm.errors import UsageError
from pretrain.settings.engine import EngineConfig

OWN_KEYS = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "optimizer",
    "scheduler",
    "bf16",
    "fp16",
    "torch_autocast",
)
"""DeepSpeed settings that follow from the run's config and may not be given beside it."""


def read_fragment(config: EngineConfig) -> dict[str, Any]:
    """Read the DeepSpeed settings a config names.

    Raises:
        UsageError: there are none of that name, or they hold what follows from the config.
    """
    fragment = read_yaml(find_recipe("deepspeed", config.deepspeed))
    if taken := sorted(set(fragment) & set(OWN_KEYS)):
        raise UsageError(
            f"deepspeed settings {config.deepspeed}: {', '.join(taken)} follow from the run's "
            f"config; remove them there"
        )
    zero = fragment.get("zero_optimization", {})
    stage = zero.get("stage", 0) if isinstance(zero, dict) else None
    if stage not in (0, 1, 2, 3):
        raise UsageError(
            f"deepspeed settings {config.deepspeed}: zero_optimization.stage must be 0, 1 or 2"
        )
    if stage == 3:
        raise UsageError(
            f"deepspeed settings {config.deepspeed}: ZeRO stage 3 does not work with these models "
            f"yet (codes and class tokens are used outside their module); use zero2"
        )
    return fragment
