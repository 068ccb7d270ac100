"""Predicted tokens put back into the image, for a person to look at."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fm.sensors import Band
from pretrain.objective import Panel
from pretrain.objectives.canvas import unpatchify


@dataclass(frozen=True)
class Chosen:
    """Some tokens of each sample.

    Attributes:
        numbers: of the tokens, `[B, M]`.
        real: false where a number is spare, `[B, M]` bool.
    """

    numbers: Tensor
    real: Tensor


def filled(
    label: str,
    bands: tuple[Band, ...],
    grid: tuple[int, int],
    truth: Tensor,
    known: Tensor | None,
    made: Tensor,
    seen: Chosen,
    asked: Chosen,
) -> list[Panel]:
    """Return a panel of each sample.

    Args:
        label: of the panels.
        bands: of the tokens.
        grid: rows and columns of tokens.
        truth: all tokens, `[B, N, C, p, p]`.
        known: where they have a value; None where all do. Elsewhere a panel has NaN.
        made: predictions `[B, M, C, p, p]` of `asked`, in the units of `truth`.
        seen: tokens that the encoder saw.
        asked: tokens that are replaced.
    """
    if known is not None:
        truth = truth.masked_fill(~known, float("nan"))
    whole, shown = truth.clone(), torch.zeros_like(truth[:, :, :1])
    row, place = asked.real.nonzero(as_tuple=True)
    whole[row, asked.numbers[row, place]] = made[row, place]
    row, place = seen.real.nonzero(as_tuple=True)
    shown[row, seen.numbers[row, place]] = 1.0
    images = [unpatchify(x, grid).cpu().numpy() for x in (truth, shown, whole)]
    return [
        Panel(label, of_truth, of_shown[0] > 0, of_made, bands)
        for of_truth, of_shown, of_made in zip(*images, strict=True)
    ]
