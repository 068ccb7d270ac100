"""The learning rate as a function of the step."""

import math


def learning_rate(step: int, *, peak: float, steps: int, warmup: int, minimum: float) -> float:
    """Linear warm-up, then half a cosine that ends where the run ends.

    Args:
        step: from 0 to `steps` - 1.
        peak: reached at step `warmup`.
        steps: of the whole run.
        warmup: the first step has 1 / `warmup` of the peak.
        minimum: reached at the last step.

    Returns:
        the learning rate of that step.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - 1 - warmup, 1)
    return minimum + (peak - minimum) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
