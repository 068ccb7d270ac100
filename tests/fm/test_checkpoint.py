"""Checkpoint folders: exact round trips, and damage that is noticed."""

import json
from pathlib import Path

import pytest
import torch

import fm
from fm import checkpoint
from fm.adapt import to_bands
from fm.checkpoint import load, save
from fm.errors import FMError, UsageError
from fm.models import create_model, rebuild
from fm.normalize import Normalisation
from fm.sensors import sensor
from tests.fm.test_models import s2_pixels


def make(name: str = "sentinel2-l1c", seed: int = 0) -> fm.models.VisionTransformer:
    torch.manual_seed(seed)
    bands = sensor(name).modalities
    normalisation = {
        m: Normalisation.fit(
            "zscore", {"mean": [0.1 + 0.01 * i for i in range(len(b))], "std": [0.1] * len(b)}
        )
        for m, b in bands.items()
    }
    return create_model(
        "vit_nano", bands=bands, token_m=120, normalisation=normalisation, depth=1
    ).eval()


def test_round_trip_is_exact(tmp_path: Path) -> None:
    model = make()
    card = save(tmp_path / "m", model)
    again = load(tmp_path / "m")
    assert torch.equal(model.encode(s2_pixels()).pooled, again.encode(s2_pixels()).pooled)
    assert again.card == card
    assert (tmp_path / "m" / "README.md").read_text().startswith("# m\n")
    assert again.bands == model.bands


def test_random_weights_keep_everything_but_the_weights(tmp_path: Path) -> None:
    save(tmp_path / "m", make())
    before = torch.get_rng_state()
    a, b = (load(tmp_path / "m", weights="random", seed=s) for s in (1, 1))
    assert torch.equal(torch.get_rng_state(), before)
    other = load(tmp_path / "m", weights="random", seed=2)
    assert torch.equal(a.encode(s2_pixels()).pooled, b.encode(s2_pixels()).pooled)
    assert not torch.equal(a.encode(s2_pixels()).pooled, other.encode(s2_pixels()).pooled)
    assert a.normalisation == make().normalisation
    with pytest.raises(UsageError, match="pretrained"):
        load(tmp_path / "m", weights="none")


def test_damage_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FMError, match="no such checkpoint folder"):
        load(tmp_path / "none")
    (tmp_path / "run").mkdir()
    save(tmp_path / "run" / "export", make())
    with pytest.raises(FMError, match=r"did you mean .*export"):
        load(tmp_path / "run")
    folder = tmp_path / "run" / "export"
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(FMError, match="damaged or replaced"):
        load(folder)
    (folder / "model.safetensors").write_bytes(weights)
    card = json.loads((folder / "card.json").read_text())
    for change, text in (
        ({"format_version": 99}, "newer"),
        ({"format_version": None}, "not the card"),
        ({"bands": 3}, "malformed"),
        ({"architecture": {**card["architecture"], "depth": 2}}, r"12 missing \(blocks.1"),
    ):
        (folder / "card.json").write_text(json.dumps({**card, **change}))
        with pytest.raises(FMError, match=text):
            load(folder)
    del card["scaling"]
    (folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(FMError, match="'scaling' is missing"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"width": 1 << 17}, r"wrong shape \("),  # 200 GB
        ({"depth": 40}, "which has many more"),
        ({"depth": 10**6}, "which has many more"),
        ({"width": 1 << 60}, "malformed architecture"),
    ],
)
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_a_card_does_not_decide_how_much_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict, text: str, weights: str
) -> None:
    """Defect: the card's model was made in memory before the weights were looked at.

    Of a model with random weights they were not looked at.
    """
    save(tmp_path / "m", make())
    path = tmp_path / "m" / "card.json"
    card = json.loads(path.read_text())
    path.write_text(json.dumps({**card, "architecture": {**card["architecture"], **change}}))

    def without_memory(*given: object) -> object:
        assert torch.get_default_device().type == "meta"
        return rebuild(*given)

    monkeypatch.setattr(checkpoint, "rebuild", without_memory)
    with pytest.raises(FMError, match=text) as error:
        load(tmp_path / "m", weights=weights)
    assert "\n" not in str(error.value)
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(FMError, match=r"has no model\.safetensors"):
        load(tmp_path / "m", weights=weights)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    save(tmp_path / "m", make())
    with pytest.raises(FMError, match="exists already"):
        save(tmp_path / "m", make())


def test_adapted_model_equals_the_source_with_the_dropped_band_at_its_mean() -> None:
    model = make()
    l2a = sensor("sentinel2-l2a").modalities
    like = {m: m.replace("s2l2a", "s2l1c") for m in l2a}
    adapted, report = to_bands(model, l2a, like=like)
    assert report["dropped"] == {"s2l1c_60": ["B10"]}
    assert report["sensors"] == {"from": ["sentinel2-l1c"], "to": ["sentinel2-l2a"]}
    pixels = {name: x.to(torch.float32) * 1e-4 for name, x in s2_pixels().items()}
    names = [band.name for band in model.bands["s2l1c_60"]]
    mean = 0.1 + 0.01 * names.index("B10")
    pixels["s2l1c_60"][:, names.index("B10")] = mean
    given = {m: pixels[o] for m, o in like.items()}
    kept = [names.index(band.name) for band in l2a["s2l2a_60"]]
    given["s2l2a_60"] = pixels["s2l1c_60"][:, kept]
    want = model.encode(pixels).pooled
    assert torch.allclose(adapted.encode(given).pooled, want, atol=1e-5)


def test_adapting_refuses_what_it_cannot_do() -> None:
    model = make("sentinel2-l2a")
    l1c = sensor("sentinel2-l1c").modalities
    like = {m: m.replace("s2l1c", "s2l2a") for m in l1c}
    with pytest.raises(UsageError, match="never saw B10"):
        to_bands(model, l1c, like=like)
    with pytest.raises(UsageError, match="the model has no s2l1c_10"):
        to_bands(model, l1c)


@pytest.mark.parametrize(
    "wrong",
    [
        {"architecture": None},
        {"architecture": {"depth": 1}},
        {"architecture": {"name": 3}},
        {"architecture": {"name": "vit_nano", "token_groups": 3}},
        {"architecture": {"name": "vit_nano", "token_m": 120, "tokenizer_options": {"heads": -1}}},
        {"architecture": {"name": "vit_none"}},
        {"architecture": {"name": "vit_nano", "token_m": 120, "foo": 1}},
        {"normalisation": {}},
        {"normalisation": {"s2l1c_10": {"kind": "zscore", "shift": [1], "scale": [0]}}},
        {"scaling": {"s2l1c_10": "x"}},
        {"scaling": {f"s2l1c_{metres}": [0, 0] for metres in (10, 20, 60)}},
    ],
)
def test_a_damaged_card_is_told_with_its_file(tmp_path: Path, wrong: dict) -> None:
    save(tmp_path / "m", make())
    path = tmp_path / "m" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    with pytest.raises(FMError, match=r"card\.json: ") as error:
        load(tmp_path / "m")
    assert "\n" not in str(error.value)
