"""A masked autoencoder as one writes it in plain PyTorch, of one group of bands or several.

MAE (He et al., arXiv 2111.06377) on images of many bands, and with groups SatMAE (Cong et al.,
arXiv 2207.08051): a convolution a group over the whole image, one draw of masks over the tokens of
all groups, codes of place and group side by side, a decoder over all tokens, targets of mean 0 and
variance 1 within a token. timm's blocks, so scaled dot product attention.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.mae_baselines import Decoder, Encoder, random_order, rows, xavier
from fm.models.positions import sincos_1d, sincos_2d


class PlainMAE(nn.Module):
    """The masked autoencoder.

    Args:
        groups: channel numbers of each group.
        side: of the image in pixels.
        width: of the ViT.
        depth: of the ViT.
        heads: of the ViT.
        code: width of the group's code, of the ViT and of the decoder; 0 of one group.
        decoder: width, depth and heads.
        patch: side of a token in pixels.
        mask_ratio: share of hidden tokens.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        side: int,
        *,
        width: int,
        depth: int,
        heads: int,
        code: tuple[int, int],
        decoder: tuple[int, int, int],
        patch: int,
        mask_ratio: float = 0.75,
    ) -> None:
        super().__init__()
        self.groups, self.patch, self.grid = [list(g) for g in groups], patch, side // patch
        self.tokens = len(groups) * self.grid**2
        self.kept = int(self.tokens * (1 - mask_ratio))
        self.embed = nn.ModuleList(nn.Conv2d(len(g), width, patch, patch) for g in groups)
        self.encoder = Encoder(self._codes(width, code[0])[:, 1:], depth, heads)
        self.decoder = Decoder(width, self._codes(decoder[0], code[1]), *decoder[1:])
        self.heads = nn.ModuleList(nn.Linear(decoder[0], len(g) * patch**2) for g in groups)
        self.apply(xavier)

    def _codes(self, width: int, share: int) -> Tensor:
        place = sincos_2d(width - share, self.grid, self.grid)
        if not share:
            return functional.pad(place[None], (0, 0, 1, 0))
        kinds = sincos_1d(share, torch.arange(len(self.groups) + 1.0))
        parts = [torch.cat([place, kind.expand(len(place), -1)], dim=1) for kind in kinds[:-1]]
        cls = torch.cat([torch.zeros(1, width - share), kinds[-1:]], dim=1)
        return torch.cat([cls, *parts])[None]

    def forward(self, images: Tensor, order: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            images: `[B, C, S, S]`, normalised.
            order: `[B, N]`, groups one after another; the first are those the encoder sees.
        """
        if order is None:
            order = random_order(len(images), self.tokens, images.device)
        chosen = [images[:, group] for group in self.groups]
        tokens = torch.cat(
            [
                embed(x).flatten(2).transpose(1, 2)
                for embed, x in zip(self.embed, chosen, strict=True)
            ],
            dim=1,
        )
        decoded = self.decoder(self.encoder(tokens, order[:, : self.kept]), order)
        parts = decoded.chunk(len(self.groups), dim=1)
        errors = []
        for head, part, x in zip(self.heads, parts, chosen, strict=True):
            target = functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
            mean, variance = (
                target.mean(-1, keepdim=True),
                target.var(-1, keepdim=True, correction=0),
            )
            target = (target - mean) / (variance + 1e-6).sqrt()
            errors.append((head(part).float() - target).square().mean(dim=-1))
        return rows(torch.cat(errors, dim=1)[..., None], order[:, self.kept :]).mean()
