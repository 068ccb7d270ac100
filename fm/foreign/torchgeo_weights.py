"""torchgeo's weight enums under their own names, as the installed torchgeo describes them.

An enum says address, revision, digits of its hash, and its bands in torchgeo's spelling. It says
neither the product level nor in what units its transform takes pixels, so that bands and
normalisation of those that the catalogue does not hold are the user's to give.
"""

import re
from functools import cache
from importlib.metadata import version
from typing import Any

from fm.foreign.catalogue import Known, catalogue
from fm.hub import parse

NAME = re.compile(r"\w+_Weights\.\w+")
_DIGITS = re.compile(r"-([0-9a-f]{8})\.\w+$")


@cache
def torchgeo_names() -> dict[str, Any]:
    """Return every enum member of the installed torchgeo by its name."""
    from fm import torchvision_guard

    torchvision_guard.install()
    import torchgeo.models as models
    from torchvision.models import WeightsEnum

    kinds = [getattr(models, name) for name in dir(models)]
    enums: list[Any] = [k for k in kinds if isinstance(k, type) and issubclass(k, WeightsEnum)]
    return {f"{kind.__name__}.{member.name}": member for kind in enums for member in kind}


def described(name: str) -> Known | None:
    """Describe an enum member: the catalogue's entry where there is one; None for no such name."""
    for item in catalogue().values():
        if item.torchgeo == name:
            return item
    if not NAME.fullmatch(name) or name not in torchgeo_names():
        return None
    value = torchgeo_names()[name]
    meta = value.meta
    place = parse(value.url)
    digits = _DIGITS.search(value.url)
    bands = ", ".join(meta.get("bands", ())) or "not said"
    return Known(
        name=name,
        title=f"{meta.get('model', name.partition('_')[0])}, bands {bands}",
        layouts=(),
        bands="",
        normalisation={},
        numbers={},
        objective=" ".join(str(meta[k]) for k in ("ssl_method", "publication") if meta.get(k))
        or "supervised",
        data=str(meta.get("dataset", "unknown")),
        licence=str(meta.get("license", "unknown")),
        source=f"torchgeo {version('torchgeo')}",
        sha256=digits[1] if digits else "",
        torchgeo=name,
        repo="" if place is None else place.repo,
        revision="" if place is None else place.revision,
        path="" if place is None else place.path,
        page="" if place is not None else value.url,
        remark="not in the catalogue: give --bands and --normalisation",
    )
