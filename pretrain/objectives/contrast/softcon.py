"""SoftCon: pairs are as alike as their land cover (Wang et al., arXiv 2405.20462).

The authors released weights, no training code. What their texts leave open is an option here, and
docs/contrastive.md says which and why.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from fm.models import Backbone
from pretrain.augment import View
from pretrain.losses import cosines, label_similarity, soft_bce
from pretrain.losses.precision import wide
from pretrain.losses.soft_labels import Reduction
from pretrain.objective import LAND_COVER
from pretrain.objectives.contrast.moco import instance_loss
from pretrain.objectives.contrast.momentum import Compared, MomentumConfig, MomentumContrast
from pretrain.objectives.contrast.scale import LearnedScale
from pretrain.ranks import collective
from pretrain.settings.kinds import Positive


class SoftConConfig(MomentumConfig):
    """Soft contrast; `version` v2 for ResNets and v3 for ViTs, as published.

    The loss is the mean over directions of InfoNCE + `soft_weight` x the soft term: the binary
    cross-entropy of every pair's similarity against the cosine of its labels. Samples without a
    label are left out of the soft term, whose mean is over the others, and stay in InfoNCE.

    Attributes:
        kind: tells objectives apart.
        label: of the dataset: multi-hot, or fractions; of series one for each image.
        classes: of the label.
        label_threshold: fraction above which a class counts as there; null takes labels as they
            are.
        soft_weight: the paper's lambda; 0 is the contrast of instances alone.
        soft_temperature: divides the cosines of the soft term; null is `temperature`. With 1 no
            cosine meets a target near 0 or 1.
        soft_bias: is added to the cosines once they are divided.
        soft_learned: learn that temperature and bias from where they stand (SigLIP begins at 0.1
            and -10).
        soft_reduction: `mean` over the labelled pairs, `row`: sum over the columns and mean over
            the labelled rows, or `sum` over all pairs, about 3000 times the other term at a weight
            of 0.1.
        soft_diag: what the two views of a sample are to each other: `one`, alike; `label`, as
            alike as the labels of their seasons.
        mask_ratio: see `MomentumConfig`.
    """

    kind: Literal["softcon"] = "softcon"
    label: str
    classes: Positive
    label_threshold: float | None = Field(None, ge=0, lt=1)
    soft_weight: float = Field(0.1, ge=0)
    soft_temperature: float | None = Field(None, gt=0)
    soft_bias: float = 0.0
    soft_learned: bool = False
    soft_reduction: Reduction = "mean"
    soft_diag: Literal["one", "label"] = "one"
    mask_ratio: float = Field(0.5, ge=0, lt=1)


class SoftCon(MomentumContrast):
    """Views of a sample are alike, and so are places with the same land cover.

    Args:
        backbone: of single images.
        config: see `SoftConConfig`.
    """

    config: SoftConConfig

    def __init__(self, backbone: Backbone, config: SoftConConfig) -> None:
        super().__init__(backbone, config, config.classes)
        self.soft_temperature = config.soft_temperature or config.temperature
        self.soft_scale: LearnedScale | None = None
        if config.soft_learned:
            self.soft_scale = LearnedScale(1 / self.soft_temperature, None)
            self.soft_bias = nn.Parameter(torch.tensor([config.soft_bias]))
        self.label_names = (config.label,)
        self.label_sizes = {config.label: config.classes}
        self.label_kinds = {config.label: LAND_COVER}

    def labels_of(self, view: View) -> Tensor:
        """Return the labels of a view's images: `[B, C]`, NaN in rows without one."""
        labels = view.labels[self.config.label].float()
        least = self.config.label_threshold
        if least is None:
            return labels
        return torch.where(labels.isfinite(), (labels > least).float(), labels)

    def _learned(self) -> dict[str, float | Tensor]:
        """Return the temperature and the bias of the soft term."""
        if self.soft_scale is None:
            return {"temperature": self.soft_temperature, "bias": self.config.soft_bias}
        return {"temperature": 1 / self.soft_scale(), "bias": wide(self.soft_bias)[0]}

    def terms(self, query: Tensor, labels: Tensor | None, compared: Compared) -> dict[str, Tensor]:
        """Return both terms: the soft one as it is learned, and what of it can be."""
        assert labels is not None
        assert compared.labels is not None
        config = self.config
        instance = instance_loss(query, compared, config.temperature)
        columns, allowed = compared.keys, compared.allowed.expand(len(query), -1)
        if compared.queue is not None and compared.filled is not None:
            columns = torch.cat([columns, compared.queue])
            allowed = torch.cat([allowed, compared.filled.expand(len(query), -1)], dim=1)
        targets, known = label_similarity(labels, compared.labels)
        if config.soft_diag == "one":
            targets = targets.scatter(1, compared.own[:, None], 1.0)
        learned = self._learned()
        soft = soft_bce(
            cosines(query, columns),
            targets,
            known & allowed,
            **learned,
            reduction=config.soft_reduction,
            total_rows=len(query) * collective.world_size(),
        )
        labelled = soft.rows.to(instance.dtype)
        # the sum over rows will be divided by the weight of all, those without a label too
        share = 1.0 if config.soft_reduction == "sum" else _over(compared.weight, labelled)
        found = {
            "loss": instance + config.soft_weight * share * soft.loss,
            "loss_instance": instance,
            "loss_soft": share * (soft.loss - soft.floor),
            "soft_floor": share * soft.floor,
            "labelled": labelled,
        }
        if self.soft_scale is not None:
            for name, value in learned.items():
                found[f"soft_{name}"] = torch.as_tensor(value).expand(len(query))
        return found


def _over(weight: Tensor, labelled: Tensor) -> Tensor:
    """Return the weight of the global batch over that of its labelled rows; 0 without any."""
    every, some = collective.sum_over_ranks(
        torch.stack([weight.sum(), (weight * labelled).sum()])
    ).unbind()
    return torch.where(some > 0, every / some, 0.0)
