"""Momentum contrast (He et al., arXiv 1911.05722; v2: 2003.04297; v3: Chen et al., 2104.02057)."""

from typing import Literal

from torch import Tensor

from pretrain.losses import info_nce
from pretrain.objectives.contrast.momentum import Compared, MomentumConfig, MomentumContrast


class MoCoConfig(MomentumConfig):
    """Momentum contrast, see `MomentumConfig`.

    The loss of `v3` is the published one: the sum of both directions times twice the temperature.

    Attributes:
        kind: tells objectives apart.
    """

    kind: Literal["moco"] = "moco"


class MoCo(MomentumContrast):
    """Each view is told from all others by the other view of its sample."""

    config: MoCoConfig

    def terms(self, query: Tensor, labels: Tensor | None, compared: Compared) -> dict[str, Tensor]:
        """Return InfoNCE, for `v3` so that the mean of both directions is their published sum."""
        del labels
        loss = instance_loss(query, compared, self.config.temperature)
        if self.config.version == "v2":
            return {"loss": loss}
        directions = 2 if self.symmetric else 1
        return {"loss": directions * 2 * self.config.temperature * loss}


def instance_loss(query: Tensor, compared: Compared, temperature: float) -> Tensor:
    """Return InfoNCE of each query with its own key among the rows it is compared with."""
    return info_nce(
        query,
        compared.keys,
        temperature=temperature,
        own=compared.own,
        allowed=compared.allowed,
        queue=compared.queue,
        queue_allowed=compared.filled,
    )
