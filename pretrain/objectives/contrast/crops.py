"""Views of one size go through a backbone together, in one pass."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fm.models import Inputs


def together(views: Sequence[Inputs]) -> Inputs:
    """Join views of one size of the same samples: all samples of the first, then of the next."""
    first = views[0]
    if len(views) == 1:
        return first
    return replace(
        first,
        pixels={m: torch.cat([v.pixels[m] for v in views]) for m in first.pixels},
        valid=_masks(views),
        lonlat=_rows([v.lonlat for v in views]),
        time=_rows([v.time for v in views]),
    )


def _masks(views: Sequence[Inputs]) -> dict[str, Tensor] | None:
    """Join the masks; where one view of a modality has one, the others are all valid."""
    found: dict[str, Tensor] = {}
    for modality in views[0].pixels:
        masks = [(v.valid or {}).get(modality) for v in views]
        if any(mask is not None for mask in masks):
            found[modality] = torch.cat(
                [
                    torch.ones_like(v.pixels[modality], dtype=torch.bool) if mask is None else mask
                    for v, mask in zip(views, masks, strict=True)
                ]
            )
    return found or None


def _rows(values: Sequence[Tensor | None]) -> Tensor | None:
    """Join what all views have of their samples, or none has."""
    there = [value for value in values if value is not None]
    return torch.cat(there) if len(there) == len(values) else None
