"""SatMAE++: masked autoencoding with reconstruction at several scales.

Noman et al., "Rethinking transformers pre-training for multi-spectral satellite imagery"
(arXiv 2403.05419, section 4). The published targets of the finer scales are up-sampled chips,
which hold nothing that the coarse image does not; here the sample as stored is the finest scale
and the encoder takes it down-sampled. To repeat the published targets, store up-sampled chips.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fm.errors import UsageError
from fm.hardware import full_precision
from fm.models import Inputs
from fm.models.backbone import Backbone
from fm.models.embed.patches import to_physical
from fm.rng import CounterRng
from pretrain.masking import TokenMasks, Window
from pretrain.objective import ObjectiveBatch, Output
from pretrain.objective import Parts as LossParts
from pretrain.objectives.canvas import by_modality, unpatchify
from pretrain.objectives.crop import Crop, cropped
from pretrain.objectives.mae import MAE, Parts
from pretrain.objectives.masked import MaskedConfig
from pretrain.objectives.targets import Target, cut, cut_valid
from pretrain.objectives.upsample import MultiScaleHead, reach

Finer = tuple[dict[str, list[Tensor]], list[Inputs], dict[str, Tensor]]
"""Modality to its image at each finer scale, the batch there, and what of it was predicted."""


class MultiScaleConfig(MaskedConfig):
    """Multi-scale masked autoencoding.

    Attributes:
        kind: tells objectives apart.
        scales: finer scales beside the encoder's, each twice the one before; samples are
            2^scales times as large as what the encoder takes (SatMAE++: 2 for Sentinel-2, 1 for
            RGB).
        token_weight: of the mean squared error of the masked tokens.
        scale_weight: of the mean absolute error of the finer scales.
        scale_loss: `masked`, on the pixels of predicted tokens, where visible tokens enter the
            head as the input has them; `all`, as published, on all pixels, where they enter as
            the decoder's outputs, so that copying through is rewarded. `all` needs
            `decoder.predict=1`.
        target: of the tokens at the encoder's scale, see `MaskedConfig`; finer scales are always
            the normalised input.
    """

    kind: Literal["multiscale"] = "multiscale"
    scales: int = Field(2, ge=1, le=4)
    token_weight: float = Field(0.6, ge=0)
    scale_weight: float = Field(0.4, gt=0)
    scale_loss: Literal["masked", "all"] = "masked"
    target: Target = "pixel"


class MultiScaleMAE(MAE):
    """Predict masked tokens at the encoder's scale, then whole images at finer ones.

    The image that enters the head holds predictions where tokens were predicted, the input (or,
    with `scale_loss: all`, the decoder's outputs) where they were seen, and, where a cross decoder
    was asked for a part only, the band's mean over the sample's visible pixels elsewhere. There is
    one head for each grid, so bands on native grids stay on them.

    Args:
        backbone: takes the down-sampled images.
        config: see `MultiScaleConfig`.
    """

    config: MultiScaleConfig

    def __init__(self, backbone: Backbone, config: MultiScaleConfig) -> None:
        if config.scale_loss == "all" and config.decoder.predict < 1:
            raise UsageError(
                "objective.scale_loss=all needs objective.decoder.predict=1: every token is part "
                "of the images"
            )
        if config.visible or config.spectral_views:
            raise UsageError(
                "objective.visible and objective.spectral_views are of kind mae; leave them out"
            )
        if config.legacy_channel_order and config.scale_loss != "all":
            raise UsageError(
                "objective.legacy_channel_order needs objective.scale_loss=all: a visible token "
                "must not fill in bands that another group hides"
            )
        super().__init__(backbone, config)
        if self.backbone.series:
            raise UsageError(
                "objective multiscale makes images of one time; leave "
                "model.options.time_code_width out"
            )
        if self.backbone.bases():
            raise UsageError("objective multiscale makes images of bands; leave options.basis out")
        self.scale_heads = nn.ModuleDict(
            {
                modality: MultiScaleHead(len(bands), config.scales)
                for modality, bands in self.backbone.bands.items()
            }
        )

    def pyramid(self, batch: ObjectiveBatch) -> list[Inputs]:
        """Return the batch at all scales, the encoder's first and as stored last."""
        levels = [super().inputs(batch)]
        for _ in range(self.config.scales):
            levels.append(halved(levels[-1]))
        return levels[::-1]

    def inputs(self, batch: ObjectiveBatch) -> Inputs:
        """Return a batch as the encoder takes it: down-sampled."""
        return self.pyramid(batch)[0]

    def grids(self, pixels: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group for pixels as stored."""
        factor = 2**self.config.scales
        smaller = {}
        for modality, x in pixels.items():
            height, width = _whole(modality, x, factor)
            smaller[modality] = torch.empty((*x.shape[:-2], height, width), device="meta")
        return self.backbone.grids(smaller)

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compute the loss of a batch.

        Returns:
            `token_weight` times the tokens' losses plus `scale_weight` times each sample's error
            at the finer scales, which counts as much as the sample's predicted tokens; both parts
            among the metrics.
        """
        inputs, masks, predicted, finer = self._made(batch, rng)
        tokens, number = self._output(batch, inputs, masks, predicted)
        with full_precision(batch.weight.device):
            scales = (self.scale_errors(*finer) * number * batch.weight).sum()
            loss = self.config.token_weight * tokens.loss_sum + self.config.scale_weight * scales
        metrics = {"tokens": tokens.loss_sum.detach(), "scales": scales.detach(), **tokens.metrics}
        return Output(loss, tokens.weight, metrics)

    def _made(
        self, batch: ObjectiveBatch, rng: CounterRng
    ) -> tuple[Inputs, TokenMasks, Parts, Finer]:
        """Return the encoder's inputs, masks, predicted tokens, and what `scale_errors` takes."""
        levels = self.pyramid(batch)
        inputs = levels[0]
        masks = self.masks(inputs.pixels, rng, self.config.decoder.predict)
        if self.config.scale_loss == "all":
            seen, asked = self._decode(inputs, masks, everywhere=True)
            assert seen is not None
            visible: Parts | None = self._read(seen, inputs, masks.keep, masks.seen)
            predicted = self._read(asked, inputs, masks.predict, masks.asked)
        else:
            visible, predicted = None, self._predict(inputs, masks)
        images, hidden = self.canvas(inputs, masks, predicted, visible)
        if masks.window is not None:
            images, hidden, levels = self._around(masks.window, images, hidden, levels)
        made = {name: self._head(name)(image) for name, image in images.items()}
        return inputs, masks, predicted, (made, levels[1:], hidden)

    def parts(self, batch: ObjectiveBatch, rng: CounterRng) -> LossParts:
        """Return the squared error of each band's predicted tokens, and its finer scales'.

        The metric `tokens` is the mean of the first, `scales` of the second: modality
        `NAME/x2` is the absolute error at twice the encoder's resolution, and so on.
        """
        inputs, masks, predicted, finer = self._made(batch, rng)
        result = self._parts(batch, inputs, masks, predicted)
        with full_precision(batch.weight.device):
            weight = (self._number(inputs, masks) * batch.weight)[:, None]
            for step, level in enumerate(self._band_errors(*finer)):
                for modality, (error, share) in level.items():
                    pairs = torch.stack([(error * weight).sum(0), (share * weight).sum(0)], dim=1)
                    for band, pair in zip(self.backbone.bands[modality], pairs, strict=True):
                        result[f"{modality}/x{2 ** (step + 1)}", band.name] = pair
        return result

    def _head(self, modality: str) -> MultiScaleHead:
        return cast(MultiScaleHead, self.scale_heads[modality])

    def canvas(
        self, inputs: Inputs, masks: TokenMasks, predicted: Parts, visible: Parts | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Put tokens into images at the encoder's scale.

        Args:
            inputs: the batch.
            masks: of the tokens.
            predicted: patches of the predicted tokens.
            visible: patches of the visible tokens; None takes the input's.

        Returns:
            modality to `[B, C, H, W]`, and the same in bool, True where a pixel was predicted.
        """
        kept, counted = masks.kept(), masks.counted()
        images: dict[str, dict[str, Tensor]] = {}
        hidden: dict[str, dict[str, Tensor]] = {}
        for name, grid in self.backbone.grids(inputs.pixels).items():
            images[name], hidden[name] = {}, {}
            for member in self.outputs[name].members:
                if member.modality not in inputs.pixels:
                    continue
                truth, valid = cut(member, inputs, None), cut_valid(member, inputs, None)
                tokens = truth.shape[1]
                seen = _at(masks.keep[name], kept[name], tokens)[..., None, None, None]
                asked = _at(masks.predict[name], counted[name], tokens)[..., None, None, None]
                known = (seen if valid is None else seen & valid).expand_as(truth)
                total = torch.where(known, truth, 0.0).sum(dim=(1, 3, 4), keepdim=True)
                mean = total / known.sum(dim=(1, 3, 4), keepdim=True).clamp(min=1)
                image = torch.where(known, truth, mean)
                if visible is not None:
                    own = visible[name][member.modality].float()
                    image = _put(image, own, masks.keep[name], kept[name])
                own = predicted[name][member.modality].float()
                image = _put(image, own, masks.predict[name], counted[name])
                images[name][member.modality] = unpatchify(image, grid)
                hidden[name][member.modality] = unpatchify(asked.expand_as(truth), grid)
        return by_modality(images, self.outputs), by_modality(hidden, self.outputs)

    def _around(
        self,
        window: Window,
        images: Mapping[str, Tensor],
        hidden: Mapping[str, Tensor],
        levels: list[Inputs],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], list[Inputs]]:
        """Cut the window out of images and targets, with what the head looks at beside it."""
        cuts = {
            modality: Crop.around(window, image, reach(self.config.scales))
            for modality, image in images.items()
        }
        return (
            {name: part(images[name]) for name, part in cuts.items()},
            {name: part(hidden[name]) for name, part in cuts.items()},
            [cropped(level, cuts, 2**step) for step, level in enumerate(levels)],
        )

    def scale_errors(
        self,
        made: Mapping[str, list[Tensor]],
        levels: list[Inputs],
        hidden: Mapping[str, Tensor],
    ) -> Tensor:
        """Mean absolute error at the finer scales, every band counting the same.

        Args:
            made: modality to its image at each scale.
            levels: the batch at the same scales.
            hidden: modality to where pixels were predicted, at the encoder's scale.

        Returns:
            `[B]` float32: the mean over scales of the mean over bands of the mean over the pixels
            that count.
        """
        found = self._band_errors(made, levels, hidden)
        means = [
            torch.stack([error.sum(dim=1) for error, _ in level.values()]).sum(dim=0)
            for level in found
        ]
        return torch.stack(means).mean(dim=0)

    def _band_errors(
        self,
        made: Mapping[str, list[Tensor]],
        levels: list[Inputs],
        hidden: Mapping[str, Tensor],
    ) -> list[dict[str, tuple[Tensor, Tensor]]]:
        """Take `scale_errors` apart; arguments likewise.

        Returns:
            of each scale, modality to two of `[B, C]` float32: each band's share of the sample's
            error at that scale, and of its weight, which is 1 over all bands (0 without a pixel).
        """
        found = []
        for step, level in enumerate(levels):
            errors, present = {}, {}
            for modality, images in made.items():
                where = hidden[modality]
                if self.config.scale_loss == "all":
                    where = torch.ones_like(where)
                for axis in (-2, -1):
                    where = where.repeat_interleave(2 ** (step + 1), dim=axis)
                valid = (level.valid or {}).get(modality)
                if valid is not None:
                    where = where & (valid if valid.ndim == 4 else valid[:, None])
                difference = images[step].float() - normalised(level, modality)
                number = where.sum(dim=(-2, -1))
                error = torch.where(where, difference, 0.0).abs().sum(dim=(-2, -1))
                errors[modality] = error / number.clamp(min=1)
                present[modality] = (number > 0).float()
            bands = torch.stack([x.sum(dim=1) for x in present.values()]).sum(dim=0)
            bands = bands.clamp(min=1)[:, None]
            found.append({name: (errors[name] / bands, present[name] / bands) for name in made})
        return found


def normalised(inputs: Inputs, modality: str) -> Tensor:
    """Return the normalised image of a modality: `[B, C, H, W]` float32."""
    x = to_physical(inputs.pixels[modality], *inputs.scaling[modality])
    made: Tensor = inputs.normalisation[modality](x, band_axis=1)
    return made


def halved(inputs: Inputs) -> Inputs:
    """Down-sample by two: the mean of the valid ones of 2 x 2 pixels, in physical units.

    Bilinear interpolation at half size (SatMAE++'s) is that mean too. Pixels are twice as far
    apart, which `Inputs.gsd` says, so that positions in metres stay right.

    Raises:
        UsageError: an odd number of rows or columns.
    """
    pixels, valid, gsd = {}, {}, {}
    for modality, x in inputs.pixels.items():
        _whole(modality, x, 2)
        physical = to_physical(x, *inputs.scaling[modality])
        mask = (inputs.valid or {}).get(modality)
        gsd[modality] = 2 * (inputs.gsd or {}).get(modality, inputs.bands[modality][0].gsd_m)
        if mask is None:
            pixels[modality] = functional.avg_pool2d(physical, 2)
            continue
        mask = mask if mask.ndim == 4 else mask[:, None]
        share = functional.avg_pool2d(mask.float(), 2)
        mean = functional.avg_pool2d(torch.where(mask, physical, 0.0), 2)
        valid[modality] = share > 0
        pixels[modality] = mean / share.clamp(min=0.25)
        if not valid[modality].shape[1] > 1:
            valid[modality] = valid[modality][:, 0]
    return replace(inputs, pixels=pixels, valid=valid or None, gsd=gsd)


def _whole(modality: str, x: Tensor, factor: int) -> tuple[int, int]:
    height, width = x.shape[-2:]
    if height % factor or width % factor:
        raise UsageError(
            f"{modality}: {height}x{width} px cannot be down-sampled by {factor}; crop the images "
            f"(data.crop) or change objective.scales"
        )
    return height // factor, width // factor


def _at(numbers: Tensor, real: Tensor, tokens: int) -> Tensor:
    """Say of all tokens which are among the real ones of the numbers: `[B, tokens]` bool."""
    found = torch.zeros(len(numbers), tokens, dtype=torch.int64, device=numbers.device)
    return found.scatter_add(1, numbers, real.long()) > 0


def _put(image: Tensor, patches: Tensor, numbers: Tensor, real: Tensor) -> Tensor:
    """Replace the real ones of the numbered tokens of `[B, N, C, p, p]` by patches."""
    place = _at(numbers, real, image.shape[1])[..., None, None, None]
    index = numbers[..., None, None, None].expand_as(patches)
    patches = torch.where(real[..., None, None, None], patches, 0.0)
    return torch.where(place, torch.zeros_like(image).scatter_add(1, index, patches), image)
