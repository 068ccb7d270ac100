"""Hyper-MAE: masked autoencoding of channels and positions (LESS ViT)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from pydantic import Field, model_validator
from torch import Tensor, nn

from fm.config import Config
from fm.errors import UsageError
from fm.hardware import full_precision
from fm.models import Inputs
from fm.models.backbone import Backbone
from fm.models.less import Axis, LessViT
from fm.models.less.embed import Patches, cut, valid_cells
from fm.rng import CounterRng
from pretrain.masking import kept_count
from pretrain.objective import Objective, ObjectiveBatch, Output, Panel, Parts
from pretrain.objectives.decoders import xavier
from pretrain.objectives.less_decoder import LessDecoder, LessDecoderConfig
from pretrain.objectives.targets import moments, normalise_target

FEWEST = 2
"""Channels that are always kept, where there are as many."""


class HyperMAEConfig(Config):
    """Hyper-MAE (arXiv 2503.12843 and 2605.18541, sections on pretraining).

    Attributes:
        kind: tells objectives apart.
        channel_mask: share of the channels that the encoder does not see, drawn for each sample.
        position_mask: share of the positions, likewise and independently.
        channel_sampling: hierarchical channel sampling: least and largest share of channels that
            a step leaves out altogether. One draw serves the whole global batch. Null uses all.
        target: `pixel` predicts normalised pixels (as published runs), `band` brings each cell's
            pixels to mean 0 and variance 1 first.
        position_weight: of each cell at a hidden position.
        channel_weight: of each other hidden cell: hidden channels at seen positions.
        legacy_double_count: the published loss: the mean over hidden positions plus the mean over
            hidden channels, each averaged over optical and radar, so that a cell hidden both ways
            counts twice. Takes no weights.
        decoder: see `LessDecoderConfig`.
    """

    kind: Literal["hyper_mae"] = "hyper_mae"
    channel_mask: float = Field(0.75, ge=0, lt=1)
    position_mask: float = Field(0.75, gt=0, lt=1)
    channel_sampling: tuple[float, float] | None = None
    target: Literal["pixel", "band"] = "pixel"
    position_weight: float = Field(1.0, gt=0)
    channel_weight: float = Field(1.0, gt=0)
    legacy_double_count: bool = False
    decoder: LessDecoderConfig = LessDecoderConfig()

    @model_validator(mode="after")
    def _ranges(self) -> "HyperMAEConfig":
        if self.channel_sampling is not None:
            least, largest = self.channel_sampling
            if not 0 <= least <= largest < 1:
                raise ValueError("channel_sampling: give two shares, 0 <= LEAST <= LARGEST < 1")
        if self.legacy_double_count and (self.position_weight, self.channel_weight) != (1, 1):
            raise ValueError("legacy_double_count takes no position_weight or channel_weight")
        return self


@dataclass(frozen=True)
class CellMasks:
    """What the encoder sees.

    Attributes:
        axis: the channels of this step and all positions.
        channels: `[B, L]` seen channels, places on the axis.
        positions: `[B, K]` seen positions.
    """

    axis: Axis
    channels: Tensor
    positions: Tensor

    @property
    def hidden_channels(self) -> Tensor:
        """`[B, C]` bool."""
        return _others(self.channels, len(self.axis.bands))

    @property
    def hidden_positions(self) -> Tensor:
        """`[B, N]` bool."""
        return _others(self.positions, self.axis.positions)


def _others(kept: Tensor, count: int) -> Tensor:
    hidden = torch.ones((len(kept), count), dtype=torch.bool, device=kept.device)
    return hidden.scatter(1, kept, False)


def sampled_range(channels: int, shares: tuple[float, float]) -> tuple[int, int]:
    """Return the fewest and most of `channels` that a step keeps, at least two where there are."""
    least, largest = shares
    # shares are decimal: 120 * (1 - .8) must be 24 in spite of binary rounding
    low = math.ceil(channels * (1 - largest) - 1e-9)
    high = math.floor(channels * (1 - least) + 1e-9)
    low = min(max(low, FEWEST), channels)
    return low, min(max(high, low), channels)


def seen_channels(channels: int, ratio: float) -> int:
    """Return how many channels the encoder sees: at least two where there are as many."""
    return min(max(int(channels * (1 - ratio) + 0.5), FEWEST), channels)


class HyperMAE(Objective):
    """Predict hidden cells from the seen ones: hidden by their channel, their position, or both.

    Every sample has masks of its own, with a perception field too (its part for the kept positions
    is cut out of the cached one). The channels of a step are a function of the seed and the step,
    so micro-batches and ranks agree. Which modalities take part is the batch's matter.

    Args:
        backbone: a LESS ViT.
        config: see `HyperMAEConfig`.
    """

    backbone: LessViT

    def __init__(self, backbone: Backbone, config: HyperMAEConfig) -> None:
        super().__init__()
        if not isinstance(backbone, LessViT):
            raise UsageError(
                f"objective hyper_mae needs a LESS ViT, the model is "
                f"{backbone.architecture.get('name')}; set model.name=less_nano or a larger one"
            )
        self.backbone, self.config = backbone, config
        self.decoder = LessDecoder(backbone, config.decoder)
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(config.decoder.width, int(name.rpartition("_")[2]) ** 2)
                for name in backbone.weight_names
            }
        )
        self.heads.apply(xavier)

    def axis(self, inputs: Inputs, rng: CounterRng, step: int) -> Axis:
        """Return the channels of a step, the same for every sample of it."""
        axis = self.backbone.axis(inputs)
        if axis.positions < 2:
            raise UsageError("a sample of one token has nothing to predict; make token_m smaller")
        shares, count = self.config.channel_sampling, len(axis.bands)
        if shares is None:
            return axis
        shared = CounterRng(
            rng.seed, torch.zeros(1, dtype=torch.int64), torch.tensor([step], dtype=torch.int64)
        )
        low, high = sampled_range(count, shares)
        kept = low + int(shared.integers("channels:count", 1, high - low + 1))
        return axis.select(shared.permutation("channels:which", count)[0, :kept].tolist())

    def masks(self, axis: Axis, rng: CounterRng) -> CellMasks:
        """Choose the channels and the positions that the encoder sees, each sample its own."""
        count, positions = len(axis.bands), axis.positions
        channels = rng.permutation("mask:channels", count)
        channels = channels[:, : seen_channels(count, self.config.channel_mask)]
        place = rng.permutation("mask:positions", positions)
        place = place[:, : kept_count(positions, self.config.position_mask)]
        return CellMasks(axis, channels.sort(dim=1).values, place.sort(dim=1).values)

    def cell_weights(self, masks: CellMasks, valid: Tensor | None) -> Tensor:
        """Return what each cell counts, `[B, C, N]` float32: once, however it is hidden.

        Args:
            masks: what is seen.
            valid: `[B, C, N]` bool, cells with a valid pixel; None when all have one.
        """
        position = masks.hidden_positions[:, None]
        channel = masks.hidden_channels[:, :, None] & ~position
        settings = self.config
        weights = position * settings.position_weight + channel * settings.channel_weight
        return weights if valid is None else weights * valid

    def weight(self, batch: ObjectiveBatch) -> Tensor:
        """Return the summed weights of hidden cells with a valid pixel, of readable samples."""
        if self.config.legacy_double_count:
            return batch.weight.sum()
        inputs = self.inputs(batch)
        axis = self.axis(inputs, batch.rng, batch.step)
        if not inputs.valid:
            count, positions = len(axis.bands), axis.positions
            kept = kept_count(positions, self.config.position_mask)
            hidden = count - seen_channels(count, self.config.channel_mask)
            each = count * (positions - kept) * self.config.position_weight
            each += hidden * kept * self.config.channel_weight
            return batch.weight.sum() * each
        masks = self.masks(axis, batch.rng)
        valid = valid_cells(cut(inputs, axis))
        return (self.cell_weights(masks, valid).sum(dim=(1, 2)) * batch.weight).sum()

    def predict(self, inputs: Inputs, masks: CellMasks) -> list[Tensor]:
        """Predict all cells: `[B, N, C, p, p]` for each part of the axis."""
        x, context = self.backbone.embed(inputs, masks.axis, masks.channels, masks.positions)
        encoded, _ = self.backbone.trunk(x, context)
        cells = self.decoder(encoded, masks.axis, masks.channels, masks.positions, context.cells)
        pieces = cells.split([len(part.bands) for part in masks.axis.parts], dim=1)
        return [
            rearrange(self.heads[part.weights](piece), "b c n (p q) -> b n c p q", p=part.patch)
            for part, piece in zip(masks.axis.parts, pieces, strict=True)
        ]

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compute the loss of a batch.

        Args:
            batch: pixels as stored, the samples' weights, and the step.
            rng: of the same samples.

        Returns:
            the sum over samples and hidden cells of the weights times the mean squared error over
            the cell's valid pixels; as metrics its means over cells at hidden positions and over
            hidden cells at seen positions.
        """
        masks, errors, valid = self._errors(batch, rng)
        with full_precision(batch.weight.device):
            if self.config.legacy_double_count:
                total = (self._double(errors, masks, valid) * batch.weight).sum()
                return Output(loss_sum=total, weight=batch.weight.sum())
            each = self.cell_weights(masks, valid) * batch.weight[:, None, None]
            weight = each.sum()
            metrics = {}
            position = masks.hidden_positions[:, None].expand_as(each)
            for name, part in (("position", position), ("channel", ~position)):
                mean = (errors.detach() * each * part).sum() / (each * part).sum().clamp(min=1e-6)
                metrics[f"loss_{name}"] = mean * weight
            return Output(loss_sum=(errors * each).sum(), weight=weight, metrics=metrics)

    def _errors(
        self, batch: ObjectiveBatch, rng: CounterRng
    ) -> tuple[CellMasks, Tensor, Tensor | None]:
        """Return the masks, and of all cells `[B, C, N]` the squared error and the validity."""
        inputs = self.inputs(batch)
        masks = self.masks(self.axis(inputs, rng, batch.step), rng)
        predicted = self.predict(inputs, masks)
        with full_precision(batch.weight.device):
            pieces = cut(inputs, masks.axis)
            errors = torch.cat(
                [self._error(made, p) for made, p in zip(predicted, pieces, strict=True)], dim=1
            )
        return masks, errors, valid_cells(pieces)

    def parts(self, batch: ObjectiveBatch, rng: CounterRng) -> Parts:
        """Return the error of each band over its hidden cells, by their weights.

        The loss is their mean, but for `legacy_double_count`. A step has only the bands it drew.
        """
        masks, errors, valid = self._errors(batch, rng)
        each = self.cell_weights(masks, valid) * batch.weight[:, None, None]
        pairs = torch.stack([(errors * each).sum(dim=(0, 2)), each.sum(dim=(0, 2))], dim=1)
        names = [(part.modality, band.name) for part in masks.axis.parts for band in part.bands]
        return dict(zip(names, pairs, strict=True))

    def _error(self, predicted: Tensor, piece: Patches) -> Tensor:
        """Return each cell's mean squared error over its valid pixels, `[B, C, N]`."""
        target = normalise_target(piece.values, piece.valid, self.config.target)
        squares = (predicted.float() - target).square()
        if piece.valid is None:
            return squares.mean(dim=(-2, -1)).transpose(1, 2)
        count = piece.valid.sum(dim=(-2, -1)).clamp(min=1)
        return ((squares * piece.valid).sum(dim=(-2, -1)) / count).transpose(1, 2)

    def _double(self, errors: Tensor, masks: CellMasks, valid: Tensor | None) -> Tensor:
        """Return the published loss of each sample, `[B]`."""
        seen = torch.ones_like(errors) if valid is None else valid.to(errors.dtype)
        kinds = [part.kind for part in masks.axis.parts for _ in part.bands]
        position = masks.hidden_positions[:, None] * seen
        channel = masks.hidden_channels[:, :, None] * seen
        result = errors.new_zeros(len(errors))
        for hidden in (position, channel):
            terms, present = [], []
            for kind in dict.fromkeys(kinds):
                own = torch.tensor([k == kind for k in kinds], device=errors.device)[:, None]
                count = (hidden * own).sum(dim=(1, 2))
                terms.append((errors * hidden * own).sum(dim=(1, 2)) / count.clamp(min=1))
                present.append(count > 0)
            kept = torch.stack(present).sum(dim=0).clamp(min=1)
            result = result + torch.stack(terms).sum(dim=0) / kept
        return result

    def block_modules(self) -> list[nn.Module]:
        """Return the backbone's blocks and the decoder's."""
        return [*super().block_modules(), *self.decoder.decoder_blocks]

    @torch.no_grad()
    def panels(self, batch: ObjectiveBatch, rng: CounterRng) -> list[list[Panel]]:
        """Reconstruct all channels and put the predictions of hidden cells into the image."""
        inputs = self.inputs(batch)
        masks = self.masks(self.backbone.axis(inputs), rng)
        hidden = masks.hidden_positions[:, None] | masks.hidden_channels[:, :, None]
        samples: list[list[Panel]] = [[] for _ in range(len(batch.weight))]
        start, grid = 0, masks.axis.grid
        predicted = self.predict(inputs, masks)
        for made, piece in zip(predicted, cut(inputs, masks.axis), strict=True):
            mean, spread = moments(piece.values, piece.valid, self.config.target)
            own = hidden[:, start : start + len(piece.part.bands)].transpose(1, 2)
            start += len(piece.part.bands)
            truth = piece.values
            if piece.valid is not None:
                truth = truth.masked_fill(~piece.valid, float("nan"))
            filled = torch.where(own[..., None, None], made.float() * spread + mean, truth)
            shown = (~masks.hidden_positions)[:, :, None, None, None].expand_as(made)
            images = [
                rearrange(x.float(), "b (r s) c p q -> b c (r p) (s q)", r=grid[0]).cpu().numpy()
                for x in (truth, shown, filled)
            ]
            for i, panels in enumerate(samples):
                given, mask, image = (x[i] for x in images)
                part = piece.part
                panels.append(Panel(part.modality, given, mask[0] > 0, image, part.bands))
        return samples
