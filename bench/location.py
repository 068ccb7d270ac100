"""Spherical harmonics of 40 degrees and SatCLIP's location encoder on them.

The published side is `bench/location_published.py` in float64, as its authors run it, on the same
points; `tests/bench/test_location_published.py` checks it. Its encoder and ours have the same
weights: harmonics of 40 degrees, SIREN 512, 512, 256, no dropout. A training step is forward,
backward and fused AdamW. The map is 0.25 degrees: rows of 1440 places, embedded with the first
layer taken apart by orders and without. sphericart-torch (`python -m bench.peers sphericart`) is
C++; it takes unit vectors, made within its time. One process and one thread; the allocator keeps
what is freed, for every side, or the kernel clearing pages is what is timed. Operations counted
are those torch dispatches on a CPU, views among them.
"""

import ctypes
import math
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench import peers
from bench.location_published import encode as published
from bench.runner import Bench, Fact, Ready, Target
from fm.errors import FMError
from fm.linear import linear
from fm.location import LocationEncoder, SphericalHarmonics, create, on_grid

DEGREES = 40
PLACES, QUICK_PLACES = 10_000, 1_000
ROWS, QUICK_ROWS = 16, 2
"""Rows of the map, spread over the latitudes."""
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
AGREE = 1e-3
"""Largest difference of embeddings within 45 degrees, where the published form is exact to 5e-5."""
_made: dict[str, Tensor] = {}


def _prepare() -> None:
    torch.set_num_threads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@cache
def places(quick: bool) -> Tensor:
    """Return `[N, 2]` float64 degrees, uniform on the sphere."""
    rng = np.random.default_rng(0)
    count = QUICK_PLACES if quick else PLACES
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    return torch.tensor(np.stack([rng.uniform(-180, 180, count), lat], 1))


@cache
def exact(quick: bool, degrees: int) -> np.ndarray:
    """Return the first 500 places' orthonormal harmonics by scipy, `[n, degrees^2]`."""
    from scipy.special import sph_harm_y

    found = places(quick)[:500].numpy()
    pairs = [(d, m) for d in range(degrees) for m in range(-d, d + 1)]
    degree, order = np.array(pairs).T
    lon, colatitude = np.radians(found[:, :1]), np.radians(90 - found[:, 1:])
    value = sph_harm_y(degree, abs(order), colatitude, lon)
    real = np.where(order < 0, value.imag, value.real)
    return real * np.where(order == 0, 1.0, (-1.0) ** order * math.sqrt(2))


def _harmonics(dtype: torch.dtype, at_once: bool) -> Callable[[bool], Ready]:
    def prepare(quick: bool) -> Ready:
        _prepare()
        made = SphericalHarmonics(DEGREES).to(dtype)
        encode = made.encode_at_once if at_once else made
        found = places(quick)

        @torch.no_grad()
        def step() -> None:
            encode(found)

        return Ready(step, {"places": len(found), "dtype": str(dtype).removeprefix("torch.")})

    return prepare


def prepare_published(quick: bool) -> Ready:
    """The analytic expressions, float64."""
    _prepare()
    found = places(quick)

    @torch.no_grad()
    def step() -> None:
        published(found, DEGREES)

    return Ready(step, {"places": len(found), "dtype": "float64"})


@cache
def _sphericart() -> Any:
    """Return sphericart.torch out of its own environment, loaded into this process; or None."""
    if not peers.python("sphericart").exists():
        return None
    sys.path += [str(p) for p in peers.HOME.glob("sphericart/lib/python*/site-packages")]
    try:
        import sphericart.torch as found
    except (ImportError, OSError):
        return None
    return found


def _of_sphericart(lonlat: Tensor) -> Tensor:
    lon, lat = torch.deg2rad(lonlat).unbind(1)
    across = lat.cos()
    return torch.stack([across * lon.cos(), across * lon.sin(), lat.sin()], 1)


def _peer(dtype: torch.dtype) -> Callable[[bool], Ready | None]:
    def prepare(quick: bool) -> Ready | None:
        _prepare()
        module = _sphericart()
        if module is None:
            return None
        made = module.SphericalHarmonics(DEGREES - 1)
        found = places(quick)

        @torch.no_grad()
        def step() -> None:
            made(_of_sphericart(found).to(dtype))

        return Ready(step, {"places": len(found), "dtype": str(dtype).removeprefix("torch.")})

    return prepare


class Published(nn.Module):
    """Our encoder's weights behind the published expressions, float64."""

    def __init__(self, encoder: LocationEncoder) -> None:
        super().__init__()
        self.encoder = encoder.double()

    def forward(self, lonlat: Tensor) -> Tensor:
        """Embed `[N, 2]` degrees."""
        first = self.encoder.first
        features = published(lonlat, DEGREES)
        before = nn.functional.linear(features, first.weight, first.bias)
        return self.encoder.from_first(before).embedding


def encoder() -> LocationEncoder:
    """Return SatCLIP's encoder at L = 40, the same weights at every call."""
    torch.manual_seed(0)
    return create("sh", L=DEGREES, convention="satclip")


def _embeds(kind: str, training: bool) -> Callable[[bool], Ready]:
    def prepare(quick: bool) -> Ready:
        _prepare()
        module: nn.Module = encoder() if kind == "ours" else Published(encoder())
        found = places(quick)
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

        def forward() -> None:
            with torch.no_grad():
                _made[kind] = module(found)

        def step() -> None:
            optimizer.zero_grad()
            module(found).square().mean().backward()
            optimizer.step()

        dtype = "float32" if kind == "ours" else "float64"
        return Ready(step if training else forward, {"places": len(found), "dtype": dtype})

    return prepare


def _products(quick: bool) -> Ready:
    """The matrix products of our encoder's forward pass, with nothing between them."""
    _prepare()
    module = encoder()
    weights = [module.first.weight, *(p for p in module.head.parameters() if p.ndim == 2)]
    count = len(places(quick))
    inputs = [torch.rand(count, weight.shape[1]) for weight in weights]

    @torch.no_grad()
    def step() -> None:
        for x, weight in zip(inputs, weights, strict=True):
            linear(x, weight)

    return Ready(step, {"places": count, "dtype": "float32"})


def _maps(kind: str) -> Callable[[bool], Ready]:
    def prepare(quick: bool) -> Ready:
        _prepare()
        module = encoder().eval()
        lon = torch.arange(1440, dtype=torch.float64) / 4 - 180
        lat = torch.linspace(90, -90, 721, dtype=torch.float64)[
            :: 720 // (QUICK_ROWS if quick else ROWS)
        ]

        def step() -> None:
            rows = list(on_grid(module, lon, lat, separable=kind == "separable"))
            _made[kind] = torch.cat(rows)

        return Ready(step, {"places": len(lon) * len(lat), "dtype": "float32"})

    return prepare


class _Count(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return op(*args, **(kwargs or {}))


@torch.no_grad()
def operations(encode: Callable[[Tensor], Tensor], lonlat: Tensor) -> int:
    """Count the operations of one call."""
    with _Count() as counted:
        encode(lonlat)
    return counted.count


def check() -> None:
    """See that both sides embedded the same: the maps everywhere, the encoders within 45 degrees.

    Raises:
        FMError: they did not.
    """
    ours = _made["ours"]
    found = places(len(ours) == QUICK_PLACES)
    near = found[:, 1].abs() <= 45
    apart = float((_made["published"] - ours)[near].abs().max())
    maps = float((_made["dense"] - _made["separable"]).abs().max())
    if apart > AGREE or maps > AGREE:
        raise FMError(f"bench location: embeddings differ by {apart:.3g}, maps by {maps:.3g}")


def _errors_of_sphericart(quick: bool) -> list[Fact]:
    """Errors where it has a value at all; in float32 its prefactors overflow at high orders."""
    module, facts = _sphericart(), []
    for dtype in (torch.float32, torch.float64):
        error = lacking = None
        if module is not None:
            some = _of_sphericart(places(quick)[:500]).to(dtype)
            values = module.SphericalHarmonics(DEGREES - 1)(some).double().numpy()
            finite = np.isfinite(values)
            error = float(np.abs(values - exact(quick, DEGREES))[finite].max())
            lacking = float(1 - finite.mean())
        name = f"sphericart-torch {str(dtype).removeprefix('torch.')}"
        facts.append(Fact(f"largest error, {name}", error, "of finite orthonormal values"))
        facts.append(Fact(f"not finite, {name}", lacking, "share of values"))
    return facts


@torch.no_grad()
def facts(quick: bool) -> list[Fact]:
    """Operations of a call, and errors against scipy."""
    found = places(quick)
    made = SphericalHarmonics(DEGREES)
    facts = [
        Fact("operations, published", operations(lambda x: published(x, DEGREES), found), ""),
        Fact("operations, ours at once", operations(made.encode_at_once, found), "", at_most=40),
        Fact("operations, ours by degree", operations(made, found), ""),
    ]
    some = found[:500]
    order = (
        SphericalHarmonics(DEGREES, "satclip").factors()
        / SphericalHarmonics(DEGREES, "orthonormal").factors()
    )
    pairs = [(d, abs(m)) for d in range(DEGREES) for m in range(-d, d + 1)]
    factor = np.array([order[pair] for pair in pairs])
    error = np.abs(published(some, DEGREES).numpy() / factor - exact(quick, DEGREES)).max()
    facts.append(Fact("largest error, published float64", float(error), "of orthonormal values"))
    bounds = {(40, torch.float32): 2e-6, (40, torch.float64): 1e-12, (100, torch.float32): 4e-6}
    for (degrees, dtype), bound in bounds.items():
        ours = SphericalHarmonics(degrees, "orthonormal").to(dtype)
        for words, encode in (("at once", ours.encode_at_once), ("by degree", ours)):
            error = np.abs(encode(some).double().numpy() - exact(quick, degrees)).max()
            name = f"largest error, ours {words}, L={degrees} {str(dtype).removeprefix('torch.')}"
            facts.append(Fact(name, float(error), "of orthonormal values", at_most=bound))
    return facts + _errors_of_sphericart(quick)


PUBLISHED, ONCE, DEGREE = "published form", "ours, at once", "ours, by degree"
DOUBLE, PEER, PEER_DOUBLE = (
    "ours, float64",
    "sphericart-torch, float32",
    "sphericart-torch, float64",
)
BENCH = Bench(
    name="location",
    question="What does a location encoder on 40 degrees of spherical harmonics cost?",
    competitors={
        PUBLISHED: prepare_published,
        ONCE: _harmonics(torch.float32, True),
        DEGREE: _harmonics(torch.float32, False),
        DOUBLE: _harmonics(torch.float64, False),
        PEER: _peer(torch.float32),
        PEER_DOUBLE: _peer(torch.float64),
        "published encoder": _embeds("published", False),
        "our encoder": _embeds("ours", False),
        "our encoder's products alone": _products,
        "published training step": _embeds("published", True),
        "our training step": _embeds("ours", True),
        "map, dense": _maps("dense"),
        "map, separable": _maps("separable"),
    },
    targets=(
        Target("published form over ours, at once", PUBLISHED, ONCE, at_least=30),
        Target("published form over ours, by degree", PUBLISHED, DEGREE),
        Target("published form over ours, float64", PUBLISHED, DOUBLE),
        Target("sphericart-torch over ours, by degree, float32", PEER, DEGREE),
        Target("sphericart-torch over ours, by degree, float64", PEER_DOUBLE, DOUBLE),
        Target("forward, published over ours", "published encoder", "our encoder", at_least=5.5),
        Target("forward, ours over its products", "our encoder", "our encoder's products alone"),
        Target(
            "training step, published over ours",
            "published training step",
            "our training step",
            at_least=3.5,
        ),
        Target("map, dense over separable", "map, dense", "map, separable", at_least=2),
    ),
    unit="ms",
    rounds=16,
    quick_rounds=2,
    warmup=2,
    versions=("torch", "numpy", "scipy", "sphericart-torch"),
    check=check,
    facts=facts,
)
