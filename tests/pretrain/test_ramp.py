"""What an objective's numbers may be where they move, or have no limit."""

import json
import math
from typing import Any

import pytest
import yaml

from fm.config import Config, dump_yaml, parse
from fm.errors import UsageError
from pretrain.objectives.contrast.closp.closp import CLOSPConfig
from pretrain.objectives.contrast.dino import DINOConfig
from pretrain.objectives.contrast.moco import MoCoConfig
from pretrain.objectives.contrast.scale import LearnedScale
from pretrain.objectives.contrast.seco import SeCoConfig
from pretrain.objectives.place.satclip import SatCLIPConfig


@pytest.mark.parametrize("kind", [MoCoConfig, DINOConfig, SeCoConfig])
@pytest.mark.parametrize(
    "momentum", [2, -0.1, 1, 1.0, {"start": 0.9, "end": 1.1}, {"start": 1.0, "end": 1.0}]
)
def test_a_teacher_keeps_a_share_of_itself_and_moves(kind: type[Config], momentum: Any) -> None:
    """Defect: 2 makes a teacher of the student's opposite, 1 one that stands still."""
    with pytest.raises(UsageError, match=r"momentum.*the share of a teacher that stays"):
        parse(kind, {"momentum": momentum}, "words")


@pytest.mark.parametrize("momentum", [0.0, 0.999, {"start": 0.99, "end": 1.0}])
def test_shares_that_a_teacher_may_keep(momentum: Any) -> None:
    found = parse(MoCoConfig, {"momentum": momentum}, "words").momentum
    assert found == momentum or (found.start, found.end) == (0.99, 1.0)


@pytest.mark.parametrize(
    ("kind", "more"), [(SatCLIPConfig, {}), (CLOSPConfig, {"label": "cover", "classes": 3})]
)
def test_a_learned_scale_may_have_no_limit(kind: type[Config], more: dict[str, Any]) -> None:
    """Defect: no limit was infinity, which no file of a run can hold."""
    found = parse(kind, {"largest_scale": None, "scale": 1000.0, **more}, "words")
    assert parse(kind, json.loads(json.dumps(found.model_dump(), allow_nan=False)), "") == found
    assert parse(kind, yaml.safe_load(dump_yaml(found)), "") == found
    scale = LearnedScale(found.scale, found.largest_scale)
    assert scale().item() == pytest.approx(1000.0, rel=1e-5)
    with pytest.raises(UsageError, match=r"^words: scale=inf: .*finite"):
        parse(kind, {"scale": math.inf, **more}, "words")
    for value in (math.inf, math.nan):
        with pytest.raises(UsageError, match=rf"largest_scale={value}: .*finite"):
            parse(kind, {"largest_scale": value, **more}, "words")
