"""Losses that compare embeddings: pure functions of tensors, in float32 whatever the autocast.

They know nothing of ranks: rows of other processes are gathered by the caller, and what must be
summed over processes goes through a callable that it gives. Where a loss is a sum over samples it
comes as one number a row, so that the caller can weight them.
"""

from pretrain.losses.barlow import correlation, decoupled, redundancy
from pretrain.losses.contrast import cosines, info_nce, normalised
from pretrain.losses.distill import Centre, distillation, sinkhorn
from pretrain.losses.pairwise import pairwise_sigmoid
from pretrain.losses.soft_labels import SoftLabels, label_similarity, soft_bce
from pretrain.losses.subspaces import subspace_contrast

__all__ = [
    "Centre",
    "SoftLabels",
    "correlation",
    "cosines",
    "decoupled",
    "distillation",
    "info_nce",
    "label_similarity",
    "normalised",
    "pairwise_sigmoid",
    "redundancy",
    "sinkhorn",
    "soft_bce",
    "subspace_contrast",
]
