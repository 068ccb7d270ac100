"""Masked autoencoding on native-grid tokens (He et al., arXiv 2111.06377)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn

from fm.errors import UsageError
from fm.hardware import full_precision
from fm.models import Inputs, VisionTransformer
from fm.models.backbone import Backbone
from fm.models.layout import Member
from fm.models.series import codes_at, images_in
from fm.rng import CounterRng
from pretrain import masking
from pretrain.masking import TokenMasks, spread, take
from pretrain.objective import Objective, ObjectiveBatch, Output, Panel
from pretrain.objective import Parts as LossParts
from pretrain.objectives.canvas import output_groups
from pretrain.objectives.decoders import DECODERS, JointDecoder, xavier
from pretrain.objectives.filled import Chosen, filled
from pretrain.objectives.masked import MaskedConfig
from pretrain.objectives.targets import (
    any_valid,
    band_losses,
    cut,
    cut_valid,
    moments,
    normalise_target,
    token_angle,
    token_loss,
)

Parts = dict[str, dict[str, Tensor]]
"""Group to modality to patches `[B, M, C, p, p]`."""


class MAE(Objective):
    """Predict masked tokens from visible ones; the loss is on masked tokens only.

    Args:
        backbone: its trunk sees the kept tokens of all groups together.
        config: see `MaskedConfig`.
    """

    backbone: VisionTransformer

    def __init__(self, backbone: Backbone, config: MaskedConfig) -> None:
        super().__init__()
        if not isinstance(backbone, VisionTransformer):
            raise UsageError(
                f"masked autoencoding needs a ViT, the model is {backbone.architecture.get('name')}"
            )
        settings = config.decoder
        settings.check(backbone)
        coded = backbone.group_code_width is not None
        members = [member for group in backbone.groups.values() for member in group.members]
        if config.spectral_angle and all(len(member.bands) < 2 for member in members):
            raise UsageError("objective.spectral_angle needs a group of two bands on one grid")
        self.backbone, self.config = backbone, config
        self.outputs = output_groups(backbone.groups, legacy=config.legacy_channel_order)
        mixed = {member.modality for member, _ in backbone.bases()}
        if config.legacy_channel_order and mixed:
            raise UsageError("objective.legacy_channel_order does not go with model.options.basis")
        if config.spectral_views and not mixed:
            raise UsageError("objective.spectral_views needs model.options.basis")
        if mixed:  # components are predicted in place of bands
            self.outputs = {
                name: replace(
                    group, members=tuple(map(backbone.embedding(name).seen, group.members))
                )
                for name, group in self.outputs.items()
            }
        width = settings.width
        self.decoder_embed = nn.Linear(backbone.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.decoder = DECODERS[settings.kind](width, settings.depth, settings.heads)
        self.group_code = nn.ParameterDict()
        if not coded and len(backbone.groups) > 1:
            self.group_code.update(
                {name: nn.Parameter(torch.randn(1, 1, width) * 0.02) for name in backbone.groups}
            )
        self.heads = nn.ModuleDict(
            {
                name: nn.ModuleDict(
                    {member.modality: nn.Linear(width, member.values) for member in group.members}
                )
                for name, group in self.outputs.items()
            }
        )
        for part in (self.decoder_embed, self.decoder, self.heads):
            part.apply(xavier)

    def weight(self, batch: ObjectiveBatch) -> Tensor:
        """Return the number of predicted tokens with a valid value, of readable samples."""
        if not batch.valid:
            grids = self.grids(batch.pixels)
            settings = self.config
            share, where = settings.decoder.predict, settings.decoder.where
            images = images_in(batch.pixels)
            tokens = masking.counts(grids, settings.mask, settings.mask_ratio, share, where, images)
            return batch.weight.sum() * round(sum(tokens.values()))
        inputs = self.inputs(batch)
        masks = self.masks(inputs.pixels, batch.rng, self.config.decoder.predict, inputs.images)
        counted = self.counted(inputs, masks)
        return (torch.cat(list(counted.values()), dim=1).sum(dim=1) * batch.weight).sum()

    def masks(
        self, pixels: Mapping[str, Tensor], rng: CounterRng, share: float, images: int = 1
    ) -> TokenMasks:
        """Choose tokens to keep and tokens to predict, of pixels as the encoder takes them."""
        grids = self.backbone.grids(pixels)
        settings = self.config
        where = settings.decoder.where
        return masking.draw(grids, rng, settings.mask, settings.mask_ratio, share, where, images)

    def counted(self, inputs: Inputs, masks: TokenMasks) -> dict[str, Tensor]:
        """Say which predicted tokens have a target: group to `[B, M]` bool."""
        result = {}
        for name, asked in masks.counted().items():
            here = any_valid(self._valid(inputs, masks, name), self._present(name, inputs))
            result[name] = asked if here is None else asked & here
        return result

    def _present(self, name: str, inputs: Inputs) -> list[str]:
        return [m.modality for m in self.outputs[name].members if m.modality in inputs.pixels]

    def _valid(self, inputs: Inputs, masks: TokenMasks, name: str) -> dict[str, Tensor]:
        found = {}
        for member in self.outputs[name].members:
            if member.modality in inputs.pixels:
                mask = self._cut_valid(name, member, inputs, masks.predict[name])
                if mask is not None:
                    found[member.modality] = mask
        return found

    def _cut(self, name: str, member: Member, inputs: Inputs, index: Tensor | None) -> Tensor:
        """Cut what a member's outputs are compared with."""
        embedding = self.backbone.embedding(name)
        if embedding.basis_of(member.modality) is None:
            return cut(member, inputs, index)
        return embedding.patches(inputs, index)[member.modality]

    def _cut_valid(
        self, name: str, member: Member, inputs: Inputs, index: Tensor | None
    ) -> Tensor | None:
        mixed = self.backbone.embedding(name).basis_of(member.modality) is not None
        mask = cut_valid(member, inputs, index)
        return mask.all(dim=2, keepdim=True) if mixed and mask is not None else mask

    def targets(
        self, inputs: Inputs, masks: TokenMasks, name: str
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the targets of a group's predicted tokens and their validity, by modality."""
        valid = self._valid(inputs, masks, name)
        target = {}
        for member in self.outputs[name].members:
            if member.modality in inputs.pixels:
                target[member.modality] = normalise_target(
                    self._cut(name, member, inputs, masks.predict[name]),
                    valid.get(member.modality),
                    self.config.target,
                    unbiased=self.config.legacy_unbiased_variance,
                )
        return target, valid

    def _decode(
        self, inputs: Inputs, masks: TokenMasks, *, everywhere: bool = False
    ) -> tuple[Tensor | None, Tensor]:
        """Return decoded tokens `[B, S, D]` where the encoder saw and `[B, P, D]` where asked.

        A joint decoder decodes seen tokens from themselves, a cross decoder asks for them like for
        the others.
        """
        backbone, settings = self.backbone, self.config.decoder
        tokens, valid = backbone.embed(inputs, keep=masks.keep)
        tokens = take(tokens, masks.seen)
        valid = None if valid is None else take(valid, masks.seen)
        prefix = backbone.prefix(inputs)
        encoded, _ = backbone.trunk(prefix, tokens, valid)
        context = self.decoder_embed(encoded)
        front = prefix.shape[1]
        codes = backbone.position_codes(inputs, *settings.shares)
        if self.group_code:
            codes = {name: code + self.group_code[name][0] for name, code in codes.items()}
        seen, asked = (
            take(torch.cat([codes_at(codes[n], numbers[n]) for n in codes], dim=1), chosen)
            for numbers, chosen in ((masks.keep, masks.seen), (masks.predict, masks.asked))
        )
        # the class and metadata tokens come first and have no place on the ground
        alone = backbone.prefix_code(seen.device, *settings.shares)
        placed = torch.cat([alone.expand(len(seen), front, -1), seen], dim=1)
        context = context + placed.to(context.dtype)
        queries = (asked + self.mask_token).to(context.dtype)
        if valid is not None:
            valid = torch.cat([valid.new_ones(len(valid), front), valid], dim=1)
        if not everywhere:
            return None, self.decoder(context, queries, valid)
        if not isinstance(self.decoder, JointDecoder):
            again = (seen + self.mask_token).to(context.dtype)
            decoded = self.decoder(context, torch.cat([again, queries], dim=1), valid)
            return decoded[:, : again.shape[1]], decoded[:, again.shape[1] :]
        decoded = self.decoder.everywhere(context, queries, valid)
        return decoded[:, front : context.shape[1]], decoded[:, context.shape[1] :]

    def _read(
        self,
        decoded: Tensor,
        inputs: Inputs,
        numbers: Mapping[str, Tensor],
        chosen: Tensor | None,
    ) -> Parts:
        """Apply each group's heads to its tokens; spare numbers get an output of zeros' token."""
        widths = [index.shape[1] for index in numbers.values()]
        parts = spread(decoded, chosen, sum(widths)).split(widths, dim=1)
        return {
            name: {
                member.modality: rearrange(
                    cast(nn.ModuleDict, self.heads[name])[member.modality](part),
                    "b m (c p w) -> b m c p w",
                    p=member.patch,
                    w=member.patch,
                )
                for member in self.outputs[name].members
                if member.modality in inputs.pixels
            }
            for name, part in zip(numbers, parts, strict=True)
        }

    def _predict(self, inputs: Inputs, masks: TokenMasks) -> Parts:
        """Predict the patches of the tokens that are asked for."""
        return self._read(self._decode(inputs, masks)[1], inputs, masks.predict, masks.asked)

    def _losses(
        self, batch: ObjectiveBatch, inputs: Inputs, masks: TokenMasks, predicted: Parts
    ) -> dict[str, Tensor]:
        """Return weighted losses of the predicted tokens, 0 where one does not count, by group."""
        counted = self.counted(inputs, masks)
        settings = self.config
        found = {}
        with full_precision(batch.weight.device):
            for name, parts in predicted.items():
                target, valid = self.targets(inputs, masks, name)
                losses = token_loss(parts, target, valid)
                if settings.spectral_angle and any(x.shape[2] > 1 for x in target.values()):
                    losses = losses + settings.spectral_angle * token_angle(parts, target, valid)
                found[name] = torch.where(counted[name], losses, 0.0) * batch.weight[:, None]
        return found

    def _output(
        self, batch: ObjectiveBatch, inputs: Inputs, masks: TokenMasks, predicted: Parts
    ) -> tuple[Output, Tensor]:
        """Return the loss of the predicted tokens, and how many count in each sample `[B]`."""
        number = self._number(inputs, masks)
        settings = self.config
        grids = self.backbone.grids(inputs.pixels)
        share, where = settings.decoder.predict, settings.decoder.where
        nominal = masking.counts(
            grids, settings.mask, settings.mask_ratio, share, where, inputs.images
        )
        losses = self._losses(batch, inputs, masks, predicted)
        total = torch.stack([loss.sum() for loss in losses.values()]).sum()
        metrics: dict[str, Tensor] = {}
        if len(losses) > 1:
            # scaled so that, over the whole weight, it is the mean of the group's tokens
            every = sum(nominal.values())
            for name, loss in losses.items():
                metrics[f"loss_{name}"] = loss.detach().sum() * (every / nominal[name])
        return Output(total, (number * batch.weight).sum(), metrics), number

    def _number(self, inputs: Inputs, masks: TokenMasks) -> Tensor:
        """Return how many predicted tokens of each sample count: `[B]`."""
        return torch.cat(list(self.counted(inputs, masks).values()), dim=1).sum(dim=1)

    def _seen_loss(
        self, batch: ObjectiveBatch, inputs: Inputs, masks: TokenMasks, decoded: Tensor
    ) -> Tensor:
        """Return the mean loss of each sample's seen tokens, times its predicted ones, summed."""
        swapped = TokenMasks(masks.predict, masks.keep, masks.asked, masks.seen)
        predicted = self._read(decoded, inputs, swapped.predict, swapped.asked)
        losses = torch.cat(list(self._losses(batch, inputs, swapped, predicted).values()), dim=1)
        scale = self._number(inputs, masks) / self._number(inputs, swapped).clamp(min=1)
        return (losses.sum(dim=1) * scale).sum()

    def through_views(self, inputs: Inputs, rng: CounterRng) -> Inputs:
        """Return what the encoder sees: three samples of four through a simulated sensor."""
        count = self.config.spectral_views
        if not count:
            return inputs
        views = {}
        for member, _ in self.backbone.bases():
            if member.modality in inputs.pixels:
                draw = rng.integers(f"view:{member.modality}", 1, below=4 * count)[:, 0]
                views[member.modality] = torch.where(draw < 3 * count, draw % count, -1)
        return replace(inputs, views=views, view_count=count)

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compute the loss of a batch.

        Args:
            batch: pixels as stored, and the samples' weights.
            rng: of the same samples.

        Returns:
            the sum over samples and predicted tokens of weight times `token_loss`, and the same
            for each group among the metrics; with `visible`, that of seen tokens among both.
        """
        inputs = self.inputs(batch)
        masks = self.masks(inputs.pixels, rng, self.config.decoder.predict, inputs.images)
        shown = self.through_views(inputs, rng)
        if not self.config.visible:
            return self._output(batch, inputs, masks, self._predict(shown, masks))[0]
        seen, asked = self._decode(shown, masks, everywhere=True)
        assert seen is not None
        predicted = self._read(asked, inputs, masks.predict, masks.asked)
        output, _ = self._output(batch, inputs, masks, predicted)
        loss = self._seen_loss(batch, inputs, masks, seen)
        output.metrics["loss_seen"] = loss.detach()
        output.loss_sum = output.loss_sum + self.config.visible * loss
        return output

    def parts(self, batch: ObjectiveBatch, rng: CounterRng) -> LossParts:
        """Return the squared error of each band over the predicted tokens.

        Without `spectral_angle` and `visible` the loss is their mean. Under a spectral basis they
        are of its components (`PC1` has the largest variance).
        """
        inputs = self.inputs(batch)
        masks = self.masks(inputs.pixels, rng, self.config.decoder.predict, inputs.images)
        predicted = self._predict(self.through_views(inputs, rng), masks)
        return self._parts(batch, inputs, masks, predicted)

    def _parts(
        self, batch: ObjectiveBatch, inputs: Inputs, masks: TokenMasks, predicted: Parts
    ) -> LossParts:
        counted = self.counted(inputs, masks)
        result: LossParts = {}
        with full_precision(batch.weight.device):
            for name, made in predicted.items():
                target, valid = self.targets(inputs, masks, name)
                weight = (counted[name] * batch.weight[:, None])[..., None]
                losses = band_losses(made, target, valid)
                for member in self.outputs[name].members:
                    if member.modality not in losses:
                        continue
                    error, share = losses[member.modality]
                    # a token that does not count may hold what is not a number
                    summed = torch.where(weight > 0, error * weight, 0.0).sum(dim=(0, 1))
                    pairs = torch.stack([summed, (share * weight).sum(dim=(0, 1))], dim=1)
                    mixed = self.backbone.embedding(name).basis_of(member.modality) is not None
                    for number, pair in enumerate(pairs):
                        band = f"PC{number + 1}" if mixed else member.bands[number].name
                        key = (member.modality, band)
                        result[key] = result[key] + pair if key in result else pair
        return result

    def block_modules(self) -> list[nn.Module]:
        """Return the backbone's blocks and the decoder's."""
        return [*super().block_modules(), *self.decoder.blocks]

    @torch.no_grad()
    def panels(self, batch: ObjectiveBatch, rng: CounterRng) -> list[list[Panel]]:
        """Reconstruct every masked token and put the predictions into the image."""
        inputs = self.inputs(batch)
        masks = self.masks(inputs.pixels, rng, 1.0, inputs.images)
        predicted = self._predict(inputs, masks)
        kept, counted = masks.kept(), masks.counted()
        samples: list[list[Panel]] = [[] for _ in range(len(batch.weight))]
        for name, grid in self.backbone.grids(inputs.pixels).items():
            for member in self.outputs[name].members:
                if member.modality not in inputs.pixels:
                    continue
                truth = torch.nan_to_num(self._cut(name, member, inputs, None))
                known = self._cut_valid(name, member, inputs, None)
                mean, deviation = moments(
                    truth,
                    known,
                    self.config.target,
                    unbiased=self.config.legacy_unbiased_variance,
                )
                shape = (*truth.shape[:2], -1, -1, -1)
                mean, deviation = mean.expand(shape), deviation.expand(shape)
                # normalised predictions take the mean and spread of the true token: for eyes only
                made = predicted[name][member.modality].float()
                where = masks.predict[name]
                made = made * take(deviation, where) + take(mean, where)
                whole = member.bands == self.backbone.bands[member.modality]
                label = member.modality if whole else f"{name} of {member.modality}"
                seen = Chosen(masks.keep[name], kept[name])
                asked = Chosen(where, counted[name])
                made_into = filled(label, member.bands, grid, truth, known, made, seen, asked)
                for panels, panel in zip(samples, made_into, strict=True):
                    panels.append(panel)
        return samples
