"""Begin a model with the weights of another that takes other bands: what its first layer becomes.

`fm.adapt` makes a trained model fit other bands and adds nothing. Here training goes on:
a network of colour pictures starts one of thirteen bands, or of two radar polarisations. All
weights but the first layer's move as they are, a learned position table is resized, and what
becomes of the first layer is a policy by name, never a default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from fm.adapt.estimate import estimate
from fm.checkpoint import load_strict
from fm.errors import UsageError, suggest
from fm.models import Backbone, VisionTransformer
from fm.models.embed.linear import LinearEmbed
from fm.models.embed.patch_size import resized_kernel
from fm.models.plain_resnet import PlainResNet
from fm.models.positions import resized_table
from fm.models.towers import Towers
from fm.sensors import Band
from fm.spectral import same_band

Policy = Literal["random", "repeat_mean", "select", "zero_pad", "name_match", "nearest", "response"]
"""What the first layer becomes.

| policy | a band that the weights know | another band |
| --- | --- | --- |
| `random` | fresh weights | fresh weights (SoftCon's, arXiv 2405.20462) |
| `repeat_mean` | mean of all kernels, times old/new bands | the same (SkySense, 2312.10115) |
| `select` | its kernel | refused |
| `zero_pad` | its kernel | zeros |
| `name_match` | its kernel | fresh weights |
| `nearest` | its kernel | what `fm.adapt.estimate` makes of it, fresh where that is nothing |
| `response` | its kernel | the same, by overlap |

The last two bring kernels to the pixels of the new token (`fm.models.embed.patch_size`).
"""

POLICIES: tuple[str, ...] = get_args(Policy)


@dataclass(frozen=True)
class Column:
    """The weights that one band has in a first layer.

    Attributes:
        band: it.
        kernel: `[D, p, p]`.
    """

    band: Band
    kernel: Tensor


@dataclass(frozen=True)
class Begun:
    """How a model began.

    Attributes:
        first_layer: modality to band to where its kernel is from.
        positions: side of the position table that there was, of the one that was made of it, and
            how; None where it is as it was.
        fresh: other keys that the weights have nothing for.
    """

    first_layer: Mapping[str, Mapping[str, str]]
    positions: tuple[int, int, str] | None = None
    fresh: tuple[str, ...] = ()

    def text(self) -> str:
        """Write one line a person reads."""
        parts = []
        for modality, origins in self.first_layer.items():
            by_origin: dict[str, list[str]] = {}
            for band, origin in origins.items():
                by_origin.setdefault(origin, []).append(band)
            told = (f"{', '.join(bands)} {origin}" for origin, bands in by_origin.items())
            parts.append(f"{modality}: {', '.join(told)}")
        if self.positions is not None:
            old, new, how = self.positions
            parts.append(f"positions of {old}x{old} tokens to {new}x{new} as {how}")
        if self.fresh:
            parts.append(f"fresh: {', '.join(self.fresh)}")
        return "; ".join(parts)


def adapted_kernels(
    known: Sequence[Column],
    fresh: Sequence[Column],
    policy: Policy,
    tolerance_nm: float | None = None,
) -> tuple[list[Tensor], list[str]]:
    """Make the kernels of new bands.

    Args:
        known: of the weights that there are.
        fresh: the new bands with the random weights that they have.
        policy: see `Policy`.
        tolerance_nm: how far apart centres may lie, for `nearest`.

    Returns:
        one `[D, p, p]` a new band, in order, and where each is from.

    Raises:
        UsageError: no such policy; a band that `select` lacks; no band in common; kernels of
            another size.
    """
    if policy not in POLICIES:
        raise UsageError(f"there is no policy {policy!r}; {suggest(policy, POLICIES)}")
    names = [column.band.name for column in fresh]
    if policy in ("nearest", "response"):
        return _estimated(known, fresh, policy, tolerance_nm)
    if tolerance_nm is not None:
        raise UsageError(f"first layer: tolerance_nm is for nearest; {policy} takes none")
    if policy == "random":
        return [column.kernel for column in fresh], ["fresh"] * len(fresh)
    if policy == "repeat_mean":
        kernel = torch.stack([column.kernel for column in known]).mean(dim=0)
        kernel = kernel * (len(known) / len(fresh))
        for column in fresh:
            _fits(kernel, column, policy)
        told = f"mean of {len(known)} bands times {len(known)}/{len(fresh)}"
        return [kernel.clone() for _ in fresh], [told] * len(fresh)
    kernels, origins = [], []
    for column in fresh:
        match = next((k for k in known if same_band(k.band, column.band)), None)
        if match is not None:
            _fits(match.kernel, column, policy)
            kernels.append(match.kernel.clone())
            origins.append("its own")
        elif policy == "select":
            raise UsageError(
                f"first layer: select has no {column.band.name} among "
                f"{', '.join(k.band.name for k in known)}; zero_pad or name_match take other bands"
            )
        else:
            pad = policy == "zero_pad"
            kernels.append(torch.zeros_like(column.kernel) if pad else column.kernel)
            origins.append("zeros" if pad else "fresh")
    if "its own" not in origins:
        raise UsageError(
            f"first layer: {policy} finds none of {', '.join(names)} among "
            f"{', '.join(k.band.name for k in known)}; say which bands the weights' channels stand "
            f"for, or take random"
        )
    return kernels, origins


def _estimated(
    known: Sequence[Column],
    fresh: Sequence[Column],
    policy: Literal["nearest", "response"],
    tolerance_nm: float | None,
) -> tuple[list[Tensor], list[str]]:
    """Combine kernels by the estimate of their bands, normalised values for normalised values."""
    try:
        found = estimate(
            [column.band for column in known],
            [column.band for column in fresh],
            policy=policy,
            tolerance_nm=tolerance_nm,
            beyond="zero",
        )
    except UsageError as error:
        raise UsageError(f"first layer: {error}") from None
    kernels, origins = [], []
    for column, weights in zip(fresh, found.matrix.T, strict=True):
        used = weights.nonzero()[0]
        side = column.kernel.shape[-1]
        sources = [resized_kernel(known[k].kernel, side) for k in used]
        parts = [float(weights[k]) * s for k, s in zip(used, sources, strict=True)]
        kernel = torch.stack(parts).sum(dim=0) if parts else column.kernel
        _fits(kernel, column, policy)
        kernels.append(kernel)
        told = " + ".join(f"{weights[k]:.3g} {known[k].band.name}" for k in used)
        own = len(used) == 1 and weights[used[0]] == 1 and known[used[0]].band.name
        resized = any(known[k].kernel.shape[-1] != side for k in used)
        words = "its own" if own == column.band.name else f"from {told}" if told else "fresh"
        origins.append(f"{words}, resized" if resized else words)
    if not found.matrix.any():
        raise UsageError(
            f"first layer: {policy} finds nothing in {', '.join(k.band.name for k in known)} for "
            f"{', '.join(c.band.name for c in fresh)}; take random"
        )
    return kernels, origins


def begin_with(
    target: Backbone,
    parent: Backbone,
    policy: Policy,
    where: str,
    tolerance_nm: float | None = None,
) -> Begun:
    """Give a fresh model the weights of another of its kind; towers get them each.

    Args:
        target: with fresh weights; its first layer is what `random` keeps.
        parent: it is not changed.
        policy: of the first layer.
        where: the parent, for errors.
        tolerance_nm: how far apart centres may lie, for `nearest`.

    Returns:
        what became of what.

    Raises:
        UsageError: another kind of model or what no shape tells (heads, positions) differs; see
            `adapted_kernels`.
        FMError: the weights do not fit.
    """
    if isinstance(target, Towers):
        reports = [
            begin_with(target.tower(g), parent, policy, where, tolerance_nm) for g in target.groups
        ]
        first = {m: told for report in reports for m, told in report.first_layer.items()}
        return replace(reports[0], first_layer=first)
    if isinstance(target, VisionTransformer) and isinstance(parent, VisionTransformer):
        return _begin_vit(target, parent, policy, where, tolerance_nm)
    if isinstance(target, PlainResNet) and isinstance(parent, PlainResNet):
        return _begin_resnet(target, parent, policy, where, tolerance_nm)
    raise UsageError(
        f"{where}: {type(parent).__name__} weights do not begin a {type(target).__name__}; "
        f"ViT and ResNet begin with their own kind"
    )


def check_unseen(target: Backbone, parent: Backbone, where: str) -> None:
    """Refuse weights of a ViT that differs in what no shape tells.

    Raises:
        UsageError: names the first that differs.
    """
    if not isinstance(target, VisionTransformer) or not isinstance(parent, VisionTransformer):
        return
    for name, theirs, ours in (
        ("heads", _heads(parent), _heads(target)),
        ("positions", parent.positions, target.positions),
        ("pre_pool_norm", parent.pre_pool_norm, target.pre_pool_norm),
        ("reference_m", _reference(parent), _reference(target)),
    ):
        if theirs != ours:
            raise UsageError(
                f"{where}: {name} of the weights is {theirs}, of the model {ours}; no shape tells, "
                f"so set model.options.{name}={theirs}"
            )


def _begin_resnet(
    target: PlainResNet,
    parent: PlainResNet,
    policy: Policy,
    where: str,
    tolerance_nm: float | None,
) -> Begun:
    key = "resnet.conv1.weight"
    own, state = target.state_dict(), dict(parent.state_dict())
    fresh = _columns(target.member.bands, own[key])
    known = _columns(parent.member.bands, state[key])
    kernels, origins = adapted_kernels(known, fresh, policy, tolerance_nm)
    state[key] = torch.stack(kernels, dim=1)
    load_strict(target, state, where)
    told = {target.member.modality: _told(target.member.bands, origins)}
    return Begun(told)


def _begin_vit(
    target: VisionTransformer,
    parent: VisionTransformer,
    policy: Policy,
    where: str,
    tolerance_nm: float | None,
) -> Begun:
    check_unseen(target, parent, where)
    own = target.state_dict()
    fresh = sorted(key for key in own if key.startswith("group_embed."))
    state = {
        key: value
        for key, value in parent.state_dict().items()
        if not key.startswith(("patch_embed.", "group_embed."))
    }
    state |= {key: own[key] for key in own if key.startswith(("patch_embed.", "group_embed."))}
    told: dict[str, dict[str, str]] = {}
    columns = None if policy == "random" else _known(parent, where)
    for group in target.groups.values():
        made, origins = _tokenizers(target, group.name, columns, policy, where, tolerance_nm)
        state |= made
        told |= origins
    positions = None
    if target.pos_embed is not None and parent.pos_embed is not None:
        table, side = parent.pos_embed.detach(), _side(target.pos_embed)
        if table.shape != target.pos_embed.shape:
            positions = (_side(table), side, parent.position_resize)
            state["pos_embed"] = resized_table(table, side, parent.position_resize)
    load_strict(target, state, where)
    return Begun(told, positions, tuple(fresh))


def _tokenizers(
    target: VisionTransformer,
    group: str,
    known: tuple[list[Column], Tensor] | None,
    policy: Policy,
    where: str,
    tolerance_nm: float | None,
) -> tuple[dict[str, Tensor], dict[str, dict[str, str]]]:
    """Return the tokenizers' new weights of one group, whose tokens are the sum of its members'."""
    members = target.groups[group].members
    if known is None:
        return {}, {m.modality: _told(m.bands, ["fresh"] * len(m.bands)) for m in members}
    embedding = target.embedding(group)
    columns: list[Column] = []
    for member in members:
        tokenizer = embedding.member_tokenizer(member.modality)
        if not isinstance(tokenizer, LinearEmbed) or embedding.basis_of(member.modality):
            raise UsageError(
                f"{where}: {member.modality}: {policy} is for linear tokenizers without a basis; "
                f"take random"
            )
        columns += _columns(member.bands, tokenizer.kernel(member.patch))
    kernels, origins = adapted_kernels(known[0], columns, policy, tolerance_nm)
    state: dict[str, Tensor] = {}
    told: dict[str, dict[str, str]] = {}
    at = 0
    for number, member in enumerate(members):
        count = len(member.bands)
        told[member.modality] = _told(member.bands, origins[at : at + count])
        weight = torch.stack(kernels[at : at + count], dim=1).flatten(1)
        at += count
        front = f"patch_embed.{group}.embed.{member.modality}.proj."
        # the bias of a token, once
        bias = known[1] if number == 0 else torch.zeros_like(known[1])
        state |= {f"{front}weight": weight, f"{front}bias": bias}
    return state, told


def _known(parent: VisionTransformer, where: str) -> tuple[list[Column], Tensor]:
    if len(parent.groups) != 1:
        raise UsageError(
            f"{where}: the weights have tokens of {', '.join(parent.groups)}; a first layer is "
            f"adapted from one group, or take random"
        )
    ((name, group),) = parent.groups.items()
    embedding = parent.embedding(name)
    columns: list[Column] = []
    biases = []
    for member in group.members:
        tokenizer = embedding.member_tokenizer(member.modality)
        if not isinstance(tokenizer, LinearEmbed) or embedding.basis_of(member.modality):
            raise UsageError(f"{where}: its tokenizer is not linear; take random")
        columns += _columns(member.bands, tokenizer.kernel(member.patch))
        biases.append(tokenizer.proj.bias.detach())
    return columns, torch.stack(biases).sum(dim=0)


def _told(bands: Sequence[Band], origins: Sequence[str]) -> dict[str, str]:
    return {band.name: origin for band, origin in zip(bands, origins, strict=True)}


def _columns(bands: Sequence[Band], weight: Tensor) -> list[Column]:
    """Take a kernel `[D, C, p, p]` apart."""
    return [Column(b, weight[:, i].detach().clone()) for i, b in enumerate(bands)]


def _fits(kernel: Tensor, column: Column, policy: str) -> None:
    if kernel.shape != column.kernel.shape:
        theirs, ours = kernel.shape, column.kernel.shape
        raise UsageError(
            f"first layer: {policy}: kernels of {theirs[-1]}x{theirs[-1]} px and width {theirs[0]} "
            f"do not fit {column.band.name}, of {ours[-1]}x{ours[-1]} px and width {ours[0]}; set "
            f"model.token_m, or take random"
        )


def _heads(model: VisionTransformer) -> int:
    return int(cast(Any, model.blocks[0]).attn.num_heads)


def _reference(model: VisionTransformer) -> float | None:
    return model.reference_m if model.metric else None


def _side(table: Tensor) -> int:
    return round((table.shape[1] - 1) ** 0.5)
