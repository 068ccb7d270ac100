"""Losses that compare embeddings: pure functions of tensors, in float32 whatever the autocast.

They know nothing of ranks: rows of other processes are gathered by the caller, and what must be
summed over processes goes through a callable that it gives. Where a loss is a sum over samples it
comes as one number a row, so that the caller can weight them.
"""

from pretrain.losses.barlow import correlation, decoupled, redundancy
from pretrain.losses.contrast import cosines, info_nce, normalised
from pretrain.losses.distill import Centre, distillation, sinkhorn
from pretrain.losses.features import (
    cosine_distance,
    mean_of_valid,
    smooth_l1,
    squared_error,
    whitened,
)
from pretrain.losses.pairwise import pairwise_sigmoid
from pretrain.losses.relations import angle_relations, distance_relations
from pretrain.losses.soft_labels import SoftLabels, label_similarity, soft_bce
from pretrain.losses.subspaces import subspace_contrast

__all__ = [
    "Centre",
    "SoftLabels",
    "angle_relations",
    "correlation",
    "cosine_distance",
    "cosines",
    "decoupled",
    "distance_relations",
    "distillation",
    "info_nce",
    "label_similarity",
    "mean_of_valid",
    "normalised",
    "pairwise_sigmoid",
    "redundancy",
    "sinkhorn",
    "smooth_l1",
    "soft_bce",
    "squared_error",
    "subspace_contrast",
    "whitened",
]
