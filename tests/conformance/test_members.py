"""No member escapes the suite, and what its line declares is so."""

import pytest

from fm.models.embed import TOKENIZERS
from fm.models.embed.group import PatchEmbed
from fm.models.registry import FAMILIES
from pretrain import objectives
from tests.conformance.backbones import BACKBONES, Case
from tests.conformance.objectives import OBJECTIVES

ADD_A_BACKBONE = "add a line to tests/conformance/backbones.py"


def test_every_family_has_a_case() -> None:
    covered = {case.name.rpartition("_")[0] for case in BACKBONES.values()}
    assert set(FAMILIES) - covered == set(), ADD_A_BACKBONE


def test_every_tokenizer_has_a_case() -> None:
    covered = {
        module.tokenizer
        for case in BACKBONES.values()
        for module in case.build().modules()
        if isinstance(module, PatchEmbed)
    }
    assert set(TOKENIZERS) - covered == set(), ADD_A_BACKBONE


SHAPE = {"width", "depth", "heads", "mlp_ratio", "reference_m", "grid", "pre_pool_norm"}
"""Options of a ViT that are sizes, or go with another that is tried."""


def test_every_option_of_a_vit_has_a_case() -> None:
    covered = {
        key for case in BACKBONES.values() if case.name == "vit_nano" for key in case.options
    }
    assert set(FAMILIES["vit"].options) - SHAPE - covered == set(), ADD_A_BACKBONE


def test_every_objective_has_a_case() -> None:
    kinds = {config.model_fields["kind"].default for config in objectives.OBJECTIVES}
    covered = {case.config["kind"] for case in OBJECTIVES.values()}
    assert kinds - covered == set(), "add a line to tests/conformance/objectives.py"


@pytest.mark.parametrize("case", BACKBONES.values(), ids=BACKBONES)
def test_a_backbone_is_what_its_line_declares(case: Case) -> None:
    model = case.build()
    assert model.metric == case.metric
    assert model.series == (case.images is not None)
    assert {model.takes_other_bands(m) for m in model.bands} == {case.flexible}
