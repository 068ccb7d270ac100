"""Other bands and other sensors: a linear first layer that takes the estimate of its bands in.

With R from `fm.adapt.estimate`, a band's normalisation (x - a_k) / s_k and weights w_k, a token is

    sum_k w_k ((sum_g R_kg x_g) - a_k) / s_k + b.

It is the same written with the weights v_g = t_g sum_k R_kg w_k / s_k of the bands that come in,
whatever normalisation (x - c_g) / t_g they have, and the bias

    b + sum_k w_k ((sum_g R_kg c_g) - a_k) / s_k

(the weights of all pixels of a token added up). As the rows of R add up to 1, a flat spectrum is
what it was. A band that nothing tells of is left out on both sides: it counts as its a_k, which
under `zscore` is its mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fm.adapt.build import rebuilt
from fm.adapt.estimate import Estimate, listed
from fm.errors import UsageError
from fm.models import Backbone, VisionTransformer
from fm.models.embed import LinearEmbed, Tokenizer
from fm.models.embed.patch_size import resized_kernel
from fm.models.inputs import Scaling
from fm.models.layout import Group, Member
from fm.models.layout import groups as arrange
from fm.models.plain_resnet import PlainResNet
from fm.models.registry import rebuild
from fm.normalize import CLIPPED, Kind, Normalisation
from fm.sensors import Band


@dataclass(frozen=True)
class Layer:
    """A first layer that is linear in the bands of one token group.

    Attributes:
        bands: K of them, of all modalities of the group.
        kernels: one `[D, p, p]` a band, float64; p may differ.
        shift: `[K]` of the normalisation.
        scale: `[K]`.
        kinds: kinds of normalisation.
        bias: `[D]` float64.
    """

    bands: tuple[Band, ...]
    kernels: tuple[Tensor, ...]
    shift: np.ndarray
    scale: np.ndarray
    kinds: frozenset[Kind]
    bias: Tensor

    def at(self, patch: int) -> Tensor:
        """Return the kernels at one number of pixels, as those of pixels with that area.

        Returns:
            `[D, K, patch, patch]` with the sums of the kernels.
        """
        return torch.stack([resized_kernel(k, patch, "area") for k in self.kernels], dim=1)

    def kind(self) -> Kind:
        """Return the kind of normalisation that the new bands get.

        Raises:
            UsageError: kinds that clip beside others.
        """
        if len(self.kinds) == 1:
            return next(iter(self.kinds))
        if self.kinds & set(CLIPPED):
            raise UsageError(
                f"the model normalises its bands by {', '.join(sorted(self.kinds))}, which no one "
                f"kind can stand for; give the normalisation of the new bands"
            )
        return "zscore"


def layer_of(model: Backbone, group: str) -> Layer:
    """Read the first layer of a group.

    Raises:
        UsageError: it is not linear in the bands.
    """
    kernels: list[Tensor] = []
    bias: Tensor | None = None
    members = model.groups[group].members
    for member in members:
        if isinstance(model, PlainResNet):
            weight = model.resnet.conv1.weight.detach().double()
            own = torch.zeros(len(weight), dtype=torch.float64)
        else:
            assert isinstance(model, VisionTransformer)
            embedding = model.embedding(group)
            tokenizer = embedding.member_tokenizer(member.modality)
            basis = embedding.basis_of(member.modality) is not None
            if basis or not isinstance(tokenizer, LinearEmbed):
                kind = "a spectral basis" if basis else type(tokenizer).__name__
                other = "; it takes other bands as they are: encode(bands=...)"
                raise UsageError(
                    f"{member.modality}: policies of other bands are for linear tokenizers, this "
                    f"has {kind}{other if model.takes_other_bands(member.modality) else ''}"
                )
            weight = tokenizer.kernel(member.patch).detach().double()
            own = tokenizer.proj.bias.detach().double()
        kernels += list(weight.unbind(dim=1))
        bias = own if bias is None else bias + own
    assert bias is not None, "a group has members"
    norms = [model.normalisation[m.modality] for m in members]
    return Layer(
        tuple(band for m in members for band in m.bands),
        tuple(kernels),
        np.array([value for n in norms for value in n.shift]),
        np.array([value for n in norms for value in n.scale]),
        frozenset(n.kind for n in norms),
        bias,
    )


def normalisation_of(layer: Layer, found: Estimate, start: int, count: int) -> Normalisation:
    """Give new bands the mean of the numbers of the bands that they stand for, by their weights.

    Any numbers would do, as weights and bias make up for them; these keep the values that the
    network meets, and so what a filled pixel is, near to those of training.
    """
    shift, scale = [], []
    for column in found.matrix[:, start : start + count].T:
        total = column.sum()
        shift.append(float(column @ layer.shift / total) if total else 0.0)
        scale.append(float(column @ layer.scale / total) if total else 1.0)
    return Normalisation(layer.kind(), tuple(shift), tuple(scale))


def folded(
    layer: Layer,
    found: Estimate,
    patches: Sequence[int],
    normalisation: Sequence[Normalisation],
    *,
    given: bool,
) -> tuple[list[Tensor], Tensor]:
    """Take the estimate into the weights.

    Args:
        layer: of the model, whose bands are `found.known`.
        found: with the bands of all new members, one after another.
        patches: pixels along a token's side of each new member.
        normalisation: of each new member.
        given: the normalisation was measured on the new pixels, so that normalised values stand
            for the model's normalised values, and not physical for physical ones.

    Returns:
        one `[D, C, p, p]` a member and the bias `[D]`, float64.
    """
    matrix = torch.from_numpy(found.matrix)
    own = torch.ones(len(layer.bands)) if given else torch.from_numpy(layer.scale)
    kernels, start, bias = [], 0, layer.bias
    for patch, norm in zip(patches, normalisation, strict=True):
        part = matrix[:, start : start + len(norm)]
        start += len(norm)
        theirs = torch.ones(len(norm)) if given else torch.tensor(norm.scale, dtype=torch.float64)
        weight = part / own.double()[:, None] * theirs.double()[None]
        kernels.append(torch.einsum("dkij,kg->dgij", layer.at(patch), weight))
    if not given:
        centre = np.array([value for norm in normalisation for value in norm.shift])
        used = found.matrix.any(axis=1)
        off = np.where(used, found.matrix @ centre - layer.shift, 0.0) / layer.scale
        sums = torch.stack([kernel.sum(dim=(1, 2)) for kernel in layer.kernels], dim=1)
        bias = bias + sums @ torch.from_numpy(off)
    return kernels, bias


def vit_of(
    model: VisionTransformer,
    bands: Mapping[str, Sequence[Band]],
    groups: Mapping[str, str],
    found: Mapping[str, Estimate],
    *,
    token_m: Mapping[str, float],
    normalisation: Mapping[str, Normalisation],
    scaling: Scaling,
    given: bool,
) -> VisionTransformer:
    """Build the ViT.

    Args:
        model: the source.
        bands: modality to bands of the new one.
        groups: its token groups to the source's.
        found: its token groups to the estimate of the source's bands from all of theirs.
        token_m: its token groups to the ground size of a token.
        normalisation: of its modalities.
        scaling: of its modalities.
        given: see `folded`.
    """
    made: dict[str, Tokenizer] = {}
    for new, members in _arranged(bands, token_m).items():
        layer = layer_of(model, groups[new])
        norms = [normalisation[m.modality] for m in members]
        patches = [m.patch for m in members]
        kernels, bias = folded(layer, found[new], patches, norms, given=given)
        for number, (member, kernel) in enumerate(zip(members, kernels, strict=True)):
            embed = LinearEmbed(member, model.width)
            with torch.no_grad():
                embed.proj.weight.copy_(kernel.flatten(1))
                # the bias of a token, once
                embed.proj.bias.copy_(bias if number == 0 else torch.zeros_like(bias))
            made[member.modality] = embed
    return rebuilt(
        model,
        bands,
        groups,
        token_m=token_m,
        normalisation=normalisation,
        scaling=scaling,
        tokenizer_of=lambda modality, member: made[modality],
    )


def _arranged(
    bands: Mapping[str, Sequence[Band]], token_m: Mapping[str, float]
) -> dict[str, tuple[Member, ...]]:
    try:
        made = arrange({m: tuple(items) for m, items in bands.items()}, token_m)
    except UsageError as error:
        raise UsageError(
            f"{error}, or give token_m (--patch-size), the ground of the new tokens"
        ) from None
    return {group.name: group.members for group in made}


def resnet_of(
    model: PlainResNet,
    modality: str,
    bands: Sequence[Band],
    found: Estimate,
    *,
    normalisation: Normalisation,
    scaling: Scaling,
    given: bool,
) -> tuple[PlainResNet, bool]:
    """Build the ResNet; its first convolution has no bias, the mean of its batch norm takes it in.

    Returns:
        the model, and whether that changes nothing anywhere: at the border of an image the
        convolution sees zeros, which are the old means on one side and the new on the other.
    """
    layer = layer_of(model, next(iter(model.groups)))
    patch = layer.kernels[0].shape[-1]
    (kernel,), bias = folded(layer, found, [patch], [normalisation], given=given)
    architecture = {**model.architecture, "token_m": model.member.patch * bands[0].gsd_m}
    other = rebuild(architecture, {modality: bands}, {modality: normalisation}, scaling)
    assert isinstance(other, PlainResNet)
    state = dict(model.state_dict())
    mean = "resnet.bn1.running_mean"
    state |= {"resnet.conv1.weight": kernel.float(), mean: (state[mean] - bias).float()}
    other.load_state_dict(state)
    return other.eval(), not bool(bias.any())


def group_for(model: Backbone, new: str, bands: Sequence[Band], like: str | None) -> Group:
    """Find the token group of the model that new bands take the place of.

    Args:
        model: the source.
        new: name of the new group.
        bands: its bands.
        like: a group or modality that was named.

    Raises:
        UsageError: none, or several would do.
    """
    if like is not None:
        for group in model.groups.values():
            if like == group.name or like in [m.modality for m in group.members]:
                return group
        raise UsageError(
            f"{new}: the model has no {like}; its groups are {', '.join(model.groups)}"
        )
    if new in model.groups:
        return model.groups[new]
    radar = all(band.polarisation is not None for band in bands)
    fitting = [
        group
        for group in model.groups.values()
        if radar == all(b.polarisation is not None for m in group.members for b in m.bands)
    ]
    if len(fitting) == 1:
        return fitting[0]
    kind = "radar" if radar else "optical"
    own = ", ".join(
        f"{g.name} ({listed([b for m in g.members for b in m.bands])})"
        for g in model.groups.values()
    )
    raise UsageError(
        f"{new}: the model has {len(fitting)} groups of {kind} bands ({own}); say by like which "
        f"it takes the place of"
    )
