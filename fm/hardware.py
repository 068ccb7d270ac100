"""What the processors at hand can do."""

import torch


def native_bfloat16(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 matrices itself, without emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
