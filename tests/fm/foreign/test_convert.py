import contextlib
import re

import pytest
import torch

from fm import adapt, checkpoint, foreign
from fm.errors import FMError, UsageError
from fm.foreign.inventory import inventory
from fm.normalize import Normalisation
from tests.fm.foreign.states import (
    ALL,
    CASES,
    GROUPS,
    RGB,
    TEN,
    converted,
    identity,
    state_of,
    with_fixed_positions,
)

BESIDE = (
    "another network|projector|predictor|queue|statistics of|location tower|temperature|classes of"
)


def change_back(entry: foreign.Entry, value: torch.Tensor) -> torch.Tensor:
    """Lay one of our tensors out as the file's."""
    if entry.reason.startswith("a row of zeros"):
        value = value[:, 1:]
    made = value.reshape(entry.shape)
    return made.flip(1) if "reversed" in entry.reason else made


@pytest.mark.parametrize("layout", CASES)
def test_every_key_of_both_sides_is_accounted_for(layout: str) -> None:
    state = state_of(layout)
    model, report = converted(layout, state)
    found = inventory(layout)
    full = {e: e.source if e.source in state else report.prefix + e.source for e in report.entries}
    taken = {full[entry]: entry for entry in report.entries if entry.target is not None}
    # the file's side: encoder keys are used, the rest is dropped by name with its part as reason
    assert set(full.values()) | set(report.aliases) == set(state)
    for entry in report.dropped:
        part = found.part(full[entry])
        if part == "encoder":
            assert entry.reason.startswith("positions"), entry
        elif part == "beside":
            assert re.match(BESIDE, entry.reason), entry
        else:
            assert entry.reason.startswith("decoder" if part == "decoder" else "classifier")
    # exactly the encoder's keys of the one network were taken
    assert {found.part(key) for key in taken} == {"encoder"}
    assert {found.part(key) for key in report.aliases} <= {"alias"}
    # our side, and the values: what our model exports through the mapping is the file
    own = model.state_dict()
    targets = [entry.target for entry in taken.values()]
    assert sorted([*targets, *report.fresh]) == sorted(own)
    for source, entry in taken.items():
        assert torch.equal(change_back(entry, own[entry.target]), state[source]), source


@pytest.mark.parametrize("layout", CASES)
@pytest.mark.parametrize("fault", ["missing", "renamed", "shape", "extra", "nan"])
def test_a_part_of_a_file_is_refused_with_counts(layout: str, fault: str) -> None:
    found = inventory(layout)
    # a repeated name would hide the fault behind the comparison of aliases
    state = {k: v for k, v in state_of(layout).items() if found.part(k) != "alias"}
    key = next(
        k
        for k, v in state.items()
        if re.search(r"\.\d+\.", k)
        and k.endswith("weight")
        and v.ndim == 1
        and found.part(k) == "encoder"
    )
    value = state[key]
    reading = foreign.read(state, part=CASES[layout][1].get("part"))
    wanted = {
        "missing": "1 missing",
        "renamed": "1 not known",
        "shape": "1 wrong shape",
        "extra": "1 not known",
        "nan": "1 not finite",
    }
    if fault == "missing":
        del state[key]
    elif fault == "renamed":
        state[f"{key}_x"] = state.pop(key)
    elif fault == "shape":
        state[key] = value[:-1].clone()
    elif fault == "extra":
        # beside several networks, or inside the only one
        state["adapter.extra" if reading.left else f"{reading.prefix}adapter.extra"] = torch.ones(2)
    else:
        state[key] = torch.full_like(value, torch.nan)
    with pytest.raises(FMError, match=wanted[fault]) as caught:
        converted(layout, state)
    text = str(caught.value)
    assert "\n" not in text
    assert "nothing was loaded" in text
    assert re.search(r"\d+ of \d+ keys fit", text)
    assert key.removeprefix(reading.prefix) in text or fault in ("extra", "missing")


@pytest.mark.parametrize("layout", ["satmae_group", "vit", "satmaepp_group", "satmae_temporal"])
def test_tables_of_the_formula_are_computed(layout: str) -> None:
    state = with_fixed_positions(state_of(layout))
    model, report = converted(layout, state)
    learned, _ = converted(layout, {**state, "pos_embed": state["pos_embed"] + 1e-3})
    assert model.architecture["positions"] == "sincos"
    assert learned.architecture["positions"] == "learned"
    bands, _ = CASES[layout]
    ((modality, items),) = bands.items()
    x = {modality: torch.randn(2, len(items), 8, 8)}
    with torch.no_grad():
        ours, theirs = model.encode(x).tokens, learned.encode(x).tokens
    assert 0 < (ours - theirs).abs().max() < 0.1
    assert any(e.reason.startswith("positions") for e in report.dropped)
    # any grid comes in
    assert model.encode({modality: torch.randn(1, len(items), 12, 20)}).tokens.shape[1] in (15, 45)


def test_bgr_reverses_the_columns() -> None:
    state = state_of("satmaepp_rgb")
    bgr, report = converted("satmaepp_rgb", state)
    rgb, _ = converted("satmaepp_rgb", state, channel_order="rgb")
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        a = bgr.encode({"s2l1c_10": x}).pooled
        b = rgb.encode({"s2l1c_10": x.flip(1)}).pooled
    torch.testing.assert_close(a, b)
    assert "channels reversed" in report.reshaped[0].reason
    with pytest.raises(UsageError, match="list the bands as red, green, blue"):
        foreign.load(
            state,
            bands=foreign.on_grid(RGB["s2l1c_10"][::-1], 10),
            normalisation=Normalisation.identity(3),
            heads=3,
            channel_order="bgr",
        )


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("vit", "heads"),
        ("scale_mae", "reference_gsd_m"),
        ("satmaepp_rgb", "channel_order"),
        ("satmae_temporal", "heads"),
        ("satmae_group", "token_groups"),
        ("dofa", "layer"),
        ("croma", "heads"),
        ("less_v1", "perception_m"),
        ("less_v2", "wavelength_range_nm"),
    ],
)
def test_what_the_file_cannot_say_is_asked_for(layout: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"give {name}="):
        converted(layout, **{name: None})


def test_bands_and_normalisation_are_asked_for() -> None:
    state = state_of("vit")
    with pytest.raises(UsageError, match="give normalisation="):
        foreign.load(state, bands=RGB, heads=3)
    with pytest.raises(UsageError, match="takes 3 bands, s2l1c_10 has 13"):
        foreign.load(state, bands=ALL, normalisation=identity(ALL), heads=3)
    grids = {**TEN, "s2l2a_10": TEN["s2l1c_10"]}
    with pytest.raises(UsageError, match="give bands= of one modality"):
        foreign.load(state, bands=grids, normalisation=identity(grids), heads=3)
    with pytest.raises(UsageError, match="its groups have 4, 4, 2 bands"):
        converted("satmae_group", token_groups={"a": list(GROUPS["g0"]), "b": GROUPS["g1"]})
    with pytest.raises(FMError, match="5 heads do not divide the width 24"):
        converted("vit", heads=5)
    with pytest.raises(UsageError, match="layer='v3': give v1 or v2"):
        converted("dofa", layer="v3")


def test_the_card_names_file_and_family(tmp_path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file(state_of("vit"), str(path))
    bands, options = CASES["vit"]
    model, report = foreign.load(path, bands=bands, normalisation=identity(bands), **options)
    assert model.card is not None
    assert report.sha256 in (model.card.parent or "")
    assert "vit" in (model.card.parent or "")
    checkpoint.save(tmp_path / "out", model)
    again = checkpoint.load(tmp_path / "out")
    x = {"s2l1c_10": torch.randn(2, 3, 8, 8)}
    with torch.no_grad():
        assert torch.equal(again.encode(x).pooled, model.encode(x).pooled)


def test_the_report_counts() -> None:
    _, report = converted("satmaepp_group")
    text = report.text()
    assert f"{len(report.entries)} keys" in text
    assert "dropped" in text
    counts = report.to_dict()["counts"]
    shares = ("used", "renamed", "reshaped", "dropped")
    assert sum(counts[k] for k in shares) == len(report.entries)
    assert counts["dropped"] == sum(
        e.source[:7] in ("decoder", "mask_to", "proj_up", "up_bloc") for e in report.entries
    )


@pytest.mark.parametrize("layout", ["vit", "panopticon", "spectral_vit", "less_v2"])
def test_an_assumed_pooling_is_noted(layout: str) -> None:
    _, report = converted(layout)
    assert "note: pooling: mean assumed" in report.text()
    _, report = converted(layout, pooling="mean")
    assert not any("pooling" in note for note in report.notes)


def test_what_panopticon_cannot_say_is_noted() -> None:
    assert any("16 heads assumed" in note for note in converted("panopticon")[1].notes)


def test_a_converted_model_is_adapted_to_fewer_bands() -> None:
    model, _ = foreign.load(
        {**state_of("timm_vit"), "patch_embed.proj.weight": torch.randn(24, 13, 4, 4) * 0.1},
        bands=ALL,
        normalisation=identity(ALL),
        heads=3,
    )
    chosen = {"s2l1c_10": [b for b in ALL["s2l1c_10"] if b.name in ("B02", "B04", "B8A")]}
    smaller, report = adapt.to_bands(model, chosen)
    names = [band.name for band in ALL["s2l1c_10"]]
    kept = [names.index(band.name) for band in chosen["s2l1c_10"]]
    x = torch.zeros(2, 13, 12, 12)
    x[:, kept] = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        whole = model.encode({"s2l1c_10": x}).tokens
        part = smaller.encode({"s2l1c_10": x[:, kept]}).tokens
    torch.testing.assert_close(part, whole, rtol=1e-5, atol=1e-5)
    assert len(report["dropped"]["s2l1c_10"]) == 10


def _bent(value: torch.Tensor) -> list[torch.Tensor]:
    """The same tensor with other axes, empty, and of complex numbers."""
    return [value.reshape(-1), value[None], value.new_zeros(()), value.new_zeros(0) * 1j]


@pytest.mark.parametrize("layout", CASES)
def test_what_tells_sizes_may_be_missing_or_bent(layout: str) -> None:
    state = state_of(layout)
    inside = re.compile(r"(?:blocks?|layers?\d?|_blocks|transformer|decoder\w*)\.")
    telling = [k for k in state if not inside.search(k) and state[k].is_floating_point()][:4]
    assert telling
    for number, key in enumerate(telling):
        bent = _bent(state[key])
        without = {k: v for k, v in state.items() if k != key}
        for other in (without, {**state, key: bent[number % len(bent)]}):
            # what is dropped may be anything; else one line, and no other error
            with contextlib.suppress(FMError):
                converted(layout, other)


def test_complex_numbers_are_no_weights() -> None:
    state = state_of("vit")
    with pytest.raises(FMError, match=r"1 complex \(norm.weight\)"):
        converted("vit", {**state, "norm.weight": state["norm.weight"] * (1 + 0j)})


def test_a_few_small_tensors_do_not_decide_how_much_memory_is_taken() -> None:
    wide = 3 << 18  # the attention of one block alone would have 7 TB
    state = {
        "cls_token": torch.zeros(1, 1, wide),
        "pos_embed": torch.zeros(1, 5, wide),
        "patch_embed.proj.weight": torch.zeros(wide, 3, 1, 1),
        "patch_embed.proj.bias": torch.zeros(wide),
        "norm.weight": torch.zeros(wide),
        "norm.bias": torch.zeros(wide),
        "blocks.0.attn.qkv.weight": torch.zeros(1),
    }
    with pytest.raises(FMError, match=r"wrong shape \(blocks.0.attn.qkv.weight .*; nothing was"):
        converted("vit", state)
    # however many blocks are named, no more parameters are made than there can be
    many = {f"blocks.{i}.attn.qkv.weight": torch.zeros(1) for i in range(300)}
    with pytest.raises(FMError, match="its 306 keys are too few for its sizes"):
        converted("vit", {**state, **many})
    # nor does a table of positions whose width is not the tokens'
    narrow = {**state_of("dofa"), "cls_token": torch.zeros(1, 1, wide)}
    with pytest.raises(FMError):
        converted("dofa", {**narrow, "pos_embed": torch.zeros(1, 1 + 1000**2, 1)}, heads=1)
