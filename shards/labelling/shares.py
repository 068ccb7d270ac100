"""From areas of classes in a patch to its label: fractions, or the classes that are there."""

from dataclasses import dataclass

import numpy as np

from fm.errors import UsageError
from shards.format import LabelKind

SLIVER = 1e-6
"""A smaller share of a patch is rounding at its edge, whatever `min_fraction` is."""


@dataclass(frozen=True)
class Rule:
    """When a patch has a label, and which.

    Attributes:
        kind: `multilabel` lists the classes that are there, `fractions` says the share of each.
        min_fraction: a class is there from this share of the known area on (0: with any area);
            fractions are not changed by it.
        min_valid: a patch has a label when at least this share of its area is known.
    """

    kind: LabelKind = "multilabel"
    min_fraction: float = 0.0
    min_valid: float = 0.5

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.kind not in ("multilabel", "fractions"):
            raise UsageError(f"--kind {self.kind}: give multilabel or fractions")
        for name in ("min_fraction", "min_valid"):
            if not 0 <= getattr(self, name) <= 1:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} {getattr(self, name)}: give a share, 0 to 1")

    def label(self, areas: np.ndarray, whole: float) -> list[int] | list[float] | None:
        """Return the label of a patch; None where too little is known, or no class is there.

        Args:
            areas: `[classes]` area of each class.
            whole: area of the patch, in the same unit.
        """
        known = float(areas.sum())
        if known <= 0 or known < self.min_valid * whole * (1 - SLIVER):
            return None
        shares = areas / known
        if self.kind == "fractions":
            return [float(share) for share in shares]
        there = (shares > SLIVER) & (shares >= self.min_fraction)
        return [int(k) for k in np.flatnonzero(there)] or None
