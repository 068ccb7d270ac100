"""What a model costs: parameters and the floating-point operations of one sample, counted."""

from collections.abc import Callable
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count(model: Any, run: Callable[[], Any]) -> dict[str, Any]:
    """Count by running once.

    Operations are those of matrix products and convolutions (`FlopCounterMode`), two a
    multiply-add, whatever the batch size of real work. Attention is run as plain products here,
    because fused kernels are not counted on a CPU.

    Args:
        model: has `parameters`, or is something that torch does not see into.
        run: encodes one sample.

    Returns:
        `parameters` and `flops`, None where they cannot be seen (ONNX), and
        `samples_per_second` None.
    """
    parameters = sum(p.numel() for p in model.parameters()) if hasattr(model, "parameters") else 0
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    flops = int(counter.get_total_flops())
    return {
        "parameters": parameters or None,
        "flops": flops or None,
        "samples_per_second": None,
    }
