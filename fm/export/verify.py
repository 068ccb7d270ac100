"""Whether an exported model says what ours says."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from fm.errors import FMError


@dataclass(frozen=True)
class Agreement:
    """One output on one input, ours beside the exported model's.

    Attributes:
        on: the input in words.
        output: its name.
        max_abs: largest difference.
        max_rel: the same over the largest magnitude that ours has.
        tolerance: of `max_rel`.
    """

    on: str
    output: str
    max_abs: float
    max_rel: float
    tolerance: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def agreement(
    wanted: Mapping[str, Tensor], got: Mapping[str, Tensor], *, on: str, tolerance: float, what: str
) -> list[Agreement]:
    """Compare outputs one by one.

    Args:
        wanted: output to what our model gives.
        got: what the exported model gives; it may give more.
        on: the input in words.
        tolerance: largest difference allowed, as a share of the largest magnitude of ours. Kernels
            add in another order, so single values near 0 have no relative accuracy of their own.
        what: the format, for the error.

    Raises:
        FMError: an output is missing, of another shape, not finite, or too far off.
    """
    rows = []
    for name, ours in wanted.items():
        theirs = got.get(name)
        if theirs is None or theirs.shape != ours.shape:
            shape = "nothing" if theirs is None else str(list(theirs.shape))
            raise FMError(
                f"{what}: on {on} it gives {shape} as {name}, the model {list(ours.shape)}; "
                f"nothing was written"
            )
        ours, theirs = ours.detach().double(), theirs.detach().double()
        apart = float((ours - theirs).abs().max())
        size = float(ours.abs().max())
        share = apart / size if size > 0 else apart
        row = Agreement(on, name, apart, share, tolerance)
        if not (bool(torch.isfinite(theirs).all()) and share <= tolerance):  # NaN is not below
            raise FMError(
                f"{what}: on {on} its {name} is {share:.2g} of the largest value away from the "
                f"model's (allowed {tolerance:g}); nothing was written"
            )
        rows.append(row)
    return rows
