"""The location tower of GeoCLOSP is an encoder of `fm.location`, fresh or trained before."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter
from torch import Tensor

from fm import location
from fm.config import dump_yaml, parse
from fm.errors import FMError, UsageError
from pretrain.located import located
from pretrain.objectives import ObjectiveConfig
from pretrain.objectives.contrast.closp.closp import CLOSPConfig
from pretrain.objectives.contrast.closp.place import PlaceConfig, PlaceTower
from pretrain.objectives.place.satclip import LocationConfig, SatCLIPConfig
from tests.pretrain.test_closp import DIFFERENT, batch, closp

PLACES = torch.tensor([[7.0, 50.0], [-70.7, -33.4], [float("nan")] * 2], dtype=torch.float64)
SMALL = {"width": 8, "options": {"L": 4}}


def built(**settings: Any) -> PlaceTower:
    torch.manual_seed(3)
    return PlaceTower(PlaceConfig.model_validate(settings), 16)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A trained encoder with SatCLIP's dropout."""
    torch.manual_seed(1)
    location.save(tmp_path / "there", location.create("sh", L=4, width=8, dim=6, dropout=0.5))
    return tmp_path / "there"


@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        {"encoding": "rff", "head": "mlp", "width": 8, "depth": 3, "options": {"count": 5}},
        {"encoding": "wrap", "head": "residual_siren", "width": 8, "first_w": 10.0},
    ],
)
def test_a_fresh_tower_is_the_encoder_that_fm_makes(settings: dict[str, Any]) -> None:
    made = built(**settings)
    torch.manual_seed(3)
    told = {"encoding": "sh", **settings}
    wanted = location.create(**{**told.pop("options", {}), **told}, dim=16)
    assert torch.equal(made(PLACES), wanted(PLACES.nan_to_num()))
    assert made.encoder.config == wanted.config


def test_satclip_and_closp_take_the_same_settings() -> None:
    """Written once: an encoder of one is had in the other by the same words."""
    assert PlaceConfig().encoder(8, "", "").config == LocationConfig().build(8).config
    shared = LocationConfig.model_fields.keys() - {"season"}
    assert shared == PlaceConfig.model_fields.keys() - {"folder", "frozen"}


def test_a_frozen_tower_is_the_released_encoder_without_its_dropout(released: Path) -> None:
    """Defect: `train()` lets a frozen SIREN draw half of its units away."""
    made = built(folder=str(released), frozen=True).train()
    wanted = location.load(released)
    assert isinstance(made.last, torch.nn.Linear)
    assert torch.equal(made(PLACES), made.last(wanted(PLACES.nan_to_num())))
    assert torch.equal(made(PLACES), made(PLACES))
    made(PLACES).sum().backward()
    assert all(p.grad is None for p in made.encoder.parameters())
    assert made.last.weight.grad is not None
    tuned = built(folder=str(released)).train()
    tuned(PLACES).sum().backward()
    assert all(p.grad is not None for p in tuned.encoder.parameters())
    assert torch.equal(tuned(PLACES), made(PLACES))


def test_geoclosp_learns_through_its_tower_and_leaves_a_fresh_one_behind(released: Path) -> None:
    given = replace(batch(DIFFERENT[:3], "s2l2a_10"), lonlat=PLACES)
    for settings, left in ((SMALL, True), ({"folder": str(released), "frozen": True}, False)):
        made = closp(place=settings).train()
        made(given, given.rng).loss_sum.backward()
        assert made.place is not None
        moved = {n for n, p in made.place.named_parameters() if p.grad is not None and p.grad.any()}
        assert {n.partition(".")[0] for n in moved} == ({"encoder"} if left else {"last"})
        found = located(made)
        assert (found is not None) == left
        if found is not None:
            again = location.create(**asdict(found)["architecture"])
            state = made.state_dict()
            again.load_state_dict({name: state[own] for name, own in found.names.items()})
            assert torch.equal(again.eval()(PLACES[:2]), made.place(PLACES[:2]))


def test_plans_measure_a_trained_tower_without_memory(released: Path) -> None:
    with torch.device("meta"):
        made = built(folder=str(released), frozen=True)
        seen: Tensor = made(torch.empty(5, 2, dtype=torch.float64))
    assert (seen.device.type, seen.shape) == ("meta", (5, 16))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"degrees": 10}, r"degrees was of an encoder that is no more: write options: \{L: DEG"),
        ({"hidden": 256}, "hidden was of an encoder"),
        ({"frozen": True}, "frozen is of a trained encoder; name its folder"),
        ({"folder": "x", "encoding": "wrap"}, "folder has an encoder with its own encoding"),
        ({"folder": "x", "width": 8, "head": "mlp"}, "with its own head; leave head out"),
        ({"folder": "x", "options": {"L": 4}}, "with its own options; leave"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(settings: dict[str, Any], said: str) -> None:
    objective = {"kind": "closp", "label": "cover", "classes": 3, "place": settings}
    with pytest.raises(ValueError, match=said):
        TypeAdapter(ObjectiveConfig).validate_python(objective)


@pytest.mark.parametrize(
    "place",
    [{"folder": "x"}, {"folder": "x", "frozen": True}, {}, {"encoding": "rff"}, {"options": {}}],
)
def test_the_config_of_a_run_is_read_again(place: dict[str, Any]) -> None:
    """Defect: a run's config.yaml has all fields, and a folder beside any was refused."""
    words = {"label": "cover", "classes": 3, "place": place}
    closp_of = parse(CLOSPConfig, words, "words")
    assert parse(CLOSPConfig, yaml.safe_load(dump_yaml(closp_of)), "") == closp_of
    if "folder" not in place:
        satclip_of = parse(SatCLIPConfig, {"location": place}, "words")
        assert parse(SatCLIPConfig, yaml.safe_load(dump_yaml(satclip_of)), "") == satclip_of


def test_encoders_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(FMError, match=r"objective\.place\.folder=.*none: no location encoder"):
        built(folder=str(tmp_path / "none"))
    location.save(tmp_path / "season", location.create("sh", L=2, width=4, dim=4, season=True))
    with pytest.raises(UsageError, match=r"place\.folder=.*season: it wants the month too"):
        built(folder=str(tmp_path / "season"))
    with pytest.raises(UsageError, match=r"objective\.place: there is no location encoding 'shh'"):
        built(encoding="shh")
    with pytest.raises(UsageError, match=r"objective\.place\.options\.dim: options are of the"):
        built(options={"dim": 4})
