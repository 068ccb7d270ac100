"""What the processors at hand can do."""

from contextlib import AbstractContextManager, nullcontext

import torch


def native_bfloat16(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 matrices itself, without emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a device computes as the tensors are, whatever the autocast."""
    if device.type == "meta":  # has no autocast to switch off
        return nullcontext()
    if torch.compiler.is_exporting():  # an exported graph has no regions, and runs as traced
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
