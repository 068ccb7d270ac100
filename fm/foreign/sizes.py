"""How many parameters a released model has, counted from its layout's keys and shapes."""

import math

from fm.foreign.catalogue import Known
from fm.foreign.inventory import inventory

_SYMBOLS = {"width": "D", "depth": "depth", "patch": "p", "channels": "C"}
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
_LOCATION = "model.location."


def parameters(item: Known) -> int | None:
    """Count the parameters of the encoder that is converted.

    Returns:
        the number, with the file's own channels and positions; None where no layout is kept or its
        sizes are not published.
    """
    if not item.layouts or (not item.numbers and item.kind == "backbone" and item.convertible):
        return None
    layout = inventory(item.layouts[0])
    symbols = dict(layout.released)
    symbols |= {_SYMBOLS[k]: v for k, v in item.numbers.items() if k in _SYMBOLS}
    if item.bands and "C" in symbols and "channels" not in item.numbers:
        symbols["C"] = sum(len(bands) for bands in item.band_list().values())
    if item.image_px and "L" in symbols and "patch" in item.numbers:
        symbols["L"] = (item.image_px // item.numbers["patch"]) ** 2
    if "L" in item.numbers:
        symbols["L2"] = item.numbers["L"] ** 2
    satclip = item.kind == "location" and "L" in item.numbers
    return sum(
        math.prod(shape)
        for key, shape in layout.expand(symbols).items()
        if (key.startswith(_LOCATION) if satclip else layout.part(key) == "encoder")
        and not key.endswith(_STATISTICS)
    )
