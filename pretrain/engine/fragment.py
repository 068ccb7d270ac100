"""The DeepSpeed settings that a config names."""

from typing import Any

from fm.config import find_recipe, parse, read_yaml
from fm.errors import UsageError
from pretrain.ranks.processes import prepare_environment, quiet_stderr
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
        UsageError: there are none of that name, they hold what follows from the config, or what
            DeepSpeed does not know.
    """
    fragment = read_yaml(find_recipe("deepspeed", config.deepspeed))
    if taken := sorted(set(fragment) & set(OWN_KEYS)):
        raise UsageError(
            f"deepspeed settings {config.deepspeed}: {', '.join(taken)} follow from the run's "
            f"config; remove them there"
        )
    zero = fragment.get("zero_optimization")
    zero = zero if isinstance(zero, dict) else {}
    stage = zero.get("stage")
    if stage not in (0, 1, 2, 3):
        raise UsageError(
            f"deepspeed settings {config.deepspeed}: zero_optimization.stage must be 0, 1, 2 or 3"
        )
    prepare_environment()
    with quiet_stderr():
        from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    parse(DeepSpeedZeroConfig, zero, f"deepspeed settings {config.deepspeed}, zero_optimization")
    if stage == 0 and config.precision == "pure-bf16":
        raise UsageError(
            f"engine.precision=pure-bf16: the float32 copy of the weights lies with ZeRO's "
            f"optimiser, and deepspeed settings {config.deepspeed} are of stage 0; set "
            f"engine.deepspeed=zero1"
        )
    if stage == 3 and config.compile:
        raise UsageError(
            f"engine.compile: deepspeed settings {config.deepspeed} are of stage 3, whose hooks "
            f"cut the blocks into pieces too small to compile; set engine.compile=false, or "
            f"engine.deepspeed=zero2"
        )
    return fragment
