"""Location encoders by name."""

import inspect
import math
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fm.errors import UsageError, suggest
from fm.location.encoder import LocationEncoder
from fm.location.encoding import Encoding
from fm.location.fourier_features import RandomFourier
from fm.location.harmonics import SphericalHarmonics
from fm.location.heads import MLP, Head, Linear, ResidualSiren, Siren
from fm.location.plain import Cartesian, Degrees, Wrap
from fm.location.scales import Grid, SphereC, SphereCPlus, SphereM, SphereMPlus, Theory

ENCODINGS: Mapping[str, type[Encoding]] = {
    "cartesian": Cartesian,
    "degrees": Degrees,
    "grid": Grid,
    "rff": RandomFourier,
    "sh": SphericalHarmonics,
    "sphere_c": SphereC,
    "sphere_c_plus": SphereCPlus,
    "sphere_m": SphereM,
    "sphere_m_plus": SphereMPlus,
    "theory": Theory,
    "wrap": Wrap,
}
HEADS: Mapping[str, type[Head]] = {
    "linear": Linear,
    "mlp": MLP,
    "residual_siren": ResidualSiren,
    "siren": Siren,
}


def list_encodings() -> list[str]:
    """Return the names that `create` and `create_encoding` know."""
    return sorted(ENCODINGS)


def create_encoding(name: str, **options: Any) -> Encoding:
    """Make an encoding without a network: the floor of every comparison.

    Args:
        name: one of `list_encodings()`.
        options: arguments of its class, such as `L=` of `sh`.

    Raises:
        UsageError: an unknown name or option, or a value that does not fit.
    """
    if name not in ENCODINGS:
        raise UsageError(f"there is no location encoding {name!r}; {suggest(name, ENCODINGS)}")
    kind = ENCODINGS[name]
    known = list(inspect.signature(kind).parameters)
    hints = get_type_hints(kind.__init__)
    for key, value in options.items():
        if key not in known:
            raise UsageError(f"{name} has no option {key!r}; {suggest(key, known)}")
        try:
            TypeAdapter(hints[key], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            words = error.errors()[0]["msg"].lower()
            raise UsageError(f"{name}: {key}={value!r}: {words}") from None
    return kind(**options)


def create(
    encoding: str = "sh",
    *,
    head: str = "siren",
    dim: int = 256,
    width: int = 512,
    depth: int = 2,
    dropout: float = 0.0,
    first_w: float = 30.0,
    season: bool = False,
    **options: Any,
) -> LocationEncoder:
    """Make a location encoder with fresh weights, drawn from torch's generator.

    The defaults are SatCLIP's network at L = 40, without its dropout of 0.5.

    Args:
        encoding: one of `list_encodings()`.
        head: `siren`, `residual_siren`, `mlp`, or `linear` (one layer and nothing else).
        dim: width of the embedding.
        width: of the hidden layers.
        depth: hidden layers.
        dropout: share of pre-activations dropped in training.
        first_w: factor in the first sine of a SIREN; other heads have no use for it.
        season: take the month too.
        options: of the encoding.

    Raises:
        UsageError: an unknown name or option, or a value out of range.
    """
    if head not in HEADS:
        raise UsageError(f"there is no head {head!r}; {suggest(head, HEADS)}")
    whole = all(type(size) is int and size >= 1 for size in (dim, width, depth))
    if not whole or not 0 <= dropout < 1 or not 0 < first_w < math.inf:
        raise UsageError(
            f"dim={dim}, width={width}, depth={depth}, dropout={dropout}, first_w={first_w}: "
            f"sizes are whole numbers above 0, first_w is above 0, dropout from 0 to below 1"
        )
    config = {
        "encoding": encoding,
        "head": head,
        "dim": dim,
        "width": width,
        "depth": depth,
        "dropout": dropout,
        "first_w": first_w,
        "season": season,
        **options,
    }
    made = create_encoding(encoding, **options)
    kind = HEADS[head]
    more = {"first_w": first_w} if issubclass(kind, Siren) else {}
    network = kind(width, depth, dim, dropout, **more)
    first = dim if kind is Linear else width
    return LocationEncoder(made, network, first, season=season, config=config)
