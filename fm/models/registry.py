"""Names and sizes of the backbones, and the one function that builds them."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fm import weights
from fm.errors import UsageError, suggest
from fm.linear import quicken
from fm.models.backbone import Backbone
from fm.models.copernicus import CopernicusFM
from fm.models.croma import Croma
from fm.models.efficientnet import EfficientNet
from fm.models.galileo import Galileo
from fm.models.inputs import Scaling
from fm.models.intake import Intake
from fm.models.layout import groups
from fm.models.less import LessViT
from fm.models.plain_resnet import PlainResNet
from fm.models.presto import Presto
from fm.models.spectral_resnet import SpectralResNet
from fm.models.towers import Towers
from fm.models.vit import VisionTransformer
from fm.normalize import Normalisation
from fm.sensors import Band, Sensor, sensor_of_modality

SIZES: dict[str, dict[str, int]] = {
    "nano": {"width": 128, "depth": 4, "heads": 4},
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
    "huge": {"width": 1280, "depth": 32, "heads": 16},
    "giant": {"width": 1536, "depth": 40, "heads": 24},
}
"""Width, depth and heads. Tiny to large as in timm; huge and giant as SpectralEarth's table
(arXiv 2408.08447); nano is ours, for two CPU cores."""


@dataclass(frozen=True)
class Family:
    """Backbones of one kind.

    Attributes:
        kind: the class, built as `kind(intake, **options)`.
        sizes: name of each size to the options it stands for.
        help: one line.
        token_px: side of a token in pixels of the finest grid where `token_m` is not given.
    """

    kind: type[Backbone]
    sizes: Mapping[str, Mapping[str, Any]]
    help: str
    token_px: int = 12

    @property
    def options(self) -> list[str]:
        """The arguments that are this family's own."""
        return [name for name in inspect.signature(self.kind).parameters if name != "intake"]

    @property
    def defaults(self) -> dict[str, Any]:
        """The values that its arguments have when not given."""
        parameters = inspect.signature(self.kind).parameters
        return {
            name: parameters[name].default
            for name in self.options
            if parameters[name].default is not inspect.Parameter.empty
        }


FAMILIES: dict[str, Family] = {
    "vit": Family(VisionTransformer, SIZES, "ViT on native-grid tokens"),
    "less": Family(
        LessViT,
        {size: SIZES[size] for size in ("nano", "tiny", "small", "base")},
        "LESS ViT: a cell for each band of each position",
    ),
    "spectral_resnet": Family(
        SpectralResNet,
        {"50": {"blocks": (3, 4, 6, 3)}},
        "SpectralEarth's adapter and ResNet",
        token_px=16,
    ),
    "resnet": Family(
        PlainResNet,
        {
            "18": {"blocks": (2, 2, 2, 2), "bottleneck": False},
            "50": {"blocks": (3, 4, 6, 3), "bottleneck": True},
            "152": {"blocks": (3, 8, 36, 3), "bottleneck": True},
        },
        "ResNet with its stem, any bands of one grid",
        token_px=32,
    ),
    "efficientnet": Family(
        EfficientNet,
        {size: {"variant": size} for size in ("lite0", "lite1", "lite2", "b4")},
        "EfficientNet, any bands of one grid",
        token_px=32,
    ),
    "copernicus": Family(
        CopernicusFM,
        {size: SIZES[size] for size in ("nano", "base")},
        "Copernicus-FM: any bands of one grid, place, time and area",
        token_px=16,
    ),
    "croma": Family(
        Croma,
        {
            "base": {"width": 768, "depth": 12, "heads": 16},
            "large": {"width": 1024, "depth": 24, "heads": 16},
        },
        "CROMA: radar, optical and joint encoder",
    ),
    "presto": Family(
        Presto,
        {"base": {"width": 128, "depth": 2, "heads": 8}},
        "Presto: each pixel's series",
        token_px=1,
    ),
    "galileo": Family(
        Galileo,
        {
            "nano": {"width": 128, "depth": 4, "heads": 8},
            "tiny": {"width": 192, "depth": 12, "heads": 3},
            "base": {"width": 768, "depth": 12, "heads": 12},
        },
        "Galileo: a series of many sensors, groups of bands over space and time",
        token_px=8,
    ),
    "towers_vit": Family(
        Towers,
        {size: {"tower": f"vit_{size}"} for size in SIZES},
        "a ViT for each sensor, side by side",
    ),
    "towers_resnet": Family(
        Towers,
        {size: {"tower": f"resnet_{size}"} for size in ("18", "50", "152")},
        "a ResNet for each sensor, side by side",
        token_px=32,
    ),
}


_SIZES = ("depth", "grid", "heads", "mlp_ratio", "reference_m", "width")
"""Options that are above 0 in every family that has them."""


def list_models() -> list[str]:
    """List the names `create_model` knows."""
    return [f"{family}_{size}" for family, item in FAMILIES.items() for size in item.sizes]


def family_of(name: str) -> tuple[Family, Mapping[str, Any]]:
    """Return the family of a model name and the options of its size.

    Raises:
        UsageError: there is no such model.
    """
    if name not in list_models():
        ours = weights.meant(name)
        hint = f"weights come by fm.load({ours!r})" if ours else suggest(name, list_models())
        raise UsageError(f"there is no model {name!r}; {hint}")
    family, _, size = name.rpartition("_")
    return FAMILIES[family], FAMILIES[family].sizes[size]


def create_model(
    name: str,
    *,
    bands: Sensor | Sequence[Band] | Mapping[str, Sequence[Band]],
    token_m: float | Mapping[str, float] | None = None,
    token_groups: Mapping[str, Sequence[str]] | None = None,
    normalisation: Mapping[str, Normalisation] | None = None,
    scaling: Scaling | None = None,
    **options: Any,
) -> Backbone:
    """Build a backbone with fresh weights.

    Args:
        name: one of `list_models()`.
        bands: what the model takes: modality to bands, or the bands of one sensor.
        token_m: ground size of a token in metres, one for all groups or one a group; when None,
            the family's `token_px` (12; ResNets 16 or 32) pixels of the finest grid.
        token_groups: group to band names, where a group is not one sensor and level.
        normalisation: modality to its normalisation in physical units; the identity when None.
        scaling: modality to (scale, offset) of stored integers; the sensor table's when None.
        options: arguments of the family's class, such as `tokenizer=` of `VisionTransformer`; None
            is as if not given (`layer_scale` of 0 leaves LayerScale out where a family has it).

    Raises:
        UsageError: an unknown name, band, group, tokenizer or option, or sizes that do not fit.
    """
    given = {key: value for key, value in options.items() if value is not None}
    return _build(name, bands, token_m, token_groups, normalisation, scaling, given)


def _build(
    name: str,
    bands: Sensor | Sequence[Band] | Mapping[str, Sequence[Band]],
    token_m: float | Mapping[str, float] | None,
    token_groups: Mapping[str, Sequence[str]] | None,
    normalisation: Mapping[str, Normalisation] | None,
    scaling: Scaling | None,
    options: Mapping[str, Any],
) -> Backbone:
    family, size = family_of(name)
    by_modality = _by_modality(bands)
    finest = min((b.gsd_m for items in by_modality.values() for b in items), default=0.0)
    token_m = family.token_px * finest if token_m is None else token_m
    made = groups(by_modality, token_m, token_groups)
    for what, given in (("normalisation", normalisation), ("scaling", scaling)):
        if given is not None and set(given) != set(by_modality):
            raise UsageError(f"{what} names {sorted(given)}; the modalities: {sorted(by_modality)}")
    if scaling is None:
        sensors = {m: sensor_of_modality(m) for m in by_modality}
        scaling = {m: (s.scale, s.offset) for m, s in sensors.items()}
    if normalisation is None:
        normalisation = {m: Normalisation.identity(len(b)) for m, b in by_modality.items()}
    if wrong := sorted(set(options) - set(family.options)):
        raise UsageError(f"{name} has no option {wrong[0]!r}; {suggest(wrong[0], family.options)}")
    _check_kinds(name, family, options)
    # the card states every argument, so that another default in a later version changes no model
    chosen = {**family.defaults, **size, **options}
    architecture: dict[str, Any] = {
        "name": name,
        "token_m": {group.name: group.token_m for group in made},
        **({} if token_groups is None else {"token_groups": _plain(token_groups)}),
        **{key: _plain(value) for key, value in chosen.items()},
    }
    model = family.kind(Intake(made, by_modality, normalisation, scaling), **chosen)
    model.architecture = architecture
    return quicken(model)


def _check_kinds(name: str, family: Family, options: Mapping[str, Any]) -> None:
    """Refuse an option whose value is not of the kind that the family's class asks for."""
    hints = get_type_hints(family.kind.__init__)
    kind = ConfigDict(strict=True, allow_inf_nan=False)
    for key, value in options.items():
        try:
            TypeAdapter(hints[key], config=kind).validate_python(value)
        except ValidationError as error:
            words = error.errors()[0]["msg"].lower()
            if get_origin(hints[key]) is Literal:
                words = f"give one of {', '.join(get_args(hints[key]))}"
            raise UsageError(f"{name}: {key}={value!r}: {words}") from None
        if key in _SIZES and value is not None and value <= 0:
            raise UsageError(f"{name}: {key}={value!r}: give a number above 0")


def rebuild(
    architecture: Mapping[str, Any],
    bands: Mapping[str, Sequence[Band]],
    normalisation: Mapping[str, Normalisation],
    scaling: Scaling,
) -> Backbone:
    """Build the backbone that a card describes, with fresh weights."""
    options = dict(architecture)
    if not isinstance(options.get("name"), str):
        raise UsageError("architecture.name is missing, or no name")
    name, token_m = options.pop("name"), options.pop("token_m", None)
    token_groups = options.pop("token_groups", None)
    return _build(name, bands, token_m, token_groups, normalisation, scaling, options)


def _plain(value: Any) -> Any:
    """Turn mappings and sequences into what JSON gives back."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _by_modality(
    bands: Sensor | Sequence[Band] | Mapping[str, Sequence[Band]],
) -> dict[str, tuple[Band, ...]]:
    if isinstance(bands, Sensor):
        return dict(bands.modalities)
    if isinstance(bands, Mapping):
        listed = {modality: tuple(items) for modality, items in bands.items()}
        for modality, items in listed.items():
            if odd := [item for item in items if not isinstance(item, Band)]:
                raise UsageError(
                    f"{modality}: {odd[0]!r} is no Band; take them from fm.sensor(NAME).modalities"
                )
        return listed
    if isinstance(bands, str):
        raise UsageError(f"bands={bands!r}: give fm.sensor({bands!r}), or bands of it")
    result: dict[str, tuple[Band, ...]] = {}
    for band in bands:
        if not isinstance(band, Band):
            raise UsageError(f"{band!r} is no Band; take them from fm.sensor(NAME).modalities")
        if not band.modality:
            raise UsageError(
                f"band {band.name} belongs to no modality; give bands as a mapping from modality"
            )
        result[band.modality] = (*result.get(band.modality, ()), band)
    return result
