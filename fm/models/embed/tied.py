"""One embedding of a single-channel patch, shared by all bands (LESS ViT)."""

from torch import Tensor, nn


class TiedChannelEmbed(nn.Module):
    """Embed each band of each token by itself, with the same weights for every band.

    LESS ViT (arXiv 2605.18541, section on the tied patch embedding): a convolution from one
    channel to 2D with kernel and stride p, ReLU, and a 1x1 convolution from 2D to D. On patches
    that are cut already the first is a linear map of their p*p values, so only kept bands of kept
    tokens are computed.

    Args:
        patch: p, pixels along one side of a token.
        width: D.
    """

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Sequential(
            nn.Linear(patch**2, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Embed `[B, K, C, p, p]` normalised values as `[B, K, C, D]`."""
        return self.proj(patches.flatten(-2))
