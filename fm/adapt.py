"""Fit a model to bands it was not trained on, on request and with a report."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch

from fm.errors import UsageError
from fm.models import Backbone, VisionTransformer, create_model
from fm.sensors import Band, sensor_of_modality


def to_bands(
    model: Backbone,
    bands: Mapping[str, Sequence[Band]],
    *,
    like: Mapping[str, str] | None = None,
) -> tuple[VisionTransformer, dict[str, Any]]:
    """Make a model for other modalities out of the bands it shares with them by name.

    The weights and the normalisation of a shared band move with it. A band the model knows and
    the data lacks is dropped: the linear tokenizer then gets a 0 in its place, which under
    `zscore` is the band's mean. A band the model has never seen is refused. The scale and offset
    of stored integers stay the model's for a modality of the same name; one that stands in for
    another has its sensor table's.

    Args:
        model: the source; it is not changed.
        bands: modality to bands of the data.
        like: data modality to the model's modality that it stands in for, such as
            `{"s2l2a_10": "s2l1c_10"}`; a modality of the same name needs no entry.

    Returns:
        the new model in `eval()` and a report: `modalities` (what stands in for what), `dropped`
        bands, `sensors` (from, to) and, where they differ, `scaling` (from, to).

    Raises:
        UsageError: no counterpart, a band without one, a different grid, a tokenizer that is
            tied to its band list, other bands under a spectral basis, or another number or order
            of groups where the place of a group is part of its code.
    """
    if not isinstance(model, VisionTransformer) or "token_groups" in model.architecture:
        raise UsageError(
            f"{model.architecture.get('name')}: only a ViT with one token group a sensor can be "
            f"adapted to other bands"
        )
    like = dict(like or {})
    source: dict[str, str] = {}
    columns: dict[str, list[int]] = {}
    for modality, items in bands.items():
        origin = like.get(modality, modality)
        if origin not in model.bands:
            raise UsageError(
                f"{modality}: the model has no {origin}; it takes {', '.join(model.bands)}"
            )
        names = [band.name for band in model.bands[origin]]
        unknown = [band.name for band in items if band.name not in names]
        if unknown:
            raise UsageError(
                f"{modality}: the model never saw {', '.join(unknown)}; its {origin} bands are "
                f"{', '.join(names)}"
            )
        if {b.gsd_m for b in items} != {b.gsd_m for b in model.bands[origin]}:
            raise UsageError(f"{modality}: not on the grid of the model's {origin}")
        for embedding in map(model.embedding, model.groups):
            under = embedding.basis_of(origin)
            if under is not None and _measures(under.bands) != _measures(items):
                raise UsageError(
                    f"{modality}: the model has a spectral basis, which takes other bands without "
                    f"being adapted; give them to encode(bands=...) or leave {modality} as it is"
                )
        source[modality] = origin
        columns[modality] = [names.index(band.name) for band in items]
    token_m, tokenizer, origin_of = {}, {}, {}
    for modality, origin in source.items():
        old, new = origin.rpartition("_")[0], modality.rpartition("_")[0]
        token_m[new] = model.groups[old].token_m
        tokenizer[new] = model.embedding(old).tokenizer
        origin_of[new] = old
    if model.group_code_width is not None and list(origin_of.values()) != list(model.groups):
        raise UsageError(
            f"group_code_width: the code of a group is its place among {', '.join(model.groups)}; "
            f"the data makes {', '.join(origin_of.values())} of them; give all, in that order"
        )
    ours = ("name", "token_m", "tokenizer", "tokenizer_options", "basis")
    options = {k: v for k, v in model.architecture.items() if k not in ours}
    given = model.architecture.get("tokenizer_options") or {}
    if isinstance(model.architecture.get("tokenizer") or "", str):
        given = dict.fromkeys(origin_of.values(), given)
    given = {n: given[o] for n, o in origin_of.items() if o in given}
    own = model.normalisation
    bases = model.architecture.get("basis") or {}
    bases = {n: bases[o] for n, o in origin_of.items() if o in bases}
    sensors = {m: sensor_of_modality(m) for m in source}
    scaling = {
        m: model.scaling[m] if m == o else (sensors[m].scale, sensors[m].offset)
        for m, o in source.items()
    }
    other = create_model(
        model.architecture["name"],
        bands={m: tuple(items) for m, items in bands.items()},
        token_m=token_m,
        tokenizer=tokenizer,
        tokenizer_options=given,
        normalisation={m: own[o].select(columns[m]) for m, o in source.items()},
        scaling=scaling,
        basis=bases or None,
        **options,
    )
    assert isinstance(other, VisionTransformer)
    _copy_weights(model, other, source, columns)
    dropped = {
        o: [b.name for i, b in enumerate(model.bands[o]) if i not in columns[m]]
        for m, o in source.items()
    }
    report = {
        "modalities": source,
        "dropped": {modality: names for modality, names in dropped.items() if names},
        "absent": sorted(set(model.bands) - set(source.values())),
        "sensors": {
            "from": sorted({sensor_of_modality(o).name for o in source.values()}),
            "to": sorted({sensor.name for sensor in sensors.values()}),
        },
    }
    changed = {
        m: {"from": list(model.scaling[o]), "to": list(scaling[m])}
        for m, o in source.items()
        if tuple(model.scaling[o]) != tuple(scaling[m])
    }
    if changed:
        report["scaling"] = changed
    other.card = model.card
    return other.eval(), report


def _measures(bands: Sequence[Band]) -> list[tuple[object, ...]]:
    """What the bands measure, whatever modality they are listed under."""
    return [(band.name, band.wavelength_nm, band.fwhm_nm) for band in bands]


def _copy_weights(
    model: VisionTransformer,
    other: VisionTransformer,
    source: Mapping[str, str],
    columns: Mapping[str, list[int]],
) -> None:
    state = {
        key: value
        for key, value in model.state_dict().items()
        if not key.startswith(("patch_embed.", "group_embed."))
    }
    folded: set[str] = set()
    for modality, origin in source.items():
        old, new = origin.rpartition("_")[0], modality.rpartition("_")[0]
        member = next(m for m in other.groups[new].members if m.modality == modality)
        embed = model.embedding(old).member_tokenizer(origin)
        basis = model.embedding(old).basis_of(origin)
        if basis is not None:
            front = f"patch_embed.{new}.basis.{modality}."
            state |= {front + key: value for key, value in basis.state_dict().items()}
        complete = columns[modality] == list(range(len(model.bands[origin])))
        chosen = deepcopy(embed) if complete else embed.select(columns[modality], member)
        code = model.group_embed[old].detach() if old in model.group_embed else None
        if new in other.group_embed:
            own = other.group_embed[new]
            state[f"group_embed.{new}"] = torch.zeros_like(own) if code is None else code
        elif code is not None and new not in folded:
            # one group is left and has no code of its own: the code joins a bias, once
            chosen.add_constant(code.flatten())
            folded.add(new)
        prefix = f"patch_embed.{new}.embed.{modality}."
        state |= {prefix + key: value for key, value in chosen.state_dict().items()}
    other.load_state_dict(state)
