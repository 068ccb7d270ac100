"""Fit a trained model to other bands, other sensors, other sizes of token and image.

`estimate` says what of a model's bands other bands tell, `to_bands` takes it into a model, and
`to_size` changes pixels a token. Each returns a new model and a report, which its card keeps. A run
that trains on may also begin with a fresh first layer: `fm.first_layer`.
"""

from fm.adapt.bands import to_bands
from fm.adapt.estimate import BEYOND, POLICIES, Beyond, Estimate, Policy, estimate, policy_of
from fm.adapt.sizes import to_size
from fm.adapt.told import told

__all__ = [
    "BEYOND",
    "POLICIES",
    "Beyond",
    "Estimate",
    "Policy",
    "estimate",
    "policy_of",
    "to_bands",
    "to_size",
    "told",
]
