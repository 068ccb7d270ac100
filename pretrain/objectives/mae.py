"""Masked autoencoding on native-grid tokens (He et al., arXiv 2111.06377)."""

from collections.abc import Mapping
from typing import Literal

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor, nn

from fm.config import Config
from fm.errors import UsageError
from fm.models import Inputs, VisionTransformer
from fm.models.backbone import Backbone
from fm.rng import CounterRng
from pretrain.objective import Objective, ObjectiveBatch, Output, Panel
from pretrain.objectives.decoders import DECODERS


class DecoderConfig(Config):
    """The decoder, which is thrown away after pretraining.

    Attributes:
        kind: `joint` (MAE) or `cross` (CrossMAE).
        width: a multiple of 4 and of `heads`.
        depth: blocks.
        heads: attention heads.
        predict: share of the masked tokens that are predicted; below 1 only with `cross`.
    """

    kind: Literal["joint", "cross"] = "cross"
    width: int = Field(128, gt=0, multiple_of=4)
    depth: int = Field(2, gt=0)
    heads: int = Field(4, gt=0)
    predict: float = Field(1.0, gt=0, le=1)


class MAEConfig(Config):
    """Masked autoencoding.

    Attributes:
        kind: tells objectives apart.
        mask_ratio: share of the tokens that the encoder does not see, in each group.
        target: what is predicted: `token` normalises the target to mean 0 and variance 1 within
            each token and modality (the paper's normalised pixels, sec. 4.1); `pixel` predicts
            the normalised input as it is.
        decoder: see `DecoderConfig`.
    """

    kind: Literal["mae"] = "mae"
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    target: Literal["token", "pixel"] = "token"
    decoder: DecoderConfig = DecoderConfig()


TARGET_EPSILON = 1e-6
"""Added to the variance of a token before the square root, as in the paper's reference."""


def normalise_target(patches: Tensor) -> Tensor:
    """Bring each token to mean 0 and variance 1 over its values.

    Args:
        patches: `[B, M, C, p, p]` float32.
    """
    values = patches.flatten(2)
    mean = values.mean(dim=-1, keepdim=True)
    variance = values.var(dim=-1, keepdim=True, correction=0)
    return ((values - mean) / (variance + TARGET_EPSILON).sqrt()).unflatten(2, patches.shape[2:])


def token_loss(predicted: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Tensor:
    """Mean squared error of each token, every band counting the same whatever its grid.

    Args:
        predicted: modality to `[B, M, C, p, p]`.
        target: the same shapes.

    Returns:
        `[B, M]` float32: the mean over bands of the mean over the band's pixels.
    """
    total: Tensor | None = None
    bands = 0
    for modality, wanted in target.items():
        error = (predicted[modality].float() - wanted).square().mean(dim=(-2, -1)).sum(dim=-1)
        total = error if total is None else total + error
        bands += wanted.shape[2]
    assert total is not None
    return total / bands


def kept_count(tokens: int, mask_ratio: float) -> int:
    """Return how many of `tokens` the encoder sees: at least 1, at most all but one."""
    return min(max(int(tokens * (1 - mask_ratio) + 0.5), 1), max(tokens - 1, 1))


class MAE(Objective):
    """Predict masked tokens from visible ones; the loss is on masked tokens only.

    Args:
        backbone: its trunk sees the kept tokens of all groups together.
        config: see `MAEConfig`.
    """

    backbone: VisionTransformer

    def __init__(self, backbone: Backbone, config: MAEConfig) -> None:
        super().__init__()
        if not isinstance(backbone, VisionTransformer):
            raise UsageError(
                f"objective mae needs a ViT, the model is {backbone.architecture.get('name')}"
            )
        settings = config.decoder
        if settings.kind == "joint" and settings.predict < 1:
            raise UsageError(
                "objective.decoder.predict below 1 needs objective.decoder.kind=cross: a joint "
                "decoder's tokens see each other"
            )
        if settings.width % settings.heads:
            raise UsageError("objective.decoder.width must be a multiple of its heads")
        self.backbone, self.config = backbone, config
        width = settings.width
        self.decoder_embed = nn.Linear(backbone.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.decoder = DECODERS[settings.kind](width, settings.depth, settings.heads)
        self.group_code = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(1, 1, width) * 0.02) for name in backbone.groups}
        )
        self.heads = nn.ModuleDict(
            {
                member.modality: nn.Linear(width, member.values)
                for group in backbone.groups.values()
                for member in group.members
            }
        )
        for part in (self.decoder_embed, self.decoder, self.heads):
            part.apply(_xavier)

    def _predicted_count(self, tokens: int, share: float) -> int:
        if tokens < 2:
            raise UsageError("a sample of one token has nothing to predict; make token_m smaller")
        masked = tokens - kept_count(tokens, self.config.mask_ratio)
        return max(int(masked * share + 0.5), 1)

    def weight(self, batch: ObjectiveBatch) -> Tensor:
        """Return the number of predicted tokens of readable samples."""
        share = self.config.decoder.predict
        grids = self.backbone.grids(batch.pixels)
        tokens = sum(self._predicted_count(rows * cols, share) for rows, cols in grids.values())
        return batch.weight.sum() * tokens

    def masks(
        self, pixels: Mapping[str, Tensor], rng: CounterRng, share: float
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Choose tokens to keep and tokens to predict, each group on its own.

        Returns:
            group to `[B, K]` kept and `[B, M]` predicted token numbers, disjoint.
        """
        keep, predict = {}, {}
        for name, (rows, columns) in self.backbone.grids(pixels).items():
            tokens = rows * columns
            order = rng.permutation(f"mask:{name}", tokens)
            kept = kept_count(tokens, self.config.mask_ratio)
            keep[name] = order[:, :kept]
            predict[name] = order[:, kept : kept + self._predicted_count(tokens, share)]
        return keep, predict

    def _predict(
        self,
        inputs: Inputs,
        keep: Mapping[str, Tensor],
        predict: Mapping[str, Tensor],
    ) -> dict[str, dict[str, Tensor]]:
        """Predict patches: group to modality to `[B, M, C, p, p]`."""
        tokens, mask = self.backbone.embed(inputs, keep=keep)
        prefix = self.backbone.prefix(inputs)
        encoded, _ = self.backbone.trunk(prefix, tokens, mask)
        context = self.decoder_embed(encoded)
        grids = self.backbone.grids(inputs.pixels)
        codes = self.backbone.position_codes(inputs, self.config.decoder.width)
        # the class and metadata tokens come first and have no place on the ground
        placed = [torch.zeros_like(context[:, : prefix.shape[1]])]
        placed += [codes[name][keep[name]] + self.group_code[name] for name in grids]
        context = context + torch.cat(placed, dim=1).to(context.dtype)
        queries = torch.cat(
            [codes[n][predict[n]] + self.group_code[n] + self.mask_token for n in grids], dim=1
        )
        decoded = self.decoder(context, queries.to(context.dtype))
        parts = decoded.split([predict[name].shape[1] for name in grids], dim=1)
        result: dict[str, dict[str, Tensor]] = {}
        for name, part in zip(grids, parts, strict=True):
            result[name] = {
                member.modality: rearrange(
                    self.heads[member.modality](part),
                    "b m (c p w) -> b m c p w",
                    p=member.patch,
                    w=member.patch,
                )
                for member in self.backbone.groups[name].members
                if member.modality in inputs.pixels
            }
        return result

    def forward(self, batch: ObjectiveBatch, rng: CounterRng) -> Output:
        """Compute the loss of a batch.

        Args:
            batch: pixels as stored, and the samples' weights.
            rng: of the same samples.

        Returns:
            the sum over samples and predicted tokens of weight times `token_loss`, and the same
            for each group among the metrics.
        """
        inputs = self.inputs(batch)
        keep, predict = self.masks(batch.pixels, rng, self.config.decoder.predict)
        predicted = self._predict(inputs, keep, predict)
        total = batch.weight.new_zeros(())
        metrics: dict[str, Tensor] = {}
        with torch.autocast(batch.weight.device.type, enabled=False):
            for name, parts in predicted.items():
                target = self.backbone.embedding(name).patches(inputs, predict[name])
                if self.config.target == "token":
                    target = {m: normalise_target(t) for m, t in target.items()}
                losses = token_loss(parts, target) * batch.weight[:, None]
                total = total + losses.sum()
                if len(predicted) > 1:
                    share = self.weight(batch) / (batch.weight.sum() * losses.shape[1]).clamp(min=1)
                    metrics[f"loss_{name}"] = losses.detach().sum() * share
        return Output(loss_sum=total, weight=self.weight(batch), metrics=metrics)

    @torch.no_grad()
    def panels(self, batch: ObjectiveBatch, rng: CounterRng) -> list[list[Panel]]:
        """Reconstruct every masked token and put the predictions into the image."""
        inputs = self.inputs(batch)
        keep, predict = self.masks(batch.pixels, rng, 1.0)
        predicted = self._predict(inputs, keep, predict)
        samples: list[list[Panel]] = [[] for _ in range(len(batch.weight))]
        for name, parts in predicted.items():
            grid = self.backbone.grids(batch.pixels)[name]
            whole = self.backbone.embedding(name).patches(inputs, None)
            rows = torch.arange(len(batch.weight), device=batch.weight.device)[:, None]
            for modality, patches in parts.items():
                truth = whole[modality]
                made = patches.float()
                if self.config.target == "token":
                    made = _undo_normalisation(made, truth[rows, predict[name]])
                filled, shown = truth.clone(), torch.zeros_like(truth[:, :, :1])
                filled[rows, predict[name]] = made
                shown[rows, keep[name]] = 1.0
                images = [_assemble(x, grid).cpu().numpy() for x in (truth, shown, filled)]
                for i, panels in enumerate(samples):
                    panels.append(Panel(modality, images[0][i], images[1][i, 0] > 0, images[2][i]))
        return samples


def _undo_normalisation(predicted: Tensor, truth: Tensor) -> Tensor:
    """Give normalised predictions the mean and spread of the true token (for pictures only)."""
    values = truth.flatten(2)
    mean = values.mean(dim=-1)[..., None, None, None]
    spread = (values.var(dim=-1, correction=0) + TARGET_EPSILON).sqrt()[..., None, None, None]
    return predicted * spread + mean


def _assemble(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put all tokens `[B, R*Q, C, p, p]` back into images `[B, C, H, W]`."""
    return rearrange(patches, "b (r q) c p w -> b c (r p) (q w)", r=grid[0], q=grid[1])


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
