"""CORINE Land Cover level 3, as BigEarthNet labels patches and pixels with it.

Codes and names are those of the European Environment Agency's nomenclature (names in BigEarthNet's
spelling). The third column is the BigEarthNet-19 class: Sumbul et al., "BigEarthNet-MM"
(arXiv 2105.07921), table 2, published as `label_conversion` in `label_indices.json` of the
repository `BigEarthNet-S2_19-classes_models`; classes without a counterpart are left out of it.
"""

from collections.abc import Iterable

from shards.sources.bigearthnet import CLASSES

_FOREST_MARGIN = "Transitional woodland, shrub"
_FARM_NATURE = (
    "Land principally occupied by agriculture, with significant areas of natural vegetation"
)
CORINE: tuple[tuple[int, str, str | None], ...] = (
    (111, "Continuous urban fabric", "Urban fabric"),
    (112, "Discontinuous urban fabric", "Urban fabric"),
    (121, "Industrial or commercial units", "Industrial or commercial units"),
    (122, "Road and rail networks and associated land", None),
    (123, "Port areas", None),
    (124, "Airports", None),
    (131, "Mineral extraction sites", None),
    (132, "Dump sites", None),
    (133, "Construction sites", None),
    (141, "Green urban areas", None),
    (142, "Sport and leisure facilities", None),
    (211, "Non-irrigated arable land", "Arable land"),
    (212, "Permanently irrigated land", "Arable land"),
    (213, "Rice fields", "Arable land"),
    (221, "Vineyards", "Permanent crops"),
    (222, "Fruit trees and berry plantations", "Permanent crops"),
    (223, "Olive groves", "Permanent crops"),
    (231, "Pastures", "Pastures"),
    (241, "Annual crops associated with permanent crops", "Permanent crops"),
    (242, "Complex cultivation patterns", "Complex cultivation patterns"),
    (243, _FARM_NATURE, _FARM_NATURE),
    (244, "Agro-forestry areas", "Agro-forestry areas"),
    (311, "Broad-leaved forest", "Broad-leaved forest"),
    (312, "Coniferous forest", "Coniferous forest"),
    (313, "Mixed forest", "Mixed forest"),
    (321, "Natural grassland", "Natural grassland and sparsely vegetated areas"),
    (322, "Moors and heathland", "Moors, heathland and sclerophyllous vegetation"),
    (323, "Sclerophyllous vegetation", "Moors, heathland and sclerophyllous vegetation"),
    (324, "Transitional woodland/shrub", _FOREST_MARGIN),
    (331, "Beaches, dunes, sands", "Beaches, dunes, sands"),
    (332, "Bare rock", None),
    (333, "Sparsely vegetated areas", "Natural grassland and sparsely vegetated areas"),
    (334, "Burnt areas", None),
    (335, "Glaciers and perpetual snow", None),
    (411, "Inland marshes", "Inland wetlands"),
    (412, "Peatbogs", "Inland wetlands"),
    (421, "Salt marshes", "Coastal wetlands"),
    (422, "Salines", "Coastal wetlands"),
    (423, "Intertidal flats", None),
    (511, "Water courses", "Inland waters"),
    (512, "Water bodies", "Inland waters"),
    (521, "Coastal lagoons", "Marine waters"),
    (522, "Estuaries", "Marine waters"),
    (523, "Sea and ocean", "Marine waters"),
)
"""(code, name, BigEarthNet-19 class or None), 44 rows in the order of the codes."""
NO_CLASS = (0, 990, 995, 999)
"""Codes of CORINE rasters that are no class: outside, unclassified land and water, no data."""
CLASSES_44 = tuple(name for _, name, _ in CORINE)
CLASSES_43 = tuple(name for name in CLASSES_44 if name != "Glaciers and perpetual snow")
"""What patches of BigEarthNet v1 are labelled with (no patch has glaciers)."""


def to_19(names: Iterable[str]) -> list[int]:
    """BigEarthNet-19 class numbers of some CORINE names, sorted, without those that have none."""
    by_name = {name: target for _, name, target in CORINE}
    found = {by_name[name] for name in names}
    return sorted(CLASSES.index(target) for target in found if target is not None)


def code_table(nineteen: bool) -> dict[int, int | None]:
    """CORINE code to class number: of the 19 classes, or of the 44; None for "no class"."""
    table: dict[int, int | None] = dict.fromkeys(NO_CLASS)
    for place, (code, _, target) in enumerate(CORINE):
        if nineteen:
            table[code] = None if target is None else CLASSES.index(target)
        else:
            table[code] = place
    return table
