"""Runs that begin with weight files of others."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fm import foreign
from fm.checkpoint import load, read_card
from fm.errors import FMError, UsageError
from fm.first_layer import begin_with
from fm.models import Backbone, create_model
from fm.models.positions import resized_positions
from fm.sensors import sensor
from pretrain.build import build
from pretrain.data import declared
from pretrain.trainer import load_config, run
from tests.fm.foreign.states import RGB, identity, state_of
from tests.pretrain.test_trainer import config_file

MODEL = {
    "name": "vit_nano",
    "token_m": 40,
    "options": {
        "width": 24,
        "depth": 2,
        "heads": 3,
        "positions": "learned",
        "grid": 6,
        "layer_scale": 1e-5,
    },
}
INIT = {"bands": "sentinel2-l1c:B04,B03,B02@10", "heads": 3, "position_resize": "dinov2"}


@pytest.fixture
def vision(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """DINOv2's names, a table of 3 x 3, the teacher beside its student."""
    state = state_of("dinov2_hub")
    student = {key: value + 1 for key, value in state.items()}
    path = tmp_path / "dinov2.pth"
    torch.save({"teacher": state, "student": student}, path)
    return path, state


def config(tmp_path: Path, dataset: Path, source: Path, init: dict[str, Any] | None) -> Path:
    changes: dict[str, Any] = {"model": MODEL, "init_from": str(source)}
    if init is not None:
        changes["init"] = init
    return config_file(tmp_path, dataset, **changes)


WORDS = ["data.crop=24", "data.modalities=[s2l1c_10]"]


def began(path: Path, *words: str) -> Backbone:
    settings = load_config(str(path), [*WORDS, *words])
    return build(settings, declared(settings.data)).backbone


@pytest.mark.parametrize("policy", ["random", "name_match", "repeat_mean"])
def test_a_run_begins_with_dinov2(
    tmp_path: Path, tiny_dataset: Path, vision: tuple[Path, dict[str, Tensor]], policy: str, capsys
) -> None:
    source, state = vision
    path = config(tmp_path, tiny_dataset, source, {**INIT, "first_layer": policy})
    model = began(path)
    own = model.state_dict()
    for key, value in state.items():
        if key.startswith(("blocks.", "norm.", "cls_token")):
            assert torch.equal(own[key], value), key
    table = state["pos_embed"]
    assert torch.equal(own["pos_embed"][:, :1], table[:, :1])
    wanted = resized_positions(table[0, 1:], 6, 6, "dinov2")
    assert torch.equal(own["pos_embed"][0, 1:], wanted)
    front = "patch_embed.s2l1c.embed.s2l1c_10.proj."
    kernel, theirs = own[f"{front}weight"].view(24, 4, 4, 4), state["patch_embed.proj.weight"]
    assert [band.name for band in model.bands["s2l1c_10"]] == ["B02", "B03", "B04", "B08"]
    if policy == "random":
        # that of a run without init, and of every rank
        plain = load_config(str(path), [*WORDS, "init_from=null", "init=null"])
        fresh = build(plain, declared(plain.data)).backbone.state_dict()
        assert torch.equal(own[f"{front}weight"], fresh[f"{front}weight"])
        assert not own[f"{front}bias"].any()
    elif policy == "name_match":
        assert torch.equal(kernel[:, :3], theirs.flip(1))
    else:
        torch.testing.assert_close(kernel[:, 3], theirs.mean(dim=1) * 3 / 4)
    said = capsys.readouterr().err
    assert f"first layer {policy}: s2l1c_10: B02" in said
    assert "positions of 3x3 tokens to 6x6 as dinov2" in said
    student = began(path, "init.part=student")
    assert torch.equal(student.state_dict()["cls_token"], state["cls_token"] + 1)


def test_two_polarisations_begin_with_a_resnet() -> None:
    state = state_of("augnet")
    parent, _ = foreign.load(state, bands=RGB, normalisation=identity(RGB))
    radar = foreign.on_grid(sensor("sentinel1-grd").bands, 10)
    target = create_model("resnet_50", bands=radar, planes=8)
    begin_with(target, parent, "repeat_mean", "here")
    theirs = state["module.pre.conv1.weight"].mean(dim=1, keepdim=True) * 3 / 2
    torch.testing.assert_close(
        target.state_dict()["resnet.conv1.weight"], theirs.expand(-1, 2, -1, -1)
    )


@pytest.mark.parametrize(
    ("init", "said"),
    [
        (None, "say what becomes of its first layer by init.first_layer, one of random"),
        ({**INIT, "first_layer": "random", "bands": None}, "set init.bands"),
        ({**INIT, "first_layer": "random", "heads": None}, "init: .*give heads="),
        ({**INIT, "first_layer": "select"}, "select has no B08 among B04, B03, B02"),
        ({**INIT, "first_layer": "nearest"}, "first layer: policy nearest needs tolerance_nm"),
        ({**INIT, "tolerance_nm": 9.0}, "init.tolerance_nm is for init.first_layer=nearest"),
        ({**INIT, "first_layer": "random", "heads": 6}, "heads of the weights is 6, of the model"),
        ({**INIT, "first_layer": "random", "part": "queue"}, "init: .*no part 'queue'"),
        ({"first_layer": "random", "known": "dinov2-vits14"}, "width is 24, of dinov2-vits14"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_said(
    tmp_path: Path,
    tiny_dataset: Path,
    vision: tuple[Path, dict[str, Tensor]],
    init: dict[str, Any] | None,
    said: str,
) -> None:
    path = config(tmp_path, tiny_dataset, vision[0], init)
    with pytest.raises(FMError, match=said) as caught:
        began(path)
    assert "\n" not in str(caught.value)


def test_init_belongs_to_init_from(tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(FMError, match="give init_from, or no init"):
        load_config(str(config_file(tmp_path, tiny_dataset, init={"first_layer": "random"})), [])
    path = config(tmp_path, tiny_dataset, tmp_path / "none.pth", {**INIT, "first_layer": "random"})
    with pytest.raises(FMError, match="no such file"):
        began(path)
    # runs from before this key go on
    plain = load_config(str(config_file(tmp_path, tiny_dataset)), [])
    assert "init" not in plain.identity()


def test_a_checkpoint_goes_on_with_bands_that_it_never_saw(
    tmp_path: Path, tiny_dataset: Path, vision: tuple[Path, dict[str, Tensor]]
) -> None:
    source, _ = vision
    path = config(tmp_path, tiny_dataset, source, {**INIT, "first_layer": "name_match"})
    short = ["schedule.steps=1", "schedule.warmup=0"]
    run(str(path), [*WORDS, *short])
    card = read_card(tmp_path / "run" / "export")
    assert card.parent == f"weights of others ({source}), first layer name_match"
    # other values of init begin another run, also by force
    for force in (False, True):
        with pytest.raises(UsageError, match="leave init_from and init as they were"):
            run(str(path), [*WORDS, *short, "init.first_layer=random"], force=force)
    more = ["data.modalities=[s2l1c_10, s2l1c_20]", f"init_from={tmp_path / 'run' / 'export'}"]
    with pytest.raises(UsageError, match=r"set init\.first_layer"):
        began(path, "init=null", *more)
    model = began(path, "init={first_layer: name_match}", *more)
    first, again = load(tmp_path / "run" / "export").state_dict(), model.state_dict()
    assert set(again) > set(first)
    assert all(torch.equal(again[key], value) for key, value in first.items())
    with pytest.raises(UsageError, match=r"init.bands is for weight files of others"):
        began(path, *more)
