"""Other bands by name: those that a ViT shares with the data, whatever its tokenizer."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from fm.adapt.build import rebuilt
from fm.adapt.estimate import estimate
from fm.adapt.units import check_units
from fm.errors import UsageError
from fm.models import Backbone, VisionTransformer
from fm.models.embed import Tokenizer
from fm.models.layout import Member, group_of
from fm.sensors import Band, sensor_of_modality


def by_name(
    model: Backbone, bands: Mapping[str, Sequence[Band]], like: Mapping[str, str]
) -> tuple[VisionTransformer, dict[str, Any]]:
    """Make a ViT for other modalities out of the bands it shares with them by name and wavelength.

    The weights and the normalisation of a shared band move with it. A band that the model knows and
    the data lacks is dropped: the linear tokenizer then gets a 0 in its place, which under `zscore`
    is the band's mean and under `divide` no light at all. The scale and offset of stored integers
    stay the model's for a modality of the same name; one that stands in for another has its sensor
    table's.

    Args:
        model: the source; it is not changed.
        bands: modality to bands of the data.
        like: data modality to the model's that it stands in for.

    Returns:
        the new model in `eval()` and a report: `modalities` (what stands in for what), `bands` (of
        each what it was), `dropped` bands, `dropped_at` (the physical value they count as),
        `absent` modalities, `token_m`, `sensors` and, where they differ, `scaling` (from, to).

    Raises:
        UsageError: no counterpart, a band without one or of another unit, a different grid, a
            tokenizer that is tied to its band list, other bands under a spectral basis, or another
            number or order of groups where the place of a group is part of its code.
    """
    if not isinstance(model, VisionTransformer) or "token_groups" in model.architecture:
        raise UsageError(
            f"{model.architecture.get('name')}: only a ViT with one token group a sensor can be "
            f"adapted to other bands"
        )
    source: dict[str, str] = {}
    columns: dict[str, list[int]] = {}
    told = {}
    for modality, items in bands.items():
        origin = like.get(modality, modality)
        if origin not in model.bands:
            raise UsageError(
                f"{modality}: the model has no {origin}; it takes {', '.join(model.bands)}"
            )
        own = model.bands[origin]
        try:
            found = estimate(own, items)
            check_units(found, given=False, same=modality == origin)
        except UsageError as error:
            raise UsageError(f"{modality}: {error}") from None
        if {b.gsd_m for b in items} != {b.gsd_m for b in own}:
            raise UsageError(f"{modality}: not on the grid of the model's {origin}")
        for embedding in map(model.embedding, model.groups):
            under = embedding.basis_of(origin)
            if under is not None and _measures(under.bands) != _measures(items):
                raise UsageError(
                    f"{modality}: the model has a spectral basis, which takes other bands without "
                    f"being adapted; give them to encode(bands=...) or leave {modality} as it is"
                )
        source[modality] = origin
        columns[modality] = [int(k) for k in found.matrix.argmax(axis=0)]
        told[modality] = found.rows()
    sensors = {m: sensor_of_modality(m) for m in source}
    scaling = {
        m: model.scaling[m] if m == o else (sensors[m].scale, sensors[m].offset)
        for m, o in source.items()
    }

    def tokenizer_of(modality: str, member: Member) -> Tokenizer:
        origin = source[modality]
        embed = model.embedding(group_of(origin)).member_tokenizer(origin)
        complete = columns[modality] == list(range(len(model.bands[origin])))
        return deepcopy(embed) if complete else embed.select(columns[modality], member)

    groups = {group_of(new): group_of(old) for new, old in source.items()}
    other = rebuilt(
        model,
        bands,
        groups,
        token_m={new: model.groups[old].token_m for new, old in groups.items()},
        normalisation={m: model.normalisation[o].select(columns[m]) for m, o in source.items()},
        scaling=scaling,
        tokenizer_of=tokenizer_of,
        basis_of=source,
    )
    dropped = {
        o: [b.name for i, b in enumerate(model.bands[o]) if i not in columns[m]]
        for m, o in source.items()
    }
    report: dict[str, Any] = {
        "modalities": source,
        "bands": told,
        "dropped": {modality: names for modality, names in dropped.items() if names},
        "dropped_at": {o: _shifts(model, o, names) for o, names in dropped.items() if names},
        "absent": sorted(set(model.bands) - set(source.values())),
        "token_m": {
            n: {"from": model.groups[o].token_m, "to": other.groups[n].token_m}
            for n, o in groups.items()
        },
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
    return other, report


def _shifts(model: VisionTransformer, modality: str, names: Sequence[str]) -> dict[str, float]:
    """Say which physical value dropped bands count as: the 0 of their normalisation."""
    shift = model.normalisation[modality].shift
    own = [band.name for band in model.bands[modality]]
    return {name: shift[own.index(name)] for name in names}


def _measures(bands: Sequence[Band]) -> list[tuple[object, ...]]:
    """What the bands measure, whatever modality they are listed under."""
    return [(band.name, band.wavelength_nm, band.fwhm_nm) for band in bands]
