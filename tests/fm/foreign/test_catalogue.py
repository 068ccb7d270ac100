"""What is known of released files: whole, consistent with torchgeo, and not guessed."""

import json
import re

import pytest
import torch

from fm import foreign, torchvision_guard
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.foreign.catalogue import catalogue, find, known
from fm.foreign.inventory import inventory
from fm.foreign.recognise import FAMILIES
from fm.foreign.torchgeo_weights import torchgeo_names
from fm.hub import HubFile, parse
from fm.normalize import Normalisation
from fm.sensors.enmap import bands_202
from tests.fm.foreign.states import state_of

torchvision_guard.install()

import torchgeo.models as torchgeo  # noqa: E402


def enum(name: str):
    kind, member = name.split(".")
    return getattr(torchgeo, kind)[member]


NARROW = ("croma-base", "croma-large", "presto", "galileo-nano")
"""Their heads are narrower than timm's."""


@pytest.mark.parametrize("name", catalogue())
def test_entries_are_whole(name: str) -> None:
    item = known(name)
    if item.bands:
        ((_, bands),) = item.band_list().items()
        assert len(bands) > len(item.derived)
        for choice in item.normalisation:
            assert len(item.normaliser(choice)[1]) == len(bands)
            assert item.normalisation[choice]["source"]
    for layout in item.layouts:
        assert inventory(layout).family in FAMILIES
    assert item.licence
    assert item.source
    # what an entry leaves to the user it says, and names the way to the file
    if item.kind == "backbone" and not (item.bands and item.normalisation):
        assert item.remark
        assert "give --" in item.remark or not item.convertible
    assert item.repo or item.package or item.page
    assert bool(item.repo) == bool(item.path)
    assert bool(item.package) == bool(item.member)
    assert item.revision == "" or re.fullmatch("[0-9a-f]{40}", item.revision)
    assert len(item.sha256) in (0, 8, 64)
    if "width" in item.numbers and "heads" in item.arguments and name not in NARROW:
        # timm's and DINOv2's sizes: heads of 64, of 80 in a ViT-H
        assert item.numbers["width"] / item.arguments["heads"] in (64, 80)
    if item.convertible and item.kind == "backbone":
        assert all(FAMILIES[inventory(layout).family].convertible for layout in item.layouts)


def test_the_issue_s_families_are_there() -> None:
    names = " ".join(catalogue())
    wanted = (
        "scalemae satmae-vitl-group satmae-vitl-rgb satmae-vitl-temporal "
        "satmaepp-vitl-pretrain-s2 satmaepp-vitl-finetune-s2 satmaepp-vitl-pretrain-rgb "
        "spectralearth-vits spectralearth-rn50 dofa-v1 dofa-v2 croma-base croma-large "
        "ssl4eo-mae ssl4eo-moco ssl4eo-dino ssl4eo-fgmae softcon seco-rn18 seco-rn50 "
        "caco-rn18 caco-rn50 ssl4eco-rn50-s2-ndvi decur closp geoclip dinov2 galileo "
        "presto satclip-r18-l10 satclip-r18-l40 satclip-r50-l10 satclip-r50-l40 "
        "satclip-vit16-l10 satclip-vit16-l40-visual panopticon copernicus-fm"
    )
    for word in wanted.split():
        assert word in names, word


def test_spectralearth_s_bands_are_the_202() -> None:
    ((_, bands),) = known("spectralearth-vits").band_list().items()
    assert [band.name for band in bands] == [band.name for band in bands_202()]


TORCHGEO = [name for name, item in catalogue().items() if item.torchgeo]


@pytest.mark.parametrize("name", TORCHGEO)
def test_bands_hash_and_numbers_are_torchgeo_s(name: str) -> None:
    item = known(name)
    theirs = enum(item.torchgeo)
    assert known(item.torchgeo) is item
    place = parse(theirs.url)
    assert place == HubFile(item.repo, item.path, item.revision)
    file = theirs.url.rsplit("/", 1)[1]
    own = re.search(r"-([0-9a-f]{8})\.\w+$", file)
    assert item.sha256 == (own[1] if own else "")
    if not item.bands:
        return
    ((_, bands),) = item.band_list().items()
    if "bands" in theirs.meta:
        spelled = [re.sub(r"^B(\d)$", r"B0\1", band.upper()) for band in theirs.meta["bands"]]
        assert [band.name for band in bands] == spelled
    if not item.normalisation:
        return
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


def test_every_enum_of_torchgeo_is_reached_by_its_own_name() -> None:
    names = torchgeo_names()
    assert len(names) > 100
    for name, member in names.items():
        item = find(name)
        assert item.torchgeo == name
        assert (item.repo in member.url and item.revision in member.url) or item.page == member.url
        assert item.sha256 in member.url
        # the hash is wanted where the file's name carries its digits
        assert bool(item.sha256) == bool(re.search(r"-[0-9a-f]{8}\.", member.url)) or item.page
    item = find("ResNet18_Weights.LANDSAT_TM_TOA_MOCO")
    assert (item.bands, dict(item.normalisation)) == ("", {})
    with pytest.raises(UsageError, match="give --bands and --normalisation"):
        item.band_list()


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


def test_radar_of_ssl4eo_is_clipped_as_in_training_or_scored_as_torchgeo_does() -> None:
    for name in ("ssl4eo-moco-rn50-s1", "ssl4eo-mae-vits16-s1", "ssl4eo-mae-vith14-s1"):
        with pytest.raises(UsageError, match="one of clip, zscore"):
            known(name).normaliser(None)
        _, clip = known(name).normaliser("clip")
        # the statistics of SSL4EO-S12's code, VV and VH: the mean is the middle, 2 std the ends
        mean = torch.tensor([-12.54847273, -20.19237134])[:, None, None]
        std = torch.tensor([5.25697717, 5.91150917])[:, None, None]
        for share, wanted in ((0.0, 0.5), (2.0, 1.0), (-2.0, 0.0), (5.0, 1.0), (1.0, 0.75)):
            got = clip(mean + share * std)
            torch.testing.assert_close(got, torch.full_like(got, wanted), rtol=0, atol=1e-5)


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
    assert main(["models", "list"]) == 0
    assert "softcon-rn50-s2" in capsys.readouterr().out
    assert main(["models", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    others = {row["name"]: row for row in rows if not row["name"].startswith("eofm/")}
    assert set(others) == set(catalogue())
    assert others["softcon-rn50-s2"]["normalisation"] == ["clip", "zscore"]
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


def test_satclip_s_empty_channel_is_left_out_without_a_change() -> None:
    state = state_of("satclip_resnet")
    name = "satclip-r50-l10-visual"
    model, report = foreign.load(state, known=name)
    ((_, bands),) = model.bands.items()
    assert [band.name for band in bands][9:11] == ["B09", "B11"]
    assert any("left out channel 10 (B10, which L2A lacks" in note for note in report.notes)
    own = {k.removeprefix("model.visual."): v for k, v in state.items() if ".visual." in k}
    pixels = torch.rand(2, 12, 32, 32)
    whole = torch.cat([pixels[:, :10], torch.zeros(2, 1, 32, 32), pixels[:, 10:]], 1)
    first = torch.nn.functional.conv2d(whole, own["conv1.weight"], stride=2, padding=3)
    kept = model.state_dict()["resnet.conv1.weight"]
    assert torch.allclose(
        torch.nn.functional.conv2d(pixels, kept, stride=2, padding=3), first, atol=1e-5
    )
    other = {**state, "model.visual.conv1.weight": state["model.visual.conv1.weight"][:, :12]}
    with pytest.raises(FMError, match="channels is 12, of satclip-r50-l10-visual it is 13"):
        foreign.load(other, known=name)


def test_a_level_that_nobody_states_is_asked_for() -> None:
    """CLOSP's images come of three data sets, and torchgeo's list is that of another one."""
    for name in ("closp-rn50-s2", "geoclosp-rn50-s2", "closp-vits16-s2", "closp-vitl16-s2"):
        with pytest.raises(UsageError, match="do not say the level: give --bands of yours, 12 wit"):
            known(name).band_list()
    state = state_of("resnet")
    with pytest.raises(UsageError, match="do not say the level"):
        foreign.load(state, known="closp-rn50-s2")
    bands = known("satclip-r50-l10-visual").band_list()
    model, report = foreign.load(state, known="closp-rn50-s2", bands=bands)
    assert [band.name for band in model.bands["s2l2a_10"]][9:11] == ["B09", "B11"]
    assert any("left out channel 10 (B10: the data has 12 bands" in note for note in report.notes)


def test_a_derived_channel_is_asked_for_by_its_name() -> None:
    name = "ssl4eco-rn50-s2-ndvi"
    state = state_of("ssl4eco")
    for key in [k for k in state if k.endswith("_q.0.weight") or k.endswith("_k.0.weight")]:
        state[key] = state[key][:, :9].clone()
    with pytest.raises(UsageError, match="NDVI is the ninth channel, which the caller computes"):
        foreign.load(state, known=name)
    model, _ = foreign.load(state, known=name, normalisation=Normalisation.identity(9))
    ((modality, bands),) = model.bands.items()
    assert (bands[-1].name, bands[-1].unit, bands[-1].wavelength_nm) == ("NDVI", "index", None)
    x = torch.rand(1, 9, 64, 64)
    x[:, 8] = (x[:, 6] - x[:, 2]) / (x[:, 6] + x[:, 2])
    with torch.no_grad():
        assert model.encode({modality: x}).pooled.isfinite().all()
        with pytest.raises(FMError, match="NDVI"):
            model.encode({modality: x[:, :8]}, bands={modality: bands[:8]})
