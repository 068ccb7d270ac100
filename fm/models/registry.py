"""Names and sizes of the backbones, and the one function that builds them."""

from collections.abc import Mapping, Sequence
from typing import Any

from fm.errors import UsageError, suggest
from fm.models.layout import groups
from fm.models.vit import Scaling, VisionTransformer
from fm.normalize import Normalisation
from fm.sensors import Band, Sensor, sensor_of_modality

SIZES: dict[str, dict[str, int]] = {
    "vit_nano": {"width": 128, "depth": 4, "heads": 4},
    "vit_tiny": {"width": 192, "depth": 12, "heads": 3},
    "vit_small": {"width": 384, "depth": 12, "heads": 6},
    "vit_base": {"width": 768, "depth": 12, "heads": 12},
    "vit_large": {"width": 1024, "depth": 24, "heads": 16},
    "vit_huge": {"width": 1280, "depth": 32, "heads": 16},
    "vit_giant": {"width": 1536, "depth": 40, "heads": 24},
}
"""Width, depth and heads. Tiny to large as in timm; huge and giant as SpectralEarth's table
(arXiv 2408.08447); nano is ours, for two CPU cores."""


def list_models() -> list[str]:
    """List the names `create_model` knows."""
    return list(SIZES)


def create_model(
    name: str,
    *,
    bands: Sensor | Sequence[Band] | Mapping[str, Sequence[Band]],
    token_m: float | Mapping[str, float] | None = None,
    tokenizer: str | Mapping[str, str] = "linear",
    normalisation: Mapping[str, Normalisation] | None = None,
    scaling: Scaling | None = None,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    mlp_ratio: float = 4.0,
) -> VisionTransformer:
    """Build a backbone with fresh weights.

    Args:
        name: one of `list_models()`.
        bands: what the model takes: modality to bands, or the bands of one sensor.
        token_m: ground size of a token in metres, one for all groups or one a group; 12 pixels of
            the finest grid when None.
        tokenizer: `"linear"` or `"spectral_adapter"`, one for all groups or one a group.
        normalisation: modality to its normalisation in physical units; the identity when None.
        scaling: modality to (scale, offset) of stored integers; the sensor table's when None.
        width: overrides the size's D.
        depth: overrides the number of blocks.
        heads: overrides the number of heads.
        mlp_ratio: hidden width of the MLPs over D.

    Raises:
        UsageError: an unknown name, band, group or tokenizer, or sizes that do not fit.
    """
    if name not in SIZES:
        raise UsageError(f"there is no model {name!r}; {suggest(name, SIZES)}")
    by_modality = _by_modality(bands)
    finest = min((b.gsd_m for items in by_modality.values() for b in items), default=0.0)
    made = groups(by_modality, token_m if token_m is not None else 12 * finest)
    names = [group.name for group in made]
    if isinstance(tokenizer, Mapping):
        if wrong := set(tokenizer) ^ set(names):
            raise UsageError(f"tokenizer must name exactly {names}; check {sorted(wrong)}")
        tokenizers = dict(tokenizer)
    else:
        tokenizers = dict.fromkeys(names, tokenizer)
    for what, given in (("normalisation", normalisation), ("scaling", scaling)):
        if given is not None and set(given) != set(by_modality):
            raise UsageError(f"{what} names {sorted(given)}; the modalities: {sorted(by_modality)}")
    if scaling is None:
        sensors = {m: sensor_of_modality(m) for m in by_modality}
        scaling = {m: (s.scale, s.offset) for m, s in sensors.items()}
    if normalisation is None:
        normalisation = {m: Normalisation.identity(len(b)) for m, b in by_modality.items()}
    size = {
        key: value if value is not None else SIZES[name][key]
        for key, value in (("width", width), ("depth", depth), ("heads", heads))
    }
    architecture: dict[str, Any] = {
        "name": name,
        "token_m": {group.name: group.token_m for group in made},
        "tokenizer": tokenizers,
        "mlp_ratio": mlp_ratio,
        **size,
    }
    return VisionTransformer(
        made,
        tokenizers=tokenizers,
        normalisation=normalisation,
        scaling=scaling,
        mlp_ratio=mlp_ratio,
        architecture=architecture,
        **size,
    )


def rebuild(
    architecture: Mapping[str, Any],
    bands: Mapping[str, Sequence[Band]],
    normalisation: Mapping[str, Normalisation],
    scaling: Scaling,
) -> VisionTransformer:
    """Build the backbone that a card describes, with fresh weights."""
    options = dict(architecture)
    return create_model(
        options.pop("name"),
        bands=bands,
        normalisation=normalisation,
        scaling=scaling,
        **options,
    )


def _by_modality(
    bands: Sensor | Sequence[Band] | Mapping[str, Sequence[Band]],
) -> dict[str, tuple[Band, ...]]:
    if isinstance(bands, Sensor):
        return dict(bands.modalities)
    if isinstance(bands, Mapping):
        return {modality: tuple(items) for modality, items in bands.items()}
    result: dict[str, tuple[Band, ...]] = {}
    for band in bands:
        if not band.modality:
            raise UsageError(
                f"band {band.name} belongs to no modality; give bands as a mapping from modality"
            )
        result[band.modality] = (*result.get(band.modality, ()), band)
    return result
