"""Float32 inside losses, whatever the autocast around them."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Return a tensor in float32 at least; float64 stays as it is."""
    return x if x.dtype == torch.float64 else x.float()
