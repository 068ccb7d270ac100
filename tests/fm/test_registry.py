"""The registry: names, options, and cards that build the same model again."""

import inspect
import json
from typing import Any

import pytest
import torch

from fm.errors import UsageError
from fm.models import create_model, list_models, rebuild
from fm.models.registry import FAMILIES, family_of
from fm.models.vit import VisionTransformer
from fm.sensors import sensor

S2 = sensor("sentinel2-l1c")
SMALL = {"width": 32, "depth": 1, "heads": 2, "token_m": 120}
GROUPS = {
    "fine": ("B02", "B03", "B04", "B08"),
    "rest": ("B05", "B06", "B07", "B8A", "B11", "B12", "B01", "B09", "B10"),
}


def test_names_are_a_family_and_a_size() -> None:
    assert list_models() == [f"{f}_{size}" for f, item in FAMILIES.items() for size in item.sizes]
    for name in list_models():
        family, size = family_of(name)
        # a size is made of the family's own options, so a card that states them is complete
        assert set(size) <= set(family.options), name
        assert family.help


OPTIONS: dict[str, dict[str, Any]] = {
    "mlp_ratio": {"mlp_ratio": 2.0},
    "tokenizer": {"tokenizer": "linear"},
    "tokenizer, one a group": {"tokenizer": {"fine": "linear", "rest": "tied"}},
    "tokenizer_options": {"tokenizer": "tied", "tokenizer_options": {"heads": 2}},
    "positions and reference_m": {"positions": "metres", "reference_m": 60.0},
    "positions and grid": {"positions": "learned", "grid": 3},
    "position_resize": {"positions": "learned", "grid": 3, "position_resize": "dinov2"},
    "registers": {"registers": 2},
    "group_code_width": {"group_code_width": 8},
    "time_code_width": {"time_code_width": 12},
    "metadata": {"metadata": ("time", "lonlat")},
    "pooling": {"pooling": "cls"},
    "pre_pool_norm": {"pre_pool_norm": True},
    "layer_scale": {"layer_scale": 0.1},
    "basis": {"basis": {"fine": {"components": 3}}},
}
NOT_SIZES = set(FAMILIES["vit"].options) - {"width", "depth", "heads"}


def test_every_option_of_a_vit_is_tried_below() -> None:
    assert {key for options in OPTIONS.values() for key in options} == NOT_SIZES


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_card_builds_the_same_model_again(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = create_model("vit_nano", bands=S2, token_groups=GROUPS, **SMALL, **options)
    # what a card does to it
    architecture = json.loads(json.dumps(model.architecture))
    other = rebuild(architecture, model.bands, model.normalisation, model.scaling)
    assert other.architecture == architecture
    assert [(k, v.shape) for k, v in other.state_dict().items()] == [
        (k, v.shape) for k, v in model.state_dict().items()
    ]
    for key, value in options.items():
        plain = architecture[key]
        assert plain == (list(value) if isinstance(value, tuple) else value)
    assert [m.bands for g in other.groups.values() for m in g.members] == [
        m.bands for g in model.groups.values() for m in g.members
    ]


def test_an_option_of_none_is_as_if_not_given() -> None:
    plain = create_model("vit_nano", bands=S2, **SMALL)
    given = create_model("vit_nano", bands=S2, **SMALL, grid=None, tokenizer=None)
    assert given.architecture == plain.architecture
    assert plain.architecture["grid"] is None


def test_a_card_states_defaults_and_one_without_them_still_loads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = create_model("vit_nano", bands=S2, **SMALL)
    assert set(FAMILIES["vit"].options) <= set(model.architecture)
    old = {key: model.architecture[key] for key in ("name", "token_m", "width", "depth", "heads")}
    again = rebuild(old, model.bands, model.normalisation, model.scaling)
    assert again.architecture == model.architecture
    # a later version with other defaults builds what the card says
    changed = {**VisionTransformer.__init__.__kwdefaults__, "mlp_ratio": 2.0, "layer_scale": 0.1}
    monkeypatch.setattr(VisionTransformer.__init__, "__kwdefaults__", changed)
    kept = rebuild(model.architecture, model.bands, model.normalisation, model.scaling)
    assert [(k, v.shape) for k, v in kept.state_dict().items()] == [
        (k, v.shape) for k, v in model.state_dict().items()
    ]


@pytest.mark.parametrize("name", ["vit_nano", "less_nano"])
def test_layer_scale_of_zero_is_none(name: str) -> None:
    model = create_model(name, bands=S2, **SMALL, layer_scale=0)
    assert not [key for key in model.state_dict() if key.endswith("gamma")]
    assert model.architecture["layer_scale"] == 0
    again = rebuild(model.architecture, model.bands, model.normalisation, model.scaling)
    assert set(again.state_dict()) == set(model.state_dict())


@pytest.mark.parametrize("name", ["resnet_18", "spectral_resnet_50"])
def test_a_family_knows_its_own_token(name: str) -> None:
    model = create_model(name, bands=sensor("aviris-indian-pines"), planes=4)
    (group,) = model.groups.values()
    assert group.token_m == FAMILIES[name.rpartition("_")[0]].token_px * 20


def test_a_size_may_be_overridden_and_the_card_says_so() -> None:
    model = create_model("vit_small", bands=S2, **SMALL)
    assert (model.width, model.architecture["depth"], model.architecture["heads"]) == (32, 1, 2)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("vit_smal", {}, "did you mean 'vit_small'"),
        ("vit_nano", {"pooled": "mean"}, "vit_nano has no option 'pooled'; did you mean 'pooling'"),
        ("vit_nano", {"groups": ()}, "vit_nano has no option 'groups'"),
        ("vit_nano", {"time_code_width": "abc"}, "time_code_width='abc': input should be a valid"),
        ("vit_nano", {"metadata": 3}, "metadata=3: input should be"),
        ("vit_nano", {"pooling": "max"}, "pooling='max': give one of mean, cls"),
        ("vit_nano", {"positions": "sin"}, "positions='sin': give one of"),
        ("vit_nano", {"positions": "learned"}, "positions learned needs grid"),
        ("vit_nano", {"tokenizer": "linnear"}, "did you mean 'linear'"),
        ("vit_nano", {"tokenizer": {"s2": "linear"}}, "tokenizer must name exactly"),
        ("vit_nano", {"tokenizer_options": {"taps": 3}}, "tokenizer linear has no option 'taps'"),
        ("vit_nano", {"metadata": ["place"]}, "metadata: there is no 'place'"),
        ("vit_nano", {"width": 30}, "width 30 must be a multiple of 4"),
        ("vit_nano", {"group_code_width": 7}, "group_code_width 7 must be even"),
        ("vit_nano", {"basis": {"s2": {}}}, "basis must name groups of"),
        ("vit_nano", {"normalisation": {}}, r"normalisation names \[\]; the modalities"),
        ("vit_nano", {"scaling": {"s2l1c_10": (1.0, 0.0)}}, r"scaling names \['s2l1c_10'\]"),
        ("vit_nano", {"token_groups": {"a": ("B02", "B99")}}, "token_groups.a: no band 'B99'"),
    ],
)
def test_wrong_requests_are_one_line(name: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text) as error:
        create_model(name, bands=S2, **{**SMALL, **options})
    assert "\n" not in str(error.value)


def test_options_are_those_of_the_class() -> None:
    signature = set(inspect.signature(VisionTransformer).parameters)
    assert set(FAMILIES["vit"].options) < signature
    assert "bands" not in FAMILIES["vit"].options


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"depth": 0}, "depth=0: give a number above 0"),
        ({"heads": -1}, "heads=-1: give a number above 0"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio=nan: input should be a finite"),
        ({"reference_m": 0.0}, "reference_m=0.0: give a number above 0"),
        ({"grid": -3}, "grid=-3: give a number above 0"),
        ({"layer_scale": float("inf")}, "layer_scale=inf: .*finite"),
        ({"metadata": ["time", "time"]}, "names one twice"),
        ({"token_m": float("nan")}, "token_m.s2l1c=nan: give the ground size"),
        ({"token_m": "120"}, "token_m.s2l1c='120': give the ground size"),
        ({"token_m": 6e6}, "a token of 6e.06 m is 600000 px, at most"),
        ({"bands": "sentinel2-l1c"}, r"give fm.sensor\('sentinel2-l1c'\)"),
        ({"bands": {"s2l1c_10": ["B02"]}}, "s2l1c_10: 'B02' is no Band"),
        ({"bands": ["B02"]}, "'B02' is no Band; take them from fm.sensor"),
    ],
)
def test_what_is_no_model_is_refused(options: dict[str, Any], text: str) -> None:
    """Defect: no blocks, heads of -1 or a reference of 0 m made a model without a word."""
    with pytest.raises(UsageError, match=text) as error:
        create_model("vit_nano", **{"bands": S2, **SMALL, **options})
    assert "\n" not in str(error.value)
