"""The objectives that the conformance suite runs on: one line for each.

A new objective adds its line here; `test_members.py` fails without it. What a line declares is held
against the member by the tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn

from fm.normalize import Normalisation
from fm.rng import CounterRng
from fm.sensors import Band
from pretrain.engine.batches import MicroBatch
from pretrain.objective import Objective
from pretrain.objectives import ObjectiveConfig, build_objective
from pretrain.objectives.distill.objective import Taught
from tests.conformance.backbones import BACKBONES, SATMAE_GROUPS, SMALL, Case


@dataclass(frozen=True)
class ObjectiveCase:
    """One objective around one backbone.

    Attributes:
        backbone: what it trains; each test image is 4 x 4 tokens.
        config: as in a recipe's `objective`.
        hidden_only: nothing that the encoder sees is a target.
        complete: everything that it does not see is one.
        pixel_targets: each output has one pixel as its target (no normalisation within a token).
        shared_heads: one head predicts every band, so that an output has no band of its own.
        heads: group/modality, modality, group or any name to the last linear layer of each
            prediction.
        head_bands: such a name to the bands that the head predicts, where it is any name.
        factor: how many times larger images are than what the encoder takes of them.
        labels: name to classes; the last sample of a batch has none.
        located: samples have a place.
        drawn: its losses depend on the random numbers of the samples.
        frugal: keeps nothing of the backbone's blocks for the backward pass.
        rounding: by how much more it shows in which order numbers were added: batch norms over the
            four rows of a test batch multiply differences.
    """

    backbone: Case
    config: Mapping[str, Any]
    hidden_only: bool = True
    complete: bool = True
    pixel_targets: bool = False
    shared_heads: bool = False
    heads: Callable[[Objective], Mapping[str, nn.Module]] = lambda objective: {
        f"{group}/{modality}": head
        for group, heads in objective.get_submodule("heads").named_children()
        for modality, head in heads.named_children()
    }
    head_bands: Callable[[Objective, str], tuple[Band, ...]] | None = None
    factor: int = 1
    labels: Mapping[str, int] = field(default_factory=dict)
    located: bool = False
    drawn: bool = True
    frugal: bool = False
    rounding: float = 1.0
    teacher: Case | None = None
    seen: Mapping[str, tuple[str, ...]] | None = None

    @property
    def case(self) -> Case:
        """The backbone on images of 4 x 4 tokens."""
        return replace(self.backbone, rows=4 * self.factor, columns=4 * self.factor)

    def build(self) -> Objective:
        """Build it with the weights of seed 0."""
        whole = self.case.build()
        backbone = whole if self.seen is None else self.case.build(self._some(whole.bands))
        backbone.normalisation = {
            m: Normalisation("zscore", (0.5,) * len(b), (0.3,) * len(b))
            for m, b in backbone.bands.items()
        }
        config: Any = TypeAdapter(ObjectiveConfig).validate_python(dict(self.config))
        for part in backbone.modules():  # residual blocks of ResNets begin with their branch at 0
            if isinstance(part, nn.BatchNorm2d) and not part.weight.any():
                nn.init.constant_(part.weight, 0.5)
        taught = None if self.teacher is None else Taught(self.teacher.build(), whole.bands)
        torch.manual_seed(1)
        return build_objective(config, backbone.train(), taught)

    def _some(self, bands: Mapping[str, tuple[Band, ...]]) -> dict[str, tuple[Band, ...]]:
        return {
            m: tuple(band for band in bands[m] if band.name in names)
            for m, names in (self.seen or {}).items()
        }

    def batch(self, objective: Objective, count: int = 4, seed: int = 1) -> MicroBatch:
        """Make a batch of physical pixels; samples are positions 0 to `count` of epoch 0."""
        whole = objective.backbone if self.seen is None else self.case.build()
        pixels = self.case.pixels(whole, count, seed)
        rng = CounterRng(7, torch.zeros(count, dtype=torch.int64), torch.arange(count))
        told = {
            name: torch.rand(count, size, generator=torch.Generator().manual_seed(seed)).round()
            for name, size in self.labels.items()
        }
        for label in told.values():
            label[:, 0] = 1.0
            label[-1] = float("nan")
        times = self.case.times(count)
        lonlat = None
        if self.located:
            lonlat = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
            lonlat = lonlat * torch.tensor([360.0, 170.0]) - torch.tensor([180.0, 85.0])
        return MicroBatch(
            pixels, torch.ones(count), {}, rng, times=times, labels=told, lonlat=lonlat
        )

    def bands_of_head(self, objective: Objective, name: str) -> tuple[Band, ...]:
        """Return the bands that one of `heads` predicts."""
        backbone = objective.backbone
        if self.head_bands is not None:
            return self.head_bands(objective, name)
        group, _, modality = name.partition("/")
        for member in backbone.groups[group].members if modality else ():
            if member.modality == modality:
                return member.bands
        if name in backbone.bands:
            return backbone.bands[name]
        return tuple(band for member in backbone.groups[name].members for band in member.bands)


_DECODER = {"width": 32, "depth": 1, "heads": 2}

_HYPER = ObjectiveCase(
    BACKBONES["less-sum"],
    {"kind": "hyper_mae", "decoder": _DECODER},
    pixel_targets=True,
    shared_heads=True,
    heads=lambda objective: dict(objective.get_submodule("heads").named_children()),
)

_RADAR = Case(
    "resnet_18", {"blocks": (1, 1, 1, 1), "planes": 4}, sensor="sentinel1-grd", token_m=320
)
_ASKED = {"view": {"size": 24}, "width": 8, "hidden": 16}
_SOFT = {"kind": "softcon", "label": "cover", "classes": 4, "soft_weight": 0.5, **_ASKED}
_DINO = {
    "kind": "dino",
    "view": {"size": 24},
    "local_view": {"size": 12, "scale": [0.2, 0.5]},
    "local_views": 2,
    "outputs": 24,
    "hidden": 16,
    "bottleneck": 8,
}
_HALVES = {
    "ten": SATMAE_GROUPS["ten"],
    "coarser": (*SATMAE_GROUPS["twenty"], *SATMAE_GROUPS["sixty"]),
}
_TWO = Case("towers_vit_nano", {"tower_options": SMALL}, token_groups=_HALVES)
_TIMED = {"tower_options": {**SMALL, "time_code_width": 12}}
_COVER = {"kind": "landcover", "label": "cover", "classes": 4}
_CLOSP = {
    "kind": "closp",
    "label": "cover",
    "classes": 4,
    "text": {"width": 16, "depth": 1, "heads": 2, "words": 64},
}
_DECUR = {"kind": "decur", "view": {"size": 24}, "hidden": 16, "width": 16}

_SATCLIP = {
    "kind": "satclip",
    "width": 8,
    "location": {"width": 16, "options": {"L": 4}},
}
_SEASONS = {"view": {"size": 24}, "queue": 8, "width": 8}

_DISTILL = {"kind": "distill", "teacher": {"source": "given"}}
_LARGE = {"width": 48, "depth": 2, "heads": 3}
_RELATED = ObjectiveCase(
    BACKBONES["vit-linear"],
    {
        **_DISTILL,
        "pooled": {"cosine": 0, "squared": 1, "whiten": True},
        "relations": {"distance": 1.0, "angle": 2.0},
        "head": "mlp",
        "view": {"size": 24, "flips": "square"},
        "teacher_size": 48,
    },
    teacher=Case("vit_nano", _LARGE),
    seen={"s2l1c_10": ("B02", "B03", "B04")},
)

CONTRASTS: dict[str, ObjectiveCase] = {
    "distill-relations": _RELATED,
    "distill-resnet": ObjectiveCase(
        _RADAR,
        _DISTILL,
        drawn=False,
        teacher=Case("vit_nano", _LARGE, sensor="sentinel1-grd", token_m=160),
    ),
    "closp": ObjectiveCase(
        BACKBONES["towers"], _CLOSP, labels={"cover": 4}, drawn=False, rounding=10.0
    ),
    "closp-place": ObjectiveCase(
        BACKBONES["vit-linear"],
        {**_CLOSP, "legacy_one_positive": True, "place": {"width": 8, "options": {"L": 3}}},
        labels={"cover": 4},
        drawn=False,
        rounding=10.0,
    ),
    "moco-v2": ObjectiveCase(
        BACKBONES["vit-linear"], {"kind": "moco", "version": "v2", "queue": 10, **_ASKED}
    ),
    "moco-v3": ObjectiveCase(
        BACKBONES["vit-learned"],
        {"kind": "moco", "version": "v3", "mask_ratio": 0.25, **_ASKED},
        rounding=100.0,
    ),
    "moco-times": ObjectiveCase(
        BACKBONES["vit-times"], {"kind": "moco", "version": "v2", "queue": 10, **_ASKED}
    ),
    "softcon-v2": ObjectiveCase(
        _RADAR,
        {**_SOFT, "version": "v2", "queue": 12, "symmetric": True, "view": {"size": 64}},
        labels={"cover": 4},
    ),
    "softcon-v3": ObjectiveCase(
        BACKBONES["vit-linear"], {**_SOFT, "version": "v3"}, labels={"cover": 4}, rounding=100.0
    ),
    "softcon-learned": ObjectiveCase(
        BACKBONES["vit-linear"],
        {**_SOFT, "version": "v2", "queue": 10, "soft_learned": True, "soft_bias": -2.0},
        labels={"cover": 4},
    ),
    "dino": ObjectiveCase(BACKBONES["vit-learned"], {**_DINO, "norm_last_layer": False}),
    "dino-times": ObjectiveCase(BACKBONES["vit-times"], _DINO),
    "dino-sinkhorn": ObjectiveCase(
        _RADAR,
        {
            **_DINO,
            "view": {"size": 64},
            "local_view": {"size": 32},
            "local_views": 1,
            "centring": "sinkhorn",
        },
    ),
    "seco": ObjectiveCase(BACKBONES["vit-times"], {"kind": "seco", **_SEASONS}),
    "seco-resnet": ObjectiveCase(
        replace(_RADAR, images=3),
        {"kind": "seco", **_SEASONS, "view": {"size": 64}, "hidden": 16},
    ),
    "caco": ObjectiveCase(  # the two images of a sample are two eras
        BACKBONES["vit-times"], {"kind": "caco", **_SEASONS, "era_years": 0.2, "places": 32}
    ),
    "satclip": ObjectiveCase(
        _RADAR, {**_SATCLIP, "view": {"size": 64}}, located=True, frugal=True, rounding=4.0
    ),
    "satclip-tuned": ObjectiveCase(
        BACKBONES["vit-linear"],
        {**_SATCLIP, "image": "tuned", "chunk": 2, "soft_km": 500.0, "view": {"size": 24}},
        located=True,
        frugal=True,
    ),
    "satclip-times": ObjectiveCase(
        replace(_RADAR, images=2),
        {
            **_SATCLIP,
            "image": "tuned",
            "view": {"size": 64, "scale": [0.2, 0.6]},
            "location": {"encoding": "wrap", "width": 16, "season": True, "options": {}},
        },
        located=True,
    ),
    "satclip-queue": ObjectiveCase(
        BACKBONES["vit-linear"],
        {
            **_SATCLIP,
            "image": "tuned",
            "one_way": True,
            "queue": 6,
            "queue_apart_km": 50.0,
            "view": {"size": 24},
        },
        located=True,
    ),
    "decur": ObjectiveCase(_TWO, _DECUR, rounding=100.0),
    "decur-times": ObjectiveCase(replace(_TWO, options=_TIMED, images=2), _DECUR, rounding=100.0),
}
"""Objectives that compare the samples of a batch: their losses are of the whole batch."""

MASKED: dict[str, ObjectiveCase] = {
    "mae-cross": ObjectiveCase(BACKBONES["vit-linear"], {"kind": "mae", "decoder": _DECODER}),
    "mae-joint": ObjectiveCase(
        BACKBONES["vit-linear"], {"kind": "mae", "decoder": {**_DECODER, "kind": "joint"}}
    ),
    "mae-pixel-partial": ObjectiveCase(
        BACKBONES["vit-linear"],
        {"kind": "mae", "target": "pixel", "decoder": {**_DECODER, "predict": 0.4}},
        complete=False,
        pixel_targets=True,
    ),
    "mae-metadata": ObjectiveCase(
        BACKBONES["vit-metadata"],
        {"kind": "mae", "target": "pixel", "decoder": _DECODER},
        pixel_targets=True,
    ),
    "mae-visible": ObjectiveCase(
        BACKBONES["vit-linear"],
        {
            "kind": "mae",
            "target": "pixel",
            "visible": 1.0,
            "decoder": {**_DECODER, "kind": "joint"},
        },
        hidden_only=False,
        pixel_targets=True,
    ),
    "mae-basis-views": ObjectiveCase(
        BACKBONES["vit-basis"],
        {
            "kind": "mae",
            "target": "pixel",
            "visible": 0.5,
            "spectral_views": 8,
            "decoder": _DECODER,
        },
        hidden_only=False,
        shared_heads=True,  # an output is a component of all bands
    ),
    "mae-groups-flat": ObjectiveCase(
        BACKBONES["vit-groups"],
        {"kind": "mae", "mask": "flat", "target": "band", "decoder": {**_DECODER, "kind": "joint"}},
    ),
    "mae-groups-angle": ObjectiveCase(
        BACKBONES["vit-groups"],
        {
            "kind": "mae",
            "mask": "consistent",
            "target": "pixel",
            "spectral_angle": 0.5,
            "decoder": _DECODER,
        },
    ),
    "mae-times": ObjectiveCase(
        BACKBONES["vit-times"],
        {"kind": "mae", "target": "pixel", "decoder": {**_DECODER, "kind": "joint"}},
        pixel_targets=True,
    ),
    "mae-times-consistent": ObjectiveCase(
        BACKBONES["vit-times"],
        {
            "kind": "mae",
            "mask": "consistent",
            "target": "band",
            "decoder": {**_DECODER, "predict": 0.5, "time_code_width": 12},
        },
        complete=False,
    ),
    "multiscale-masked": ObjectiveCase(
        BACKBONES["vit-linear"],
        {"kind": "multiscale", "scales": 1, "decoder": {**_DECODER, "predict": 0.5}},
        hidden_only=False,  # what is seen goes into the head as it is
        complete=False,
        pixel_targets=True,
        shared_heads=True,
        factor=2,
    ),
    "multiscale-window": ObjectiveCase(
        BACKBONES["vit-groups"],
        {
            "kind": "multiscale",
            "scales": 1,
            "mask": "flat",
            "decoder": {**_DECODER, "predict": 0.5, "where": "window"},
        },
        hidden_only=False,
        complete=False,
        pixel_targets=True,
        shared_heads=True,
        factor=2,
    ),
    "multiscale-all": ObjectiveCase(
        BACKBONES["vit-groups"],
        {
            "kind": "multiscale",
            "scales": 1,
            "scale_loss": "all",
            "decoder": {**_DECODER, "kind": "joint"},
        },
        hidden_only=False,
        pixel_targets=True,
        shared_heads=True,
        factor=2,
    ),
    "hyper_mae-rope": replace(  # rotations alone do not tell bands apart within 60 steps
        _HYPER, backbone=BACKBONES["less-rope"], pixel_targets=False
    ),
    "hyper_mae-sum": _HYPER,
}
"""Objectives that predict masked tokens."""

SUPERVISED: dict[str, ObjectiveCase] = {
    "landcover": ObjectiveCase(BACKBONES["vit-linear"], _COVER, labels={"cover": 4}, drawn=False),
    "landcover-times": ObjectiveCase(
        BACKBONES["vit-times"], _COVER, labels={"cover": 4}, drawn=False
    ),
    "landcover-beside": ObjectiveCase(
        BACKBONES["vit-linear"],
        {**_COVER, "weight": 0.5, "beside": {"kind": "mae", "decoder": _DECODER}},
        labels={"cover": 4},
    ),
}
"""Objectives that predict labels, alone or beside another."""

TAUGHT: dict[str, ObjectiveCase] = {
    "distill": ObjectiveCase(
        BACKBONES["vit-linear"],
        _DISTILL,
        drawn=False,
        teacher=Case("vit_nano", _LARGE, token_m=60),
    ),
    "distill-of-resnet": ObjectiveCase(
        Case("vit_nano", sensor="sentinel1-grd", token_m=160),
        _DISTILL,
        drawn=False,
        teacher=_RADAR,
    ),
    "distill-times": ObjectiveCase(
        BACKBONES["vit-times"], _DISTILL, teacher=Case("vit_nano", _LARGE)
    ),
}
"""Objectives that learn from a teacher which is not trained, sample by sample."""

ALONE: dict[str, ObjectiveCase] = {
    "landcover": ObjectiveCase(_RADAR, _COVER, labels={"cover": 4}),
    "distill": CONTRASTS["distill-resnet"],
    "dino": replace(
        CONTRASTS["dino-sinkhorn"],
        config={**CONTRASTS["dino-sinkhorn"].config, "centring": "mean"},
    ),
}
"""Objectives that take all of a batch for the sake of norms alone."""

OBJECTIVES = MASKED | CONTRASTS | SUPERVISED | TAUGHT
