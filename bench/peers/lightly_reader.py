"""Drives lightly's masked autoencoder on timm blocks, as SpectralEarth's authors used it.

Arguments: side, batch, decoder width and heads, encoder width, depth and heads, counts.
"""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from bench.mae_baselines import SpectralEarthMAE
from bench.mae_steps import adamw, images

BANDS, PATCH, MASK = 202, 4, 0.9


class Embedding(torch.nn.Module):
    """The spectral adapter before timm's patch embedding."""

    def __init__(self, adapter: torch.nn.Module, embedding: torch.nn.Module) -> None:
        super().__init__()
        self.adapter, self.embedding = adapter, embedding

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("embedding"), name)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embed all tokens of `[B, 202, H, W]`."""
        return self.embedding(self.adapter(x[:, None]).mean(dim=2))


def main() -> None:
    """Take training steps on demand."""
    side, batch, inner, inner_heads, width, depth, heads, counted, warm = map(int, sys.argv[1:])
    import lightly
    from lightly.models import utils
    from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    vit = VisionTransformer(
        side, PATCH, 128, embed_dim=width, depth=depth, num_heads=heads, num_classes=0
    )
    encoder = MaskedVisionTransformerTIMM(vit=vit)
    same = SpectralEarthMAE(
        BANDS, side, width=width, depth=1, heads=heads, decoder=(inner, inner_heads)
    )
    vit.patch_embed = Embedding(same.adapter, vit.patch_embed)
    decoder = MAEDecoderTIMM(
        num_patches=same.tokens,
        patch_size=PATCH,
        in_chans=BANDS,
        embed_dim=width,
        decoder_embed_dim=inner,
        decoder_depth=1,
        decoder_num_heads=inner_heads,
        mlp_ratio=4.0,
    )
    module = torch.nn.ModuleList([encoder, decoder]).train()
    optimizer, x = adamw(module), images((batch, BANDS, side, side))
    size = (batch, same.tokens + 1)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        keep, mask = utils.random_token_mask(size=size, mask_ratio=MASK, device=x.device)
        encoded = decoder.embed(encoder.encode(images=x, idx_keep=keep))
        whole = utils.repeat_token(decoder.mask_token, size)
        whole = utils.set_at_index(whole, keep, encoded.type_as(whole))
        made = decoder.predict(utils.get_at_index(decoder.decode(whole), mask))
        target = utils.get_at_index(utils.patchify(x, PATCH), mask - 1)
        target = utils.normalize_mean_var(target)
        loss = (made - target).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(warm):
        loss = step()
    told = {
        "lightly": lightly.__version__,
        "batch": batch,
        "threads": torch.get_num_threads(),
        "precision": "float32",
        "parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "first loss": round(loss, 4),
    }
    print(json.dumps(told), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(counted):
            step()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
