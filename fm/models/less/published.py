"""The published state-dict keys of LESS ViT, and ours.

No weights of either version were published; this is the scheme that a file would have, read off
the published module names. Ours are those of v2, except where one embedding became one a patch
size. v1 has no `attn.` level around pooling and norms.
"""

from collections.abc import Mapping

from torch import Tensor

from fm.errors import UsageError

INSIDE_ATTENTION = ("low_dim_pool.", "channel_norm.", "spatial_norm.", "attn.")
"""What v2 has one level deeper than v1."""

IGNORED = ("pos_chan_embed.periods_hw", "pos_chan_embed.periods_c")
"""Buffers that follow from the configuration."""


def our_key(published: str, patch: int) -> str | None:
    """Return our name of a published encoder key.

    Args:
        published: with or without `encoder.` in front, v1 or v2.
        patch: pixels along one side of a token.

    Returns:
        None for what this model computes itself.
    """
    key = published.removeprefix("encoder.")
    if key in IGNORED:
        return None
    for kind in ("optical", "radar"):
        front = f"{kind}_patch_embed."
        if key.startswith(front):
            return f"patch_embed.{kind}_{patch}.{key.removeprefix(front)}"
    parts = key.split(".", 2)
    if parts[0] == "blocks" and len(parts) == 3 and parts[2].startswith(INSIDE_ATTENTION):
        v2 = parts[2].startswith(("attn.low_dim_pool.", "attn.channel_norm.", "attn.spatial_norm."))
        if not v2 and not parts[2].startswith("attn.attn."):
            return f"blocks.{parts[1]}.attn.{parts[2]}"
    return key


def published_key(ours: str) -> str:
    """Return the v2 name of one of our keys, with `encoder.` in front."""
    parts = ours.split(".")
    if parts[0] == "patch_embed":
        return ".".join(["encoder", f"{parts[1].rpartition('_')[0]}_patch_embed", *parts[2:]])
    return f"encoder.{ours}"


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring published encoder weights into our names and shapes.

    Args:
        state: of a whole file or of its encoder; a decoder's keys are left out.

    Raises:
        UsageError: there is no patch embedding to read the patch size from.
    """
    encoder = {k: v for k, v in state.items() if not k.startswith("decoder.")}
    first = next((v for k, v in encoder.items() if k.endswith("patch_embed.proj.0.weight")), None)
    if first is None or first.ndim != 5:
        raise UsageError("not a LESS ViT: no patch_embed.proj.0.weight of shape (2D, 1, 1, p, p)")
    patch = first.shape[-1]
    result = {}
    for key, value in encoder.items():
        name = our_key(key, patch)
        if name is None:
            continue
        if name.startswith("patch_embed.") and value.ndim == 5:
            value = value.flatten(1)
        if name.endswith("cls_token"):
            value = value.reshape(1, 1, 1, -1)
        result[name] = value
    return result
