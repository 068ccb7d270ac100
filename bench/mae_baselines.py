"""Published masked autoencoders the straightforward way, as the other side of `bench mae`.

Written from the papers' equations and the published sizes, with what their authors used: dense
embeddings of the whole image, every token in the decoder, timm's blocks (scaled dot product
attention). Masks are random numbers sorted, as in MAE (He et al., arXiv 2111.06377).
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from fm.models.positions import sincos_1d, sincos_2d

_norm = partial(nn.LayerNorm, eps=1e-6)


def blocks(width: int, depth: int, heads: int) -> nn.Sequential:
    """Return timm's transformer blocks with MAE's settings."""
    from timm.models.vision_transformer import Block  # once fm.models has mended torchvision

    made = [Block(width, heads, 4.0, qkv_bias=True, norm_layer=_norm) for _ in range(depth)]
    return nn.Sequential(*made)


def random_order(batch: int, tokens: int, device: torch.device) -> Tensor:
    """Return a permutation of the tokens for each sample, `[B, N]`."""
    return torch.rand(batch, tokens, device=device).argsort(dim=1)


def rows(tokens: Tensor, index: Tensor) -> Tensor:
    """Take `[B, K]` rows of `[B, N, D]`."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


def xavier(module: nn.Module) -> None:
    """Initialise linear layers, and patch convolutions as linear ones, as MAE does."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d) and module.stride == module.kernel_size:
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))


class Decoder(nn.Module):
    """MAE's decoder: visible and mask tokens at their places, blocks, norm.

    Args:
        inside: width of the encoder.
        codes: fixed codes of the class token and all tokens, `[1, 1 + N, width]`.
        depth: blocks.
        heads: attention heads.
    """

    codes: Tensor

    def __init__(self, inside: int, codes: Tensor, depth: int, heads: int) -> None:
        super().__init__()
        width = codes.shape[-1]
        self.register_buffer("codes", codes)
        self.embed = nn.Linear(inside, width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks, self.norm = blocks(width, depth, heads), _norm(width)

    def forward(self, encoded: Tensor, order: Tensor) -> Tensor:
        """Return all tokens in the order of the image, without the class token.

        Args:
            encoded: `[B, 1 + K, D]`.
            order: `[B, N]`, the first K are those the encoder saw.
        """
        x = self.embed(encoded)
        hidden = self.mask_token.expand(len(x), order.shape[1] + 1 - x.shape[1], -1)
        image = rows(torch.cat([x[:, 1:], hidden], dim=1), order.argsort(dim=1))
        x = torch.cat([x[:, :1], image], dim=1) + self.codes
        return self.norm(self.blocks(x))[:, 1:]


class Encoder(nn.Module):
    """MAE's encoder on tokens that are all embedded already.

    Args:
        codes: fixed codes of all tokens, `[1, N, width]`.
        depth: blocks.
        heads: attention heads.
    """

    codes: Tensor

    def __init__(self, codes: Tensor, depth: int, heads: int) -> None:
        super().__init__()
        width = codes.shape[-1]
        self.register_buffer("codes", codes)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks, self.norm = blocks(width, depth, heads), _norm(width)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Encode the kept ones `[B, K]` of `[B, N, D]`."""
        kept = rows(tokens + self.codes, keep)
        return self.norm(
            self.blocks(torch.cat([self.cls_token.expand(len(kept), -1, -1), kept], 1))
        )


class SpectralEarthMAE(nn.Module):
    """SpectralEarth's masked autoencoder (Braham et al., arXiv 2408.08447).

    Three 3-D convolutions along the spectral axis of every pixel of the whole image, batch
    normalisation, the mean over what is left of the axis, a ViT on a tenth of the tokens, and a
    decoder of one block of width 512 over all of them. Targets are whole patches (all bands
    together) of mean 0 and variance 1.

    Args:
        bands: of the image.
        side: of the image in pixels.
        width: of the ViT.
        depth: of the ViT.
        heads: of the ViT.
        decoder: width and heads of the decoder.
        patch: side of a token in pixels.
        mask_ratio: share of hidden tokens.
    """

    def __init__(
        self,
        bands: int,
        side: int,
        *,
        width: int,
        depth: int,
        heads: int,
        decoder: tuple[int, int] = (512, 16),
        patch: int = 4,
        mask_ratio: float = 0.9,
    ) -> None:
        super().__init__()
        self.patch, self.grid = patch, side // patch
        self.tokens = self.grid**2
        self.kept = int(self.tokens * (1 - mask_ratio) + 0.5)
        layers: list[nn.Module] = []
        for inside, outside, kernel, stride in ((1, 32, 7, 5), (32, 64, 7, 5), (64, 128, 5, 3)):
            shape = {"kernel_size": (kernel, 1, 1), "stride": (stride, 1, 1)}
            layers += [nn.Conv3d(inside, outside, padding=(1, 0, 0), **shape)]
            layers += [nn.BatchNorm3d(outside), nn.ReLU()]
        self.adapter = nn.Sequential(*layers)
        self.proj = nn.Conv2d(128, width, patch, patch)
        grid = (self.grid, self.grid)
        self.encoder = Encoder(sincos_2d(width, *grid)[None], depth, heads)
        codes = functional.pad(sincos_2d(decoder[0], *grid)[None], (0, 0, 1, 0))
        self.decoder = Decoder(width, codes, 1, decoder[1])
        self.head = nn.Linear(decoder[0], bands * patch**2)
        self.apply(xavier)

    def patches(self, images: Tensor) -> Tensor:
        """Cut `[B, C, H, W]` into `[B, N, C * p * p]`."""
        return functional.unfold(images, self.patch, stride=self.patch).transpose(1, 2)

    def forward(self, images: Tensor, order: Tensor | None = None) -> Tensor:
        """Return the loss of normalised images `[B, C, H, W]`; `order` as in `Decoder`."""
        if order is None:
            order = random_order(len(images), self.tokens, images.device)
        maps = self.adapter(images[:, None]).mean(dim=2)
        tokens = self.proj(maps).flatten(2).transpose(1, 2)
        decoded = self.decoder(self.encoder(tokens, order[:, : self.kept]), order)
        target = self.patches(images)
        mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True, correction=0)
        target = (target - mean) / (variance + 1e-6).sqrt()
        error = (self.head(decoded).float() - target).square().mean(dim=-1)
        return rows(error[..., None], order[:, self.kept :]).mean()


class _ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of `[B, C, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Upsample(nn.Module):
    """SatMAE++'s block: twice the size, a residual, and the image at that size."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels, channels, 4, 2, 1)
        self.norm1, self.norm2 = (_ChannelNorm(channels, eps=1e-6) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, 1, 1) for _ in range(2))
        self.out = nn.Conv2d(channels, bands, 3, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and image at twice the size."""
        z = functional.leaky_relu(self.norm1(self.up(x)))
        residual = self.conv2(functional.relu(self.conv1(z)))
        z = self.norm2(z + 0.5 * residual)
        return z, self.out(z)


class SatMAEpp(nn.Module):
    """SatMAE++ on grouped Sentinel-2 bands (Noman et al., arXiv 2403.05419).

    A convolution a group over the whole image, independent masks, codes of place and group side by
    side, a decoder of eight blocks over all tokens, and images at two and four times the size.

    Args:
        groups: channel numbers of each group.
        side: of the image in pixels.
        width: of the ViT.
        depth: of the ViT.
        heads: of the ViT.
        code: width of the group's code, of the ViT and of the decoder.
        decoder: width, depth and heads.
        patch: side of a token in pixels.
        mask_ratio: share of hidden tokens.
        scales: blocks of the multi-scale head.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[int]],
        side: int,
        *,
        width: int,
        depth: int,
        heads: int,
        code: tuple[int, int] = (256, 128),
        decoder: tuple[int, int, int] = (512, 8, 16),
        patch: int = 8,
        mask_ratio: float = 0.75,
        scales: int = 2,
    ) -> None:
        super().__init__()
        self.groups, self.patch, self.grid = [list(g) for g in groups], patch, side // patch
        self.tokens = len(groups) * self.grid**2
        self.kept = int(self.tokens * (1 - mask_ratio))
        self.embed = nn.ModuleList(nn.Conv2d(len(g), width, patch, patch) for g in groups)
        self.encoder = Encoder(self._codes(width, code[0])[:, 1:], depth, heads)
        self.decoder = Decoder(width, self._codes(decoder[0], code[1]), *decoder[1:])
        self.heads = nn.ModuleList(nn.Linear(decoder[0], len(g) * patch**2) for g in groups)
        bands = sum(map(len, groups))
        self.expand = nn.Conv2d(bands, 4 * bands, 1)
        self.expand_norm = _ChannelNorm(4 * bands, eps=1e-6)
        self.apply(xavier)
        self.ups = nn.ModuleList(Upsample(4 * bands, bands) for _ in range(scales))

    def _codes(self, width: int, share: int) -> Tensor:
        place = sincos_2d(width - share, self.grid, self.grid)
        kinds = sincos_1d(share, torch.arange(len(self.groups) + 1.0))
        parts = [torch.cat([place, kind.expand(len(place), -1)], dim=1) for kind in kinds[:-1]]
        cls = torch.cat([torch.zeros(1, width - share), kinds[-1:]], dim=1)
        return torch.cat([cls, *parts])[None]

    def images(self, decoded: Tensor) -> list[Tensor]:
        """Turn decoded tokens `[B, N, D]` into images at one, two, four times the size."""
        parts = decoded.chunk(len(self.groups), dim=1)
        first = decoded.new_zeros(len(decoded), sum(map(len, self.groups)), *[self.side] * 2)
        for group, head, part in zip(self.groups, self.heads, parts, strict=True):
            cut = head(part).transpose(1, 2)
            first[:, group] = functional.fold(cut, (self.side,) * 2, self.patch, stride=self.patch)
        result, z = [first], self.expand_norm(functional.gelu(self.expand(first)))
        for up in self.ups:
            z, image = up(z)
            result.append(image)
        return result

    @property
    def side(self) -> int:
        """Side of the smallest image in pixels."""
        return self.grid * self.patch

    def forward(self, images: Sequence[Tensor], order: Tensor | None = None) -> Tensor:
        """Return the loss.

        Args:
            images: normalised, `[B, C, S, S]` at one, two and four times the size.
            order: `[B, N]`, groups one after another; the first are those the encoder sees.
        """
        small = images[0]
        if order is None:
            order = random_order(len(small), self.tokens, small.device)
        tokens = torch.cat(
            [
                embed(small[:, group]).flatten(2).transpose(1, 2)
                for group, embed in zip(self.groups, self.embed, strict=True)
            ],
            dim=1,
        )
        made = self.images(self.decoder(self.encoder(tokens, order[:, : self.kept]), order))
        square = functional.avg_pool2d((made[0] - small).square(), self.patch)
        errors = torch.cat([square[:, group].mean(1).flatten(1) for group in self.groups], dim=1)
        masked = rows(errors[..., None], order[:, self.kept :]).mean()
        fine = [(a - b).abs().mean() for a, b in zip(made[1:], images[1:], strict=True)]
        return 0.6 * masked + 0.4 * torch.stack(fine).mean()
