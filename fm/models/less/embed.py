"""From pixels to cells: one vector for each channel of each position."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fm.hardware import full_precision
from fm.models.embed.patches import fill_invalid, gather_patches, to_physical
from fm.models.embed.tied import TiedChannelEmbed
from fm.models.inputs import Inputs
from fm.models.less.axis import Axis, Part


@dataclass(frozen=True)
class Patches:
    """The pixels of one part's cells.

    Attributes:
        part: whose.
        values: `[B, K, C, p, p]` normalised, float32; invalid ones are filled.
        valid: `[B, K, C, p, p]` bool, None where all are.
    """

    part: Part
    values: Tensor
    valid: Tensor | None


def cut(inputs: Inputs, axis: Axis, positions: Tensor | None = None) -> list[Patches]:
    """Cut, scale and normalise cells.

    Args:
        inputs: the batch.
        axis: which channels.
        positions: `[B, K]` token numbers, None for all.
    """
    result = []
    for part in axis.parts:
        x, channels = inputs.pixels[part.modality], list(part.channels)
        whole = channels == list(range(x.shape[1]))
        normalisation = inputs.normalisation[part.modality].select(channels)
        with full_precision(x.device):
            taken = gather_patches(x if whole else x[:, channels], part.patch, positions)
            values = normalisation(to_physical(taken, *inputs.scaling[part.modality]), band_axis=2)
        valid = (inputs.valid or {}).get(part.modality)
        if valid is not None:
            if valid.ndim == 3:
                valid = valid[:, None]
            elif not whole:
                valid = valid[:, channels]
            valid = gather_patches(valid, part.patch, positions).expand_as(values)
            values = fill_invalid(values, valid)
        result.append(Patches(part, values, valid))
    return result


def valid_cells(pieces: list[Patches]) -> Tensor | None:
    """Say which cells have a valid pixel: `[B, C, K]` bool, None when no mask was given."""
    if all(piece.valid is None for piece in pieces):
        return None
    found = [
        torch.ones(piece.values.shape[:3], dtype=torch.bool, device=piece.values.device)
        if piece.valid is None
        else piece.valid.flatten(3).any(dim=3)
        for piece in pieces
    ]
    return torch.cat(found, dim=2).transpose(1, 2)


class ChannelEmbed(nn.ModuleDict):
    """The tied embeddings: one for each patch size of each kind of band.

    Args:
        names: see `Part.weights`.
        width: D.
    """

    def __init__(self, names: Iterable[str], width: int) -> None:
        made = {name: TiedChannelEmbed(int(name.rpartition("_")[2]), width) for name in names}
        super().__init__(made)

    def forward(
        self,
        inputs: Inputs,
        axis: Axis,
        positions: Tensor | None = None,
        channels: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Embed cells; those that are left out cost nothing learned.

        Args:
            inputs: the batch.
            axis: the channels.
            positions: `[B, K]` token numbers, None for all.
            channels: `[B, L]` places on the axis, None for all.

        Returns:
            `[B, C or L, N or K, D]`, and `[B, C or L, N or K]` bool, False for a cell without any
            valid pixel (None when no mask was given).
        """
        pieces = cut(inputs, axis, positions)
        valid = valid_cells(pieces)
        rows = torch.arange(inputs.size, device=pieces[0].values.device)[:, None]
        if valid is not None and channels is not None:
            valid = valid[rows, channels]
        if channels is None:
            made = [self[piece.part.weights](piece.values) for piece in pieces]
            return torch.cat(made, dim=2).transpose(1, 2), valid
        if len(pieces) == 1:
            piece = pieces[0]
            chosen = piece.values.transpose(1, 2)[rows, channels]
            return self[piece.part.weights](chosen), valid
        return self._some(pieces, channels), valid

    def _some(self, pieces: list[Patches], channels: Tensor) -> Tensor:
        """Embed chosen channels that lie in several parts, as many of each as a sample chose."""
        if channels.is_meta:
            return self._share(pieces, channels.shape[1])
        result: Tensor | None = None
        start = 0
        for piece in pieces:
            count = piece.values.shape[2]
            batch, place = ((channels >= start) & (channels < start + count)).nonzero(as_tuple=True)
            chosen = piece.values.transpose(1, 2)[batch, channels[batch, place] - start]
            made = self[piece.part.weights](chosen)
            if result is None:
                result = made.new_zeros((*channels.shape, *made.shape[1:]))
            result = result.index_put((batch, place), made)
            start += count
        assert result is not None, "an axis has at least one part"
        return result

    def _share(self, pieces: list[Patches], chosen: int) -> Tensor:
        """Embed as many channels of each part as are chosen on average; which is not known."""
        counts = [piece.values.shape[2] for piece in pieces]
        ends = [round(chosen * sum(counts[: i + 1]) / sum(counts)) for i in range(len(counts))]
        made = [
            self[piece.part.weights](piece.values.transpose(1, 2)[:, : end - start])
            for piece, start, end in zip(pieces, [0, *ends], ends, strict=False)
        ]
        return torch.cat(made, dim=1)
