"""Other sizes of token and image: FlexiViT's resize of the first layer, and of a position table."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fm.adapt.carded import adapted_card
from fm.errors import UsageError
from fm.models import Backbone, VisionTransformer, rebuild
from fm.models.embed.patch_size import LARGEST, How
from fm.models.embed.tied import TiedChannelEmbed
from fm.models.galileo import Galileo
from fm.models.less import LessViT
from fm.models.plain_resnet import PlainResNet
from fm.models.positions import LARGEST_GRID, resized_table
from fm.models.spectral_resnet import SpectralResNet


def to_size(
    model: Backbone,
    *,
    patch_size: int | None = None,
    image_size: int | None = None,
    how: How = "area",
) -> tuple[Backbone, dict[str, Any]]:
    """Make a ViT, LESS ViT or Galileo for tokens of other numbers of pixels, or other images.

    The pixels keep their size on the ground, so the ground of a token changes with their number:
    `token_m` of the new model says so. To a token of more pixels the new weights give what the old
    ones gave to its image at the old size (Beyer et al., arXiv 2212.08013, section 3.4).

    Args:
        model: the source; it is not changed.
        patch_size: pixels along one side of a token, on the finest grid of each group.
        image_size: pixels along one side of an image on that grid; a learned table of positions is
            resized to its tokens. Other positions are made for whatever grid comes in.
        how: see `fm.models.embed.patch_size.How`. Galileo keeps the weights it was trained with and
            fits them itself, always `bicubic`.

    Returns:
        the new model in `eval()` and a report: `token_px` and `token_m` of each group, `from` and
        `to`; `exact`, whether no token has fewer pixels than it had; `positions`.

    Raises:
        UsageError: a model without tokens of its own size, nothing to change, an image or token
            that is not whole, or one that is too large.
    """
    name = model.architecture.get("name")
    if isinstance(model, PlainResNet | SpectralResNet):
        raise UsageError(f"{name}: a ResNet takes images of any size as it is")
    if not isinstance(model, VisionTransformer | LessViT | Galileo):
        raise UsageError(
            f"{name}: only a ViT, LESS ViT or Galileo can be given tokens of another size"
        )
    if patch_size is None and image_size is None:
        raise UsageError("give patch_size, image_size or both")
    finest = {n: min(m.bands[0].gsd_m for m in g.members) for n, g in model.groups.items()}
    own = {n: max(m.patch for m in g.members) for n, g in model.groups.items()}
    wanted = own if patch_size is None else dict.fromkeys(own, patch_size)
    for group, pixels in wanted.items():
        if patch_size is not None and not 1 <= pixels <= LARGEST:
            raise UsageError(f"patch_size {pixels}: give at least 1 px and at most {LARGEST}")
        if image_size is not None and (image_size < pixels or image_size % pixels):
            raise UsageError(
                f"image_size {image_size}: not whole tokens of {pixels} px ({group}); give a "
                f"multiple of {pixels}"
            )
    architecture = dict(model.architecture)
    architecture["token_m"] = {n: wanted[n] * finest[n] for n in wanted}
    learned = isinstance(model, VisionTransformer) and model.pos_embed is not None
    positions: dict[str, Any] = {"kind": "learned" if learned else "made for any grid"}
    if learned:
        side = grid = int(model.architecture["grid"])
        if image_size is not None:
            sides = {image_size // pixels for pixels in wanted.values()}
            if len(sides) > 1:
                raise UsageError(f"image_size {image_size}: groups make {sorted(sides)} tokens")
            (grid,) = sides
            if grid > LARGEST_GRID:
                raise UsageError(
                    f"image_size {image_size}: {grid} tokens a side; a learned table has at most "
                    f"{LARGEST_GRID}; cut the image"
                )
        positions |= {"table": {"from": side, "to": grid}, "how": model.position_resize}
        architecture["grid"] = grid
    if wanted == own and architecture.get("grid") == model.architecture.get("grid"):
        raise UsageError(
            f"{name}: its tokens have {', '.join(f'{p} px ({n})' for n, p in own.items())} already"
            + ("" if learned else " and its positions are made for any image; nothing to adapt")
        )
    other = rebuild(architecture, model.bands, model.normalisation, model.scaling)
    if isinstance(model, VisionTransformer):
        assert isinstance(other, VisionTransformer)
        state = _vit_state(model, other, how)
    elif isinstance(model, LessViT):
        assert isinstance(other, LessViT)
        state = _less_state(model, other, how)
    else:
        state, how = model.state_dict(), "bicubic"
    other.load_state_dict(state)
    before = {n: {m.modality: m.patch for m in g.members} for n, g in model.groups.items()}
    after = {n: {m.modality: m.patch for m in g.members} for n, g in other.groups.items()}
    report = {
        "resize": how,
        "token_px": {n: {"from": before[n], "to": after[n]} for n in before},
        "token_m": {
            n: {"from": g.token_m, "to": other.groups[n].token_m} for n, g in model.groups.items()
        },
        "exact": all(after[n][m] >= px for n, of in before.items() for m, px in of.items()),
        "positions": positions,
        **({} if image_size is None else {"image_px": image_size}),
    }
    other.card = adapted_card(model, other, report)
    return other.eval(), report


def _vit_state(
    model: VisionTransformer, other: VisionTransformer, how: How
) -> Mapping[str, Tensor]:
    state = dict(model.state_dict())
    for name, group in model.groups.items():
        for old, new in zip(group.members, other.groups[name].members, strict=True):
            tokenizer = model.embedding(name).member_tokenizer(old.modality)
            if old.patch != new.patch:
                tokenizer = tokenizer.resized(old.patch, new.patch, how)
            front = f"patch_embed.{name}.embed.{old.modality}."
            state |= {front + key: value for key, value in tokenizer.state_dict().items()}
    if model.pos_embed is not None and other.pos_embed is not None:
        grid = int(other.architecture["grid"])
        table = model.pos_embed.detach()
        state["pos_embed"] = resized_table(table, grid, model.position_resize)
    return state


def _less_state(model: LessViT, other: LessViT, how: How) -> Mapping[str, Tensor]:
    front = "patch_embed."
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(front)}
    for old, new in zip(model.weight_names, other.weight_names, strict=True):
        embed, wanted = model.patch_embed[old], other.patch_embed[new]
        assert isinstance(embed, TiedChannelEmbed)
        assert isinstance(wanted, TiedChannelEmbed)
        made = embed.resized(wanted.patch, how)
        state |= {f"{front}{new}.{key}": value for key, value in made.state_dict().items()}
    return state
