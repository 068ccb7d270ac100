"""Variables of the environment that change how a run starts."""

import os
from collections.abc import Iterator, Mapping

from fm.doctor.finding import Finding

PREFIXES = ("NCCL_", "GLOO_", "TORCH_", "DS_", "CUDA_", "SLURM_", "OMP_", "MKL_", "EOFM_", "WANDB_")
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def variables(environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Say which are set, and which of those do harm."""
    env = os.environ if environment is None else environment
    told = [
        f"{name}={'...' if any(word in name for word in SECRET) else env[name]}"
        for name in sorted(env)
        if name.startswith(PREFIXES) or name in RANKS
    ]
    yield Finding("variables", ", ".join(told) or "none of those that matter is set")
    if "RANK" in env and "TORCHELASTIC_RUN_ID" not in env:
        yield Finding(
            "RANK",
            f"is {env['RANK']} of WORLD_SIZE={env.get('WORLD_SIZE', 'unset')} in this shell",
            "stop",
            "a run waits for the other ranks for ever; unset RANK WORLD_SIZE LOCAL_RANK",
        )
    if env.get("DS_BUILD_OPS", "0") not in ("", "0"):
        yield Finding(
            "DS_BUILD_OPS", "DeepSpeed compiles when it is installed", "note", "set it to 0"
        )
    if env.get("CUDA_LAUNCH_BLOCKING", "0") not in ("", "0"):
        yield Finding("CUDA_LAUNCH_BLOCKING", "every kernel is waited for", "note", "unset it")
    for name in ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_SHM_DISABLE"):
        if env.get(name, "0") not in ("", "0"):
            yield Finding(name, "the faster way between ranks is off", "note", "unset it")
