"""What a backbone returns."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """What a model says about a batch.

    Attributes:
        tokens: `[B, N, D]`, the groups one after the other; inside a group image after image of a
            series, row-major inside an image.
        pooled: `[B, D]`, one vector a sample.
        grid: group to its token grid (rows, columns), in the order of `tokens`; the images of a
            series lie one below the other, so rows are T times those of one image.
        hidden: the tokens after each block, when asked for.
        cls: the class token `[B, D]` after each block, when `hidden` is asked for and there is one.
        mask: `[B, N]` bool, False for tokens that had no valid pixel; None when all are valid.
        images: T, number of images in a sample.
    """

    tokens: Tensor
    pooled: Tensor
    grid: dict[str, tuple[int, int]]
    hidden: tuple[Tensor, ...] = ()
    mask: Tensor | None = None
    images: int = 1
    cls: tuple[Tensor, ...] = ()


def pool(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Average tokens `[B, N, D]` over the valid ones (mask `[B, N]`), in float32: `[B, D]`.

    A sample without any valid token pools to zeros.
    """
    tokens = tokens.float()
    if mask is None:
        return tokens.mean(dim=1)
    weight = mask.float()[..., None]
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
