"""The head of self-distillation: features to many outputs, the cosines with learned directions."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fm.hardware import full_precision


class Prototypes(nn.Linear):
    """Outputs that are the cosine of a row with a learned direction, times a length.

    The weight's rows are used at length 1 (weight normalisation, arXiv 1602.07868), in float32
    whatever the autocast: at a teacher temperature of 0.04 the 8 bits of bfloat16 are a tenth.

    Args:
        width: of the rows that come in.
        outputs: number of directions.
        learn_lengths: each output has a learned length; else all have 1.
    """

    def __init__(self, width: int, outputs: int, *, learn_lengths: bool = False) -> None:
        super().__init__(width, outputs, bias=False)
        nn.init.trunc_normal_(self.weight, std=0.02)
        self.lengths = nn.Parameter(torch.ones(outputs)) if learn_lengths else None

    def forward(self, rows: Tensor, still: bool = False) -> Tensor:
        """Return `[n, outputs]` float32 of rows `[n, width]`.

        Args:
            rows: brought to length 1 here.
            still: the directions and lengths get no gradient.
        """
        with full_precision(rows.device):
            weight = self.weight.detach() if still else self.weight
            directions = functional.normalize(weight.float(), dim=1)
            made = functional.normalize(rows.float(), dim=1) @ directions.T
            if self.lengths is None:
                return made
            return made * (self.lengths.detach() if still else self.lengths).float()


class DistillationHead(nn.Module):
    """Three linear layers with GELU between, then `Prototypes` (DINO, arXiv 2104.14294, app. C).

    Args:
        width: of the features.
        hidden: inside.
        bottleneck: of the rows that are compared with the directions.
        outputs: see `Prototypes`.
        learn_lengths: see `Prototypes`.
    """

    def __init__(
        self, width: int, *, hidden: int, bottleneck: int, outputs: int, learn_lengths: bool
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last = Prototypes(bottleneck, outputs, learn_lengths=learn_lengths)

    def forward(self, features: Tensor, still: bool = False) -> Tensor:
        """Return `[n, outputs]` float32; `still` as in `Prototypes`."""
        made: Tensor = self.last(self.mlp(features), still)
        return made
