"""Load the model of this folder and run it, with torch and safetensors alone.

    from eofm_model import load

    model = load("FOLDER")  # the folder of this file, card.json and model.safetensors
    features = model({"s2l2a_10": pixels})  # [B, C, H, W]
    features["pooled"], features["tokens"]  # [B, D], [B, N, D]

Integer pixels are stored numbers, which become physical by the card's scale and offset; floating
ones are physical already (reflectance as a fraction, radar in dB). Bands and their order are in
`model.bands`. Every pixel is taken as valid. Plain ViTs and ResNets only; eofm has the rest.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ResNet", "ViT", "load"]


class Model(nn.Module):
    """What the two kinds share: bands by name, and pixels to normalised values.

    Args:
        card: what `card.json` says.
    """

    def __init__(self, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.card = card
        self.bands = {m: [b["name"] for b in bands] for m, bands in card["bands"].items()}

    def values(self, modality: str, pixels: Tensor) -> Tensor:
        """Scale and normalise `[B, C, H, W]`: float32."""
        count = len(self.bands[modality])
        if pixels.ndim != 4 or pixels.shape[1] != count:
            raise ValueError(
                f"{modality}: give [B, {count}, H, W] of {', '.join(self.bands[modality])}; got "
                f"{list(pixels.shape)}"
            )
        scale, offset = self.card["scaling"][modality]
        stored = not pixels.is_floating_point()
        x = pixels.to(torch.float32)
        x = x * scale + offset if stored else x
        told = self.card["normalisation"][modality]
        shift, divisor = (
            torch.tensor(told[key], dtype=torch.float32, device=x.device)[:, None, None]
            for key in ("shift", "scale")
        )
        x = (x - shift) / divisor
        return x.clamp(0.0, 1.0) if told["kind"] in ("clip_sigma", "percentile") else x

    def check(self, pixels: Mapping[str, Tensor]) -> None:
        """Refuse arrays that the model does not take."""
        if not pixels or set(pixels) - set(self.bands):
            raise ValueError(f"the model takes {', '.join(self.bands)}; got {', '.join(pixels)}")


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attend among tokens `[B, N, D]`."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        seen = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(seen.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inside), nn.Linear(inside, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens `[B, N, D]` one by one."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Scale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x * self.gamma


class Block(nn.Module):
    """A transformer block that normalises first."""

    def __init__(self, width: int, heads: int, inside: int, scaled: bool) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), MLP(width, inside)
        self.ls1 = Scale(width) if scaled else nn.Identity()
        self.ls2 = Scale(width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens `[B, N, D]`."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Projection(nn.Module):
    """All pixel values of a token to its vector."""

    def __init__(self, values: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(values, width)


class Embedding(nn.Module):
    """A projection for each array of a token."""

    def __init__(self, sizes: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.embed = nn.ModuleDict({m: Projection(size, width) for m, size in sizes.items()})


class ViT(Model):
    """A Vision Transformer whose tokens are squares of ground on one or more grids."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        super().__init__(card)
        self.options = options = card["architecture"]
        ((group, token_m),) = options["token_m"].items()
        self.group = group
        self.patch = {m: round(token_m / b[0]["gsd_m"]) for m, b in card["bands"].items()}
        width, scaled = options["width"], bool(options["layer_scale"])
        sizes = {m: len(b) * self.patch[m] ** 2 for m, b in self.bands.items()}
        self.patch_embed = nn.ModuleDict({group: Embedding(sizes, width)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        count = options["registers"]
        self.reg_token = nn.Parameter(torch.zeros(1, count, width)) if count else None
        self.pos_embed = None
        if options["positions"] == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + options["grid"] ** 2, width))
        inside = int(width * options["mlp_ratio"])
        self.blocks = nn.ModuleList(
            Block(width, options["heads"], inside, scaled) for _ in range(options["depth"])
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode; see the top of the file."""
        self.check(pixels)
        total, grid = None, None
        for modality, image in pixels.items():
            patch = self.patch[modality]
            height, width = image.shape[-2:]
            if height % patch or width % patch:
                raise ValueError(f"{modality}: {height}x{width} is not whole {patch} px tokens")
            here = (height // patch, width // patch)
            if grid not in (None, here):
                raise ValueError(f"{modality}: {here} tokens where another array has {grid}")
            grid = here
            x = self.values(modality, image).unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
            x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
            made = self.patch_embed[self.group].embed[modality].proj(x)  # type: ignore[union-attr, index]
            total = made if total is None else total + made
        assert total is not None, "check refuses a batch without pixels"
        assert grid is not None
        code, first = self._positions(*grid, total.device)
        front = self.cls_token + first
        if self.reg_token is not None:
            front = torch.cat([front, self.reg_token], dim=1)
        x = torch.cat([front.expand(len(total), -1, -1), total + code], dim=1)
        for block in self.blocks:
            x = block(x)
        early = bool(self.options["pre_pool_norm"])
        x = x if early else self.norm(x)
        tokens = x[:, front.shape[1] :]
        pooled = (
            tokens.float().mean(dim=1) if self.options["pooling"] == "mean" else x[:, 0].float()
        )
        return {"pooled": self.norm(pooled) if early else pooled, "tokens": tokens}

    def _positions(self, rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
        if self.pos_embed is None:
            code = sincos(self.options["width"], rows, columns).to(device)
            return code, code.new_zeros(1, 1, 1)
        table, side = self.pos_embed[0, 1:], self.options["grid"]
        if (rows, columns) != (side, side):
            image = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
            if self.options["position_resize"] == "timm":
                image = functional.interpolate(
                    image, (rows, columns), mode="bicubic", antialias=True
                )
            else:  # as DINOv2, which adds 0.1 to the number of tokens
                factor = ((rows + 0.1) / side, (columns + 0.1) / side)
                image = functional.interpolate(image, scale_factor=factor, mode="bicubic")
            table = image[0].flatten(1).T
        return table, self.pos_embed[:, :1]


def sincos(width: int, rows: int, columns: int) -> Tensor:
    """Return sines and cosines of columns, then of rows: `[rows * columns, width]`."""
    quarter = width // 4
    frequency = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    parts = []
    for axis in ("column", "row"):
        row, column = torch.meshgrid(
            torch.arange(rows, dtype=torch.float64),
            torch.arange(columns, dtype=torch.float64),
            indexing="ij",
        )
        angle = (column if axis == "column" else row).reshape(-1, 1) * frequency
        parts += [angle.sin(), angle.cos()]
    return torch.cat(parts, dim=1).float()


class Residual(nn.Module):
    """A block of a ResNet: two convolutions, or three that are narrow inside."""

    def __init__(self, wide: int, planes: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = planes * (4 if bottleneck else 1)
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = (wide, *([planes] * (len(kernels) - 1)), out)
        for i, kernel in enumerate(kernels):
            step = stride if i == len(kernels) - 2 else 1
            conv = nn.Conv2d(widths[i], widths[i + 1], kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.count = len(kernels)
        self.downsample = None
        if stride > 1 or wide != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(wide, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Transform maps `[B, C, H, W]`."""
        kept = x if self.downsample is None else self.downsample(x)
        for i in range(1, self.count + 1):
            x = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x))
            x = x.relu() if i < self.count else x
        return (x + kept).relu()


class Stages(nn.Module):
    """Stem and stages of a ResNet."""

    def __init__(self, bands: int, blocks: Sequence[int], planes: int, bottleneck: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(bands, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        wide = 64
        for stage, count in enumerate(blocks):
            inside = planes * 2**stage
            made = []
            for number in range(count):
                stride = 2 if stage and not number else 1
                made.append(Residual(wide, inside, stride, bottleneck))
                wide = inside * (4 if bottleneck else 1)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        self.count = len(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Make the last map of images `[B, C, H, W]`."""
        x = functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        for stage in range(1, self.count + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return x


class ResNet(Model):
    """A ResNet on one array; tokens are the places of its last map."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        super().__init__(card)
        options = card["architecture"]
        (names,) = self.bands.values()
        self.resnet = Stages(
            len(names), options["blocks"], options["planes"], options["bottleneck"]
        )

    def forward(self, pixels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode; see the top of the file."""
        self.check(pixels)
        ((modality, image),) = pixels.items()
        tokens = self.resnet(self.values(modality, image)).flatten(2).mT
        return {"pooled": tokens.float().mean(dim=1), "tokens": tokens}


def load(folder: str | Path = Path(__file__).parent) -> Model:
    """Load the model of a folder, in `eval()`.

    Raises:
        ValueError: the weights are not those of the card, or the model is of another kind.
    """
    folder = Path(folder)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    with open(folder / "model.safetensors", "rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != card["weights_sha256"]:
            raise ValueError(f"{folder}: model.safetensors is not the file that card.json names")
    kind = card["architecture"]["name"].partition("_")[0]
    if kind not in ("vit", "resnet"):
        raise ValueError(f"{folder}: {card['architecture']['name']} needs eofm")
    model = ViT(card) if kind == "vit" else ResNet(card)
    model.load_state_dict(load_file(str(folder / "model.safetensors")))
    return model.eval()
