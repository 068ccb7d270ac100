"""What is known of released files: whole, consistent with torchgeo, and not guessed."""

import json
import re

import pytest
import torch

from fm import foreign, torchvision_guard
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.foreign.catalogue import catalogue, known
from fm.foreign.inventory import inventory
from fm.normalize import Normalisation
from tests.fm.foreign.states import state_of

torchvision_guard.install()

import torchgeo.models as torchgeo  # noqa: E402


def enum(name: str):
    kind, member = name.split(".")
    return getattr(torchgeo, kind)[member]


@pytest.mark.parametrize("name", catalogue())
def test_entries_are_whole(name: str) -> None:
    item = known(name)
    ((_, bands),) = item.band_list().items()
    for choice in item.normalisation:
        assert len(item.normaliser(choice)[1]) == len(bands)
        assert item.normalisation[choice]["source"]
    for layout in item.layouts:
        assert inventory(layout)
    assert item.licence
    assert item.source
    if "width" in item.numbers:
        assert item.numbers["width"] == 64 * item.arguments["heads"]
        assert item.arguments["pooling"] == "cls"


TORCHGEO = [name for name, item in catalogue().items() if item.torchgeo]


@pytest.mark.parametrize("name", TORCHGEO)
def test_bands_hash_and_numbers_are_torchgeo_s(name: str) -> None:
    item = known(name)
    theirs = enum(item.torchgeo)
    assert known(item.torchgeo) is item
    ((_, bands),) = item.band_list().items()
    spelled = [re.sub(r"^B(\d)$", r"B0\1", band.upper()) for band in theirs.meta["bands"]]
    assert [band.name for band in bands] == spelled
    file = theirs.url.rsplit("/", 1)[1]
    own = re.search(r"-([0-9a-f]{8})\.pth$", file)
    assert (item.sha256 or None) == (own and own[1])
    assert item.file == file.replace("_enc.", "." if "softcon" in file else "_enc.") or own
    # one of the normalisations is what their transform computes of stored numbers or dB
    scale = 1e-4 if "sentinel2" in item.bands else 1.0
    stored = torch.rand(1, len(bands), 300, 300) * 3000 + 100
    stored = stored if scale != 1.0 else -stored / 200
    # a constant image: their resizing and cropping leave it as it is
    stored[:] = stored.mean(dim=(2, 3), keepdim=True)
    wanted = theirs.transforms(stored.clone())[0, :, 0, 0]
    made = [
        item.normaliser(choice)[1](stored[0, :, :1, :1] * scale).flatten()
        for choice in item.normalisation
    ]
    assert any(torch.allclose(one, wanted, atol=1e-4) for one in made), (made, wanted)


def tiny(name: str, monkeypatch) -> str:
    """Let an entry's numbers be those of a tiny file."""
    numbers = {"width": 24, "depth": 2, "patch": 4}
    monkeypatch.setitem(known(name).numbers, "patch", 4)
    for key, value in numbers.items():
        monkeypatch.setitem(known(name).numbers, key, value)
    monkeypatch.setitem(known(name).arguments, "heads", 3)
    return name


def test_softcon_s_two_normalisations_must_be_chosen_between() -> None:
    state = state_of("softcon_resnet")
    with pytest.raises(UsageError, match=r"2 normalisations.*not equivalent.*one of clip, zscore"):
        foreign.load(state, known="softcon-rn50-s2")
    clip, report = foreign.load(state, known="softcon-rn50-s2", normalisation="clip")
    score, _ = foreign.load(state, known="softcon-rn50-s2", normalisation="zscore")
    (a,), (b,) = clip.normalisation.values(), score.normalisation.values()
    assert (a.kind, b.kind) == ("clip_sigma", "zscore")
    x = torch.full((13, 1, 1), 0.12)
    assert 0 <= float(a(x).min()) <= float(a(x).max()) <= 1
    # inside the clip they are one map apart: -2..2 to 0..1
    inside = b(x).abs() < 2
    torch.testing.assert_close(a(x)[inside], (b(x)[inside] + 2) / 4)
    assert any("normalisation clip: zhu-xlab/softcon README" in n for n in report.notes)
    assert clip.card is not None
    assert clip.card.name == "softcon-rn50-s2"
    assert clip.card.licence == "CC-BY-4.0"
    with pytest.raises(UsageError, match="no normalisation 'zscroe'; did you mean 'zscore'"):
        foreign.load(state, known="softcon-rn50-s2", normalisation="zscroe")
    own = Normalisation.identity(13)
    mine, _ = foreign.load(state, known="softcon-rn50-s2", normalisation=own)
    assert mine.normalisation["s2l1c_10"] == own
    with pytest.raises(UsageError, match="a name is of known weights"):
        foreign.load(state, bands=known("softcon-rn50-s2").band_list(), normalisation="clip")


def test_what_the_entry_says_is_used(monkeypatch) -> None:
    name = tiny("softcon-vits14-s2", monkeypatch)
    model, report = foreign.load(state_of("softcon_vit"), known=name, normalisation="clip")
    assert model.architecture["heads"] == 3
    assert model.architecture["pooling"] == "cls"
    assert model.architecture["position_resize"] == "dinov2"
    assert not any("assumed" in note for note in report.notes)
    model, _ = foreign.load(
        state_of("softcon_vit"), known=name, normalisation="clip", pooling="mean"
    )
    assert model.architecture["pooling"] == "mean"


def test_another_model_s_file_is_refused() -> None:
    with pytest.raises(FMError, match=r"stages is \(2, 2, 2, 2\), of augnet-rn50 it is \(3, 4"):
        foreign.load(state_of("resnet18"), known="augnet-rn50")
    with pytest.raises(FMError, match="the keys are those of vit, softcon-rn50-s2 is resnet"):
        foreign.load(state_of("vit"), known="softcon-rn50-s2", normalisation="clip")
    with pytest.raises(FMError, match="width is 24, of softcon-vitb14-s2 it is 768"):
        foreign.load(state_of("softcon_vit"), known="softcon-vitb14-s2", normalisation="clip")
    with pytest.raises(UsageError, match="no known weights 'softcon-rn5'; did you mean"):
        foreign.load(state_of("resnet"), known="softcon-rn5")
    with pytest.raises(UsageError, match="give bands= or known="):
        foreign.load(state_of("resnet"), normalisation=Normalisation.identity(13))


def test_decur_s_encoder_follows_the_entry_in_joint_and_separate_files() -> None:
    joint = state_of("decur")
    alone = {k.removeprefix("module.backbone_1."): v for k, v in joint.items() if "backbone_1" in k}
    a, _ = foreign.load(joint, known="decur-rn50-s1")
    b, _ = foreign.load(alone, known="decur-rn50-s1")
    for key, value in a.state_dict().items():
        assert torch.equal(b.state_dict()[key], value)
    assert [band.name for band in a.bands["s1grd_10"]] == ["VV", "VH"]


def test_the_verb_lists_shows_and_converts(tmp_path, capsys) -> None:
    assert main(["models", "list", "--known"]) == 0
    assert "softcon-rn50-s2" in capsys.readouterr().out
    assert main(["models", "list", "--known", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in rows} == set(catalogue())
    assert rows[0]["normalisation"] == ["clip", "zscore"]
    assert main(["models", "show", "softcon-rn50-s2"]) == 0
    assert "zscore: torchgeo" in capsys.readouterr().out
    torch.save(state_of("softcon_resnet"), tmp_path / "w.pth")
    words = ["models", "convert", str(tmp_path / "w.pth"), "--out", str(tmp_path / "ours")]
    assert main(words) == 2
    assert "--bands is missing" in capsys.readouterr().err
    words += ["--known", "ResNet50_Weights.SENTINEL2_ALL_SOFTCON"]
    assert main(words) == 2
    assert "one of clip, zscore" in capsys.readouterr().err
    assert main([*words, "--normalisation", "zscore"]) == 0
    assert "note: normalisation zscore" in capsys.readouterr().out
    assert main([*words, "--normalisation", "identity", "--overwrite"]) == 0
