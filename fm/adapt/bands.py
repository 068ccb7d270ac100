"""Fit a model to bands it was not trained on, on request and with a report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fm.adapt.carded import adapted_card
from fm.adapt.estimate import Beyond, Estimate, Policy, estimate
from fm.adapt.estimated import (
    Layer,
    group_for,
    layer_of,
    normalisation_of,
    resnet_of,
    vit_of,
)
from fm.adapt.named import by_name
from fm.adapt.units import check_units
from fm.errors import UsageError
from fm.models import Backbone, VisionTransformer
from fm.models.embed.patch_size import LARGEST
from fm.models.inputs import Scaling
from fm.models.layout import group_of
from fm.models.plain_resnet import PlainResNet
from fm.normalize import CLIPPED, Normalisation
from fm.sensors import Band, sensor_of_modality


def to_bands(
    model: Backbone,
    bands: Mapping[str, Sequence[Band]],
    *,
    like: Mapping[str, str] | None = None,
    policy: Policy = "refuse",
    tolerance_nm: float | None = None,
    beyond: Beyond = "refuse",
    token_m: float | Mapping[str, float] | None = None,
    normalisation: Mapping[str, Normalisation] | None = None,
    scaling: Scaling | None = None,
) -> tuple[Backbone, dict[str, Any]]:
    """Make a model for other bands or another sensor.

    Under `refuse` the bands must be the model's own, by name and wavelength, on its own grids, and
    may be fewer: see `fm.adapt.named.by_name`, which takes any tokenizer that can leave bands out.
    The other policies estimate the model's bands from those that come in (`fm.adapt.estimate`) and
    take the estimate into a first layer that is linear, of a ViT or a ResNet; grids may then differ
    too, and the kernels are those of pixels with the new area (`fm.models.embed.patch_size`).

    Physical values stand for physical values where both have one unit: the adapted model is then
    the original on the estimate (exactly, but for values that `clip_sigma` and `percentile` clip).
    With `normalisation`, measured on the new pixels, normalised values stand for normalised ones.

    Args:
        model: the source; it is not changed.
        bands: modality to bands of the data.
        like: data modality to the model's modality that it stands in for, such as
            `{"s2l2a_10": "s2l1c_10"}`; under a policy a modality or group of the data to one of
            the model, under `refuse` never a group. What has the same name needs no entry.
        policy: for a band that the model has never seen.
        tolerance_nm: how far apart centres may lie, for `nearest`.
        beyond: what becomes of a band for which the policy finds nothing.
        token_m: ground size of a token, where the model's is not whole pixels of the new grid; one
            for all, or by group of the data.
        normalisation: of the new pixels, modality to numbers of the model's kind.
        scaling: modality to (scale, offset) of stored integers, where it is neither the model's nor
            the sensor table's.

    Returns:
        the new model in `eval()`, whose card says what it was made of, and a report. Under
        `refuse`: `modalities`, `bands`, `dropped`, `dropped_at` (the physical value that a dropped
        band counts as), `absent`, `sensors`, `token_m`, `scaling` where it differs.
        Under a policy besides `policy`, `groups` (what stands in for what), `off_nm` (see
        `Estimate.off_nm`), `token_px`, `token_m`, `values` (`physical` or `normalised`), `exact`
        and what limits it.

    Raises:
        UsageError: no counterpart, a name in `like` or an option that would do nothing, bands or
            units that do not fit, a first layer that is tied to its band list; see
            `fm.adapt.estimate.estimate`.
    """
    _check_like(bands, like or {}, policy)
    if policy == "refuse":
        if wrong := [
            name
            for name, value in (
                ("beyond", None if beyond == "refuse" else beyond),
                ("tolerance_nm", tolerance_nm),
                ("token_m", token_m),
                ("normalisation", normalisation),
                ("scaling", scaling),
            )
            if value is not None
        ]:
            raise UsageError(f"{wrong[0]} is for the policies nearest, response and zero")
        other, report = by_name(model, bands, dict(like or {}))
        other.card = adapted_card(model, other, {"policy": policy, **report})
        return other, report
    if not isinstance(model, PlainResNet) and (
        not isinstance(model, VisionTransformer) or "token_groups" in model.architecture
    ):
        raise UsageError(
            f"{model.architecture.get('name')}: only a ViT with one token group a sensor, or a "
            f"ResNet, can be adapted to other bands"
        )
    made, report = _estimated(
        model, bands, like or {}, policy, tolerance_nm, beyond, token_m, normalisation, scaling
    )
    made.card = adapted_card(model, made, report)
    return made, report


def _estimated(
    model: VisionTransformer | PlainResNet,
    bands: Mapping[str, Sequence[Band]],
    like: Mapping[str, str],
    policy: Policy,
    tolerance_nm: float | None,
    beyond: Beyond,
    token_m: float | Mapping[str, float] | None,
    given: Mapping[str, Normalisation] | None,
    stored: Scaling | None,
) -> tuple[Backbone, dict[str, Any]]:
    members: dict[str, list[str]] = {}
    for modality in bands:
        members.setdefault(group_of(modality), []).append(modality)
    _check_given(model, bands, given)
    if isinstance(token_m, Mapping) and (odd := sorted(set(token_m) - set(members))):
        raise UsageError(f"token_m names {odd[0]}; the groups of the data: {', '.join(members)}")
    groups: dict[str, str] = {}
    found: dict[str, Estimate] = {}
    sizes: dict[str, float] = {}
    norms: dict[str, Normalisation] = {}
    for new, names in members.items():
        listed = [band for m in names for band in bands[m]]
        named = next((like[n] for n in (*names, new) if n in like), None)
        old = group_for(model, new, listed, named)
        if old.name in groups.values():
            raise UsageError(f"{new}: {old.name} of the model has a stand-in already; give one")
        layer = layer_of(model, old.name)
        try:
            one = estimate(
                layer.bands, listed, policy=policy, tolerance_nm=tolerance_nm, beyond=beyond
            )
            if not one.matrix.any():
                raise UsageError("nothing of the data tells of any of the model's bands")
            check_units(one, given=given is not None, same=old.name == new)
        except UsageError as error:
            raise UsageError(f"{new}: {error}") from None
        groups[new], found[new] = old.name, one
        ground = token_m.get(new) if isinstance(token_m, Mapping) else token_m
        sizes[new] = old.token_m if ground is None else ground
        gsd = min(band.gsd_m for band in listed)
        if isinstance(model, VisionTransformer) and not 0 < sizes[new] <= LARGEST * gsd:
            raise UsageError(
                f"{new}: token_m {sizes[new]:g} (--patch-size); a token has 1 to {LARGEST} px of "
                f"{gsd:g} m"
            )
        start = 0
        for name in names:
            count = len(bands[name])
            norms[name] = (
                normalisation_of(layer, one, start, count) if given is None else given[name]
            )
            start += count
    scaling = _scaling(model, bands, stored or {})
    exact = given is not None or not any(
        norm.kind in CLIPPED and not found[group_of(m)].one_to_one for m, norm in norms.items()
    )
    limits = [] if exact else ["values that the normalisation clips"]
    if isinstance(model, PlainResNet):
        if len(bands) != 1 or token_m is not None:
            raise UsageError(
                f"{model.architecture.get('name')}: a ResNet takes bands of one grid and makes "
                f"tokens of {model.member.patch} px; give one modality and no token_m "
                f"(--patch-size)"
            )
        ((modality, items),) = bands.items()
        other: Backbone
        other, whole = resnet_of(
            model,
            modality,
            items,
            found[group_of(modality)],
            normalisation=norms[modality],
            scaling=scaling,
            given=given is not None,
        )
        limits += [] if whole else ["the border of the image"]
    else:
        other = vit_of(
            model,
            bands,
            groups,
            found,
            token_m=sizes,
            normalisation=norms,
            scaling=scaling,
            given=given is not None,
        )
        if any(_coarser(model, other, new, old, found[new]) for new, old in groups.items()):
            limits.append("tokens of fewer pixels, by least squares")
    return other, _report(model, other, groups, found, policy, tolerance_nm, given, limits)


def _coarser(model: Backbone, other: Backbone, new: str, old: str, found: Estimate) -> bool:
    """Say whether a band has fewer pixels in a token than one of the model's it stands for."""
    before = np.array([m.patch for m in model.groups[old].members for _ in m.bands])
    after = np.array([m.patch for m in other.groups[new].members for _ in m.bands])
    return bool(((found.matrix != 0) & (after[None] < before[:, None])).any())


def _scaling(model: Backbone, bands: Mapping[str, Sequence[Band]], given: Scaling) -> Scaling:
    """Stored integers: as given, the model's for its own modality, or the sensor table's."""
    result = {}
    for modality in bands:
        if modality in given:
            result[modality] = given[modality]
        elif modality in model.scaling:
            result[modality] = model.scaling[modality]
        else:
            table = sensor_of_modality(modality)
            result[modality] = (table.scale, table.offset)
    return result


def _check_like(
    bands: Mapping[str, Sequence[Band]], like: Mapping[str, str], policy: Policy
) -> None:
    groups = [] if policy == "refuse" else list(dict.fromkeys(map(group_of, bands)))
    if odd := [name for name in like if name not in bands and name not in groups]:
        words = "by name, without a policy, modalities" if policy == "refuse" else "names"
        names = ", ".join(dict.fromkeys([*bands, *groups]))
        raise UsageError(f"like names {odd[0]}, nothing of the data; {words} of it are {names}")


def _check_given(
    model: Backbone,
    bands: Mapping[str, Sequence[Band]],
    given: Mapping[str, Normalisation] | None,
) -> None:
    if given is None:
        return
    if set(given) != set(bands):
        raise UsageError(f"normalisation names {sorted(given)}; the modalities: {sorted(bands)}")
    kinds = sorted({norm.kind for norm in model.normalisation.values()})
    for modality, norm in given.items():
        if len(norm) != len(bands[modality]):
            raise UsageError(
                f"normalisation[{modality!r}] is of {len(norm)} bands, there are "
                f"{len(bands[modality])}"
            )
        if [norm.kind] != kinds:
            raise UsageError(
                f"normalisation[{modality!r}] is {norm.kind}, the model's is {', '.join(kinds)}; "
                f"values of two kinds do not stand for each other"
            )


def _report(
    model: Backbone,
    other: Backbone,
    groups: Mapping[str, str],
    found: Mapping[str, Estimate],
    policy: str,
    tolerance_nm: float | None,
    given: Mapping[str, Normalisation] | None,
    limits: Sequence[str],
) -> dict[str, Any]:
    told = {}
    for new in groups:
        rows = iter(found[new].rows())
        for member in other.groups[new].members:
            told[member.modality] = [next(rows) for _ in member.bands]
    dropped = {groups[n]: [b.name for b in one.dropped] for n, one in found.items()}
    before = {n: {m.modality: m.patch for m in g.members} for n, g in model.groups.items()}
    return {
        "policy": policy,
        **({} if tolerance_nm is None else {"tolerance_nm": tolerance_nm}),
        "groups": dict(groups),
        "bands": told,
        "dropped": {name: names for name, names in dropped.items() if names},
        "dropped_at": {
            groups[n]: _shifts(layer_of(model, groups[n]), one)
            for n, one in found.items()
            if one.dropped
        },
        "absent": sorted(set(model.groups) - set(groups.values())),
        "off_nm": {groups[n]: one.off_nm() for n, one in found.items()},
        "sensors": {
            "from": sorted({_sensor(m) for o in groups.values() for m in before[o]}),
            "to": sorted({_sensor(m) for m in other.bands}),
        },
        "token_px": {
            n: {"from": before[o], "to": {m.modality: m.patch for m in other.groups[n].members}}
            for n, o in groups.items()
        },
        "token_m": {
            n: {"from": model.groups[o].token_m, "to": other.groups[n].token_m}
            for n, o in groups.items()
        },
        "values": "physical" if given is None else "normalised",
        "exact": not limits,
        "but": list(limits),
    }


def _shifts(layer: Layer, found: Estimate) -> dict[str, float]:
    return {
        band.name: float(shift)
        for band, shift, row in zip(layer.bands, layer.shift, found.matrix, strict=True)
        if not row.any()
    }


def _sensor(modality: str) -> str:
    try:
        return sensor_of_modality(modality).name
    except UsageError:  # bands of the user's own
        return modality
