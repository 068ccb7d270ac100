"""Location encoders whose weights others released, without their image towers."""

import math
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fm.errors import FMError
from fm.foreign import read
from fm.likeness import TooManyError, likeness
from fm.location.encoder import LocationEncoder, Sum
from fm.location.registry import create

_CONVENTIONS = {"analytic": "satclip", "closed-form": "closed_form"}
_GEOCLIP = Path("geoclip") / "model" / "weights" / "location_encoder_weights.pth"
_MLP = {"1": "first", "3": "head.layers.0", "5": "head.layers.1"}


def satclip(path: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> LocationEncoder:
    """Load the location encoder of a SatCLIP checkpoint (Klemmer et al. 2023, arXiv 2311.17179).

    Of the Lightning file only the location network is kept; its sizes are read from the shapes.
    The spherical harmonics are those of `convention="satclip"`, with the factor pi at m = 0 that
    the weights were trained on, but exact: the published expressions are wrong by up to 0.65 at
    L = 40 beyond 45 degrees of latitude, so that embeddings there differ from theirs.

    Args:
        path: of the `.ckpt` file.
        dtype: the file's float64, or float32, which is faster and differs by about 1e-5.

    Returns:
        the encoder in `eval()`.

    Raises:
        FMError: a file that cannot be read safely, or that holds no such network.
    """
    reading = read(path, whole=True)
    state = _satclip_network(reading.state, reading.where)
    told = reading.settings
    kinds = (told.get("le_type", "sphericalharmonics"), told.get("pe_type", "siren"))
    if kinds != ("sphericalharmonics", "siren"):
        raise FMError(
            f"{reading.where}: {kinds[0]} with {kinds[1]}; only sphericalharmonics with siren is "
            f"loaded"
        )
    method = told.get("harmonics_calculation", "analytic")
    if method not in _CONVENTIONS:
        raise FMError(f"{reading.where}: harmonics_calculation {method!r} is not known")
    depth = len([key for key in state if key.startswith("layers.") and key.endswith(".weight")])
    first, last = state.get("layers.0.weight"), state.get("last_layer.weight")
    if first is None or last is None or first.ndim != 2 or last.ndim != 2:
        raise FMError(f"{reading.where}: no SIREN of SatCLIP: layers.0 or last_layer is missing")
    degrees = math.isqrt(first.shape[1])
    if degrees**2 != first.shape[1] or told.get("legendre_polys", degrees) != degrees:
        raise FMError(
            f"{reading.where}: the first layer takes {first.shape[1]} features, which are not the "
            f"harmonics of {told.get('legendre_polys', 'any number of')} degrees"
        )
    make = partial(
        create,
        "sh",
        head="siren",
        dim=last.shape[0],
        width=first.shape[0],
        depth=depth,
        dropout=0.5,
        L=degrees,
        convention=_CONVENTIONS[method],
    )
    named = {_satclip_key(key): value for key, value in state.items()}
    return _filled(make, named, reading.where, dtype)


def _satclip_network(state: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Pick the location network, which the file holds under two names."""
    prefixes = sorted({found[1] for key in state if (found := re.match(r"((?:.*\.)?nnet\.)", key))})
    if not prefixes:
        raise FMError(f"{where}: no location network of SatCLIP in it (no key with 'nnet.')")
    parts = [
        {key.removeprefix(p): value for key, value in state.items() if key.startswith(p)}
        for p in prefixes
    ]
    for other in parts[1:]:
        same = other.keys() == parts[0].keys()
        if not same or not all(torch.equal(other[key], parts[0][key]) for key in other):
            raise FMError(
                f"{where}: {prefixes[0]} and {prefixes[1]} should be the same network and differ"
            )
    return parts[0]


def _satclip_key(key: str) -> str:
    if found := re.fullmatch(r"layers\.(\d+)\.(weight|bias)", key):
        place = int(found[1])
        return f"first.{found[2]}" if place == 0 else f"head.layers.{place - 1}.{found[2]}"
    return key.replace("last_layer.", "head.last.")


def geoclip(path: str | os.PathLike[str], *, dtype: torch.dtype = torch.float32) -> Sum:
    """Load GeoCLIP's location encoder (Vivanco Cepeda et al. 2023, arXiv 2309.16020).

    Args:
        path: `location_encoder_weights.pth`, or the folder where the wheel of the pip package
            `geoclip` was unpacked.
        dtype: float32 as in the file, or float64.

    Returns:
        the encoder in `eval()`; it takes (lon, lat) as all of ours do, where theirs takes
        (lat, lon). Angles are float64, so embeddings differ from theirs by their rounding,
        about 1e-4 of the largest value.

    Raises:
        FMError: a file that cannot be read safely, or that holds another network.
    """
    path = Path(path)
    reading = read(path / _GEOCLIP if path.is_dir() else path)
    branches: dict[int, dict[str, Tensor]] = {}
    for key, value in reading.state.items():
        found = re.fullmatch(r"LocEnc(\d+)\.(capsule|head)\.(\d+)\.(b|weight|bias)", key)
        name = found and _geoclip_key(*found.groups()[1:])
        if not found or name is None:
            raise FMError(f"{reading.where}: {key} is not of GeoCLIP's location encoder")
        branches.setdefault(int(found[1]), {})[name] = value
    if sorted(branches) != list(range(len(branches))):
        raise FMError(f"{reading.where}: branches {sorted(branches)} of GeoCLIP; one is missing")
    made = [_branch(branches[i], reading.where, dtype) for i in range(len(branches))]
    return Sum(made).eval()


def _branch(state: Mapping[str, Tensor], where: str, dtype: torch.dtype) -> LocationEncoder:
    for name in ("first.encoding.frequencies", "first.weight", "head.last.weight"):
        if name not in state or state[name].ndim != 2:
            raise FMError(f"{where}: a branch of GeoCLIP lacks its {name.rpartition('.')[2]}")
    make = partial(
        create,
        "rff",
        head="mlp",
        dim=len(state["head.last.weight"]),
        width=len(state["first.weight"]),
        depth=3,
        count=len(state["first.encoding.frequencies"]),
    )
    return _filled(make, state, where, dtype)


def _geoclip_key(part: str, place: str, kind: str) -> str | None:
    if (part, place, kind) == ("capsule", "0", "b"):
        return "first.encoding.frequencies"
    if (part, place) == ("head", "0") and kind != "b":
        return f"head.last.{kind}"
    name = _MLP.get(place)
    return f"{name}.{kind}" if part == "capsule" and name and kind != "b" else None


def _filled(
    make: Callable[[], LocationEncoder],
    state: Mapping[str, Tensor],
    where: str,
    dtype: torch.dtype,
) -> LocationEncoder:
    """Make an encoder once the weights are known to be its, all of them and nothing else."""
    if dtype not in (torch.float32, torch.float64):
        raise FMError(f"a location encoder is float32 or float64, not {dtype}")
    try:
        own: dict[str, Any] = dict(likeness(make, len(state)).state_dict())
    except TooManyError:
        raise FMError(f"{where}: {len(state)} keys are too few for its sizes") from None
    for key in sorted(own.keys() ^ state.keys()):
        raise FMError(f"{where}: {'lacks' if key in own else 'has beyond what is known'} {key}")
    for key, value in state.items():
        if value.shape != own[key].shape:
            sizes = f"{list(value.shape)}, expected {list(own[key].shape)}"
            raise FMError(f"{where}: {key} is {sizes}")
    encoder = make().to(dtype)
    encoder.load_state_dict(dict(state))
    return encoder.eval()
