"""Fit a model to bands it was not trained on, on request and with a report."""

from collections.abc import Mapping, Sequence
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
    `zscore` is the band's mean. A band the model has never seen is refused.

    Args:
        model: the source; it is not changed.
        bands: modality to bands of the data.
        like: data modality to the model's modality that it stands in for, such as
            `{"s2l2a_10": "s2l1c_10"}`; a modality of the same name needs no entry.

    Returns:
        the new model in `eval()` and a report: `modalities` (what stands in for what), `dropped`
        bands and `sensors` (from, to).

    Raises:
        UsageError: no counterpart, a band without one, a different grid, or a tokenizer that is
            tied to its band list.
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
        source[modality] = origin
        columns[modality] = [names.index(band.name) for band in items]
    token_m, tokenizer, origin_of = {}, {}, {}
    for modality, origin in source.items():
        old, new = origin.rpartition("_")[0], modality.rpartition("_")[0]
        token_m[new] = model.groups[old].token_m
        tokenizer[new] = model.embedding(old).tokenizer
        origin_of[new] = old
    ours = ("name", "token_m", "tokenizer", "tokenizer_options")
    options = {k: v for k, v in model.architecture.items() if k not in ours}
    given = model.architecture.get("tokenizer_options", {})
    if isinstance(model.architecture.get("tokenizer", ""), str):
        given = dict.fromkeys(origin_of.values(), given)
    given = {n: given[o] for n, o in origin_of.items() if o in given}
    own = model.normalisation
    sensors = {m: sensor_of_modality(m) for m in source}
    other = create_model(
        model.architecture["name"],
        bands={m: tuple(items) for m, items in bands.items()},
        token_m=token_m,
        tokenizer=tokenizer,
        tokenizer_options=given,
        normalisation={m: own[o].select(columns[m]) for m, o in source.items()},
        scaling={m: (s.scale, s.offset) for m, s in sensors.items()},
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
    other.card = model.card
    return other.eval(), report


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
        complete = columns[modality] == list(range(len(model.bands[origin])))
        chosen = embed if complete else embed.select(columns[modality], member)
        prefix = f"patch_embed.{new}.embed.{modality}."
        state |= {prefix + key: value for key, value in chosen.state_dict().items()}
        code = model.group_embed[old].detach() if old in model.group_embed else None
        if new in other.group_embed:
            own = other.group_embed[new]
            state[f"group_embed.{new}"] = torch.zeros_like(own) if code is None else code
        elif code is not None and new not in folded:
            # one group is left and has no code of its own: the code joins a bias, once
            state[f"{prefix}proj.bias"] = state[f"{prefix}proj.bias"] + code.flatten()
            folded.add(new)
    other.load_state_dict(state)
