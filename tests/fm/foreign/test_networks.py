"""One network out of files with several, in the nesting in which they were published."""

import pytest
import torch
from torch import Tensor

from fm import foreign
from fm.errors import FMError, UsageError
from fm.sensors import sensor
from tests.fm.foreign.states import ALL, CASES, TWELVE, converted, identity, state_of


def sent(layout: str) -> dict[str, object]:
    """Nest a tiny state as the authors' code saves it."""
    state = state_of(layout)
    if layout.startswith("dino"):
        other = {key: value + 1 for key, value in state.items() if value.is_floating_point()}
        return {"student": {**state, **other}, "teacher": state, "epoch": 99}
    if layout.startswith("decur"):
        return {"model": state, "optimizer": {"state": {}}, "epoch": 99}
    return {"state_dict": state, "epoch": 99, "hyper_parameters": {"moco_k": 16384}}


NESTED = [
    "moco_v2",
    "moco_v3",
    "dino_vit",
    "dino_resnet",
    "seco",
    "ssl4eco",
    "decur",
    "satclip_resnet",
]


@pytest.mark.parametrize("layout", NESTED)
def test_the_published_nesting_is_that_of_the_state(layout: str) -> None:
    bands, options = CASES[layout]
    model, report = foreign.load(
        sent(layout), bands=bands, normalisation=identity(bands), **options
    )
    plain, _ = converted(layout)
    for key, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert "epoch" in report.beside


def weight(report: foreign.Report, model: torch.nn.Module, name: str) -> Tensor:
    (entry,) = [e for e in report.entries if e.source == name]
    assert entry.target is not None
    return model.state_dict()[entry.target]


@pytest.mark.parametrize(
    ("layout", "part", "prefix", "key"),
    [
        ("moco_v2", None, "module.encoder_q.", "conv1.weight"),
        ("moco_v2", "encoder_k", "module.encoder_k.", "conv1.weight"),
        ("moco_v3", None, "module.base_encoder.", "cls_token"),
        ("moco_v3", "momentum_encoder", "module.momentum_encoder.", "cls_token"),
        ("seco", "encoder_k", "encoder_k.", "0.weight"),
        ("decur", "backbone_2", "module.backbone_2.", "conv1.weight"),
    ],
)
def test_the_network_that_is_asked_for(
    layout: str, part: str | None, prefix: str, key: str
) -> None:
    state = state_of(layout)
    model, report = converted(layout, state, part=part)
    assert report.prefix == prefix
    assert torch.equal(weight(report, model, key), state[prefix + key])
    (note,) = [n for n in report.notes if n.startswith("network ")]
    assert prefix.removeprefix("module.").rstrip(".") in note.split(" (")[0]
    assert "also there" in note


def test_decur_asks_which_because_they_take_different_bands() -> None:
    with pytest.raises(UsageError, match=r"backbone_1 \(Sentinel-1\), backbone_2 \(Sentinel-2\)"):
        converted("decur", part=None)
    with pytest.raises(UsageError, match="no part 'backbone_3'; networks: backbone_1, backbone_2"):
        converted("decur", part="backbone_3")
    radar = foreign.on_grid(sensor("sentinel1-grd").bands, 10)
    state = state_of("decur")
    model, report = foreign.load(
        state, bands=radar, normalisation=identity(radar), part="backbone_1"
    )
    assert torch.equal(
        weight(report, model, "conv1.weight"), state["module.backbone_1.conv1.weight"]
    )


def test_deformable_attention_is_no_plain_resnet() -> None:
    # released as "RDA": left out, the ResNet would compute something else
    extra = {f"module.da{i}_l3.proj_q.weight": torch.ones(4, 4, 1, 1) for i in (1, 2)}
    with pytest.raises(FMError, match=r"2 not known \(da1_l3.*nothing was loaded"):
        converted("decur", {**state_of("decur"), **extra})


def test_student_and_teacher_of_dino_are_not_mixed() -> None:
    content = sent("dino_vit")
    bands, options = CASES["dino_vit"]
    arguments = {"bands": bands, "normalisation": identity(bands), **options}
    teacher, report = foreign.load(content, **arguments)
    student, _ = foreign.load(content, part="student", **arguments)
    a, b = teacher.state_dict()["cls_token"], student.state_dict()["cls_token"]
    assert torch.allclose(a + 1, b)
    assert "weights of the file's teacher; also there: student" in report.text()


def test_nine_bands_of_ssl4eco() -> None:
    nine = {"s2l1c_10": TWELVE["s2l1c_10"][1:10]}
    state = state_of("ssl4eco")
    for name in ("encoder_q", "encoder_k"):
        state[f"{name}.0.weight"] = state[f"{name}.0.weight"][:, :9].clone()
    model, _ = foreign.load(state, bands=nine, normalisation=identity(nine))
    assert model.encode({"s2l1c_10": torch.rand(1, 9, 32, 32)}).pooled.shape == (1, 256)
    with pytest.raises(UsageError, match="takes 9 bands, s2l1c_10 has 12"):
        foreign.load(state, bands=TWELVE, normalisation=identity(TWELVE))


def test_other_models_are_left_as_they_were() -> None:
    # names that only resemble: a classifier beside a backbone, an image tower without a place's
    for state in (
        {**{f"backbone.{k}": v for k, v in state_of("resnet18").items()}, "cls.w": torch.ones(2)},
        {f"visual.{k}": v for k, v in state_of("resnet18").items()},
    ):
        with pytest.raises(FMError, match="no known family"):
            foreign.load(state, bands=ALL, normalisation=identity(ALL))
    assert foreign.read({"backbone.a": torch.ones(1)}).prefix == "backbone."
