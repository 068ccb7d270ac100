"""What an objective's numbers may be where they move, or have no limit."""

import math
from typing import Any

import pytest

from fm.config import Config, parse
from fm.errors import UsageError
from pretrain.objectives.contrast.closp.closp import CLOSPConfig
from pretrain.objectives.contrast.dino import DINOConfig
from pretrain.objectives.contrast.moco import MoCoConfig
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
    found = parse(kind, {"largest_scale": math.inf, **more}, "words")
    assert found.model_dump()["largest_scale"] == math.inf
    with pytest.raises(UsageError, match=r"^words: scale=inf: .*finite"):
        parse(kind, {"scale": math.inf, **more}, "words")
    with pytest.raises(UsageError, match=r"largest_scale=nan"):
        parse(kind, {"largest_scale": math.nan, **more}, "words")
