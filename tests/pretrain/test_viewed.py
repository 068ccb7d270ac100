"""What objectives over views share: sizes of two views, whole samples as features, teachers."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from fm.errors import UsageError
from pretrain.augment import seasons
from pretrain.config import RunConfig
from pretrain.objectives import ObjectiveConfig
from pretrain.objectives.contrast.teacher import pairs_of, teacher_of
from pretrain.objectives.contrast.viewed import TwoViews, Viewed
from tests.conformance.objectives import CONTRASTS

VIEWED = [name for name in CONTRASTS if not name.startswith(("closp", "distill"))]


@pytest.mark.parametrize("name", ["moco-v2", "dino", "decur"])
def test_two_views_have_one_token_grid(name: str) -> None:
    case = CONTRASTS[name]
    objective = replace(case, config={**case.config, "second_view": {"size": 36}}).build()
    assert isinstance(objective, TwoViews)
    with pytest.raises(UsageError, match=r"objective\.second_view\.size: its tokens would be"):
        objective.grids(case.batch(objective).pixels)
    for view in ("view", "second_view"):
        broken = replace(case, config={**case.config, view: {"size": 26}}).build()
        with pytest.raises(UsageError, match=rf"^objective\.{view}\.size=26: "):
            broken.grids(case.batch(broken).pixels)
    second = {"size": 24, "radar": {"speckle": 8.0}}
    other = replace(case, config={**case.config, "second_view": second})
    with pytest.raises(UsageError, match=r"objective\.second_view\.radar is set"):
        other.build()


@pytest.mark.parametrize("name", VIEWED)
def test_features_are_of_whole_samples_without_effects(name: str) -> None:
    """The encoder's own of the pixels as they are, of a series by the image that is drawn."""
    case = CONTRASTS[name]
    case = replace(case, config={**case.config, "view": {}})
    objective = case.build().eval()
    assert isinstance(objective, Viewed)
    assert objective.takes_series
    batch = case.batch(objective)
    (image,) = seasons(batch, batch.rng, 1)
    row = torch.arange(len(image))
    shown = {m: x[row, image] if x.ndim == 5 else x for m, x in batch.pixels.items()}
    time = None if batch.times is None else batch.times[row, image]
    want = objective.backbone.encode(shown, time=time, lonlat=batch.lonlat).pooled
    assert torch.allclose(objective.features(batch), want, atol=1e-5)
    assert objective.grids(batch.pixels) == objective.backbone.grids(shown)


def test_a_teacher_is_a_copy_beside_what_it_follows() -> None:
    student = nn.ModuleDict({"head": nn.Linear(2, 3), "body": nn.Linear(2, 2)})
    teacher = teacher_of(head=student["head"])
    ((own, follows, momentum),) = pairs_of(student, teacher, 0.5)
    assert own is student["head"]
    assert momentum == 0.5
    assert follows is teacher["head"]
    assert not any(p.requires_grad for p in teacher.parameters())
    assert torch.equal(teacher["head"].weight, student["head"].weight)  # type: ignore[arg-type]
    assert teacher["head"].weight is not student["head"].weight


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "moco", "queue": 32}, r"queue=32 is of version=v2; version=v3 compares"),
        (
            {"kind": "dino", "centring": "sinkhorn", "centre_momentum": 0.5},
            r"centre_momentum=0.5 is of centring=mean",
        ),
    ],
)
def test_what_would_do_nothing_is_refused(settings: dict[str, Any], said: str) -> None:
    kinds: TypeAdapter[Any] = TypeAdapter(ObjectiveConfig)
    with pytest.raises(ValidationError, match=said):
        kinds.validate_python(settings)
    usual = {k: v for k, v in settings.items() if k in ("kind", "centring")}
    config = kinds.validate_python(usual)
    assert kinds.validate_python(config.model_dump()) == config  # as a run's own config is read


@pytest.mark.parametrize("beside", [False, True])
def test_a_new_first_layer_of_known_weights_is_not_frozen(beside: bool) -> None:
    """Defect: weights of colour pictures behind a random layer that never learns."""
    objective: dict[str, Any] = {"kind": "moco", "frozen_embedding": True}
    if beside:
        objective = {"kind": "landcover", "classes": 2, "beside": objective}
    told: dict[str, Any] = {"name": "x", "out": "x", "data": {"path": "x"}, "objective": objective}
    with pytest.raises(ValidationError, match=r"first_layer=random makes new .* leave one"):
        RunConfig.model_validate(told | {"init_from": "w.pth", "init": {"first_layer": "random"}})
    for init in ({"init_from": "w.pth", "init": {"first_layer": "select"}}, {"init_from": "w"}, {}):
        RunConfig.model_validate(told | init)
