"""Weight files of others as backbones, by what a config says of them."""

from collections.abc import Mapping
from typing import Any

from fm import foreign
from fm.console import note
from fm.errors import UsageError
from fm.foreign.bands import parse
from fm.foreign.catalogue import known
from fm.models import Backbone
from fm.normalize import Normalisation
from pretrain.ranks import collective
from pretrain.settings.init import ForeignConfig


def weights_of_others(
    source: str,
    settings: ForeignConfig,
    where: str,
    *,
    normalisation: str | Mapping[str, Mapping[str, Any]] | None,
    pooling: str | None = None,
) -> Backbone:
    """Load a foreign file; the first process tells what became of its keys.

    Args:
        source: the file.
        settings: what it cannot say.
        where: the key under which the settings are written, for errors.
        normalisation: as `TeacherConfig` takes it; None leaves it to what is known of the weights.
        pooling: of `fm.foreign.load`; None is `mean`, or what is known of the weights.

    Raises:
        FMError: it is not whole, or not safe to read.
        UsageError: something that it needs is not said.
    """
    if settings.bands is None and settings.known is None:
        raise UsageError(
            f"{where}: {source} is a weight file, which cannot say its bands; set {where}.bands "
            f"(sentinel2-l1c:B04,B03,B02@10) or {where}.known"
        )
    try:
        bands = (
            parse(settings.bands)
            if settings.bands is not None
            else known(settings.known or "").band_list()
        )
        told: Any = normalisation
        if normalisation == "identity":
            told = {name: Normalisation.identity(len(items)) for name, items in bands.items()}
        elif isinstance(normalisation, Mapping):
            told = {name: Normalisation.from_dict(item) for name, item in normalisation.items()}
        model, report = foreign.load(
            source,
            bands=bands,
            normalisation=told,
            known=settings.known,
            heads=settings.heads,
            part=settings.part,
            family=settings.family,
            position_resize=settings.position_resize,
            pooling="mean" if settings.known is None and pooling is None else pooling,
        )
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    if collective.rank() == 0:
        note(report.text().splitlines()[0])
    return model
