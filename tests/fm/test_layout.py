"""Token groups: bands by name, on their native grids, against cutting by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fm.errors import UsageError
from fm.models import VisionTransformer, create_model
from fm.models.layout import groups
from fm.sensors import Band, sensor

FINE, COARSE = ("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A")
SWIR = ("B11", "B12")
NATIVE = {"g0": FINE, "g1": COARSE, "g2": SWIR}

NATURAL = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""The ten bands of SatMAE in their natural order."""
SATMAE = {"g0": (0, 1, 2, 6), "g1": (3, 4, 5, 7), "g2": (8, 9)}
"""Places of its three groups in that order (Cong et al., arXiv 2207.08051, section 4.3)."""


def one_grid() -> dict[str, tuple[Band, ...]]:
    """Ten bands resampled to one 10 m grid, as fMoW-Sentinel stores them."""
    table = {band.name: band for band in sensor("sentinel2-l1c").bands}
    return {
        "fmow_10": tuple(
            Band(name, table[name].wavelength_nm, table[name].fwhm_nm, 10.0, "reflectance")
            for name in NATURAL
        )
    }


def build(bands: dict, token_groups: dict, **options: object) -> VisionTransformer:
    torch.manual_seed(0)
    model = create_model(
        "vit_nano",
        bands=bands,
        token_m=80,
        token_groups=token_groups,
        scaling=dict.fromkeys(bands, (1.0, 0.0)),
        width=32,
        depth=1,
        heads=2,
        **options,
    )
    assert isinstance(model, VisionTransformer)
    return model.eval()


def native_bands() -> dict[str, tuple[Band, ...]]:
    return {m: b for m, b in sensor("sentinel2-l1c").modalities.items() if m != "s2l1c_60"}


def test_bands_are_found_by_name_wherever_they_lie() -> None:
    made = groups(native_bands(), 80, NATIVE)
    places = {
        g.name: [(m.modality, [b.name for b in m.bands], m.channels, m.patch) for m in g.members]
        for g in made
    }
    order = [band.name for band in native_bands()["s2l1c_20"]]
    assert places == {
        "g0": [("s2l1c_10", list(FINE), (0, 1, 2, 3), 8)],
        "g1": [("s2l1c_20", list(COARSE), tuple(order.index(n) for n in COARSE), 4)],
        "g2": [("s2l1c_20", list(SWIR), tuple(order.index(n) for n in SWIR), 4)],
    }


def test_a_group_may_join_grids_and_reorder_bands() -> None:
    (one,) = groups(
        {"a_10": native_bands()["s2l1c_10"], "b_20": native_bands()["s2l1c_20"]},
        80,
        {"all": ("B12", "B08", *COARSE, "B02", "B11", "B04", "B03")},
    )
    patches = {m.modality: (m.patch, [b.name for b in m.bands]) for m in one.members}
    assert patches == {
        "b_20": (4, ["B12", *COARSE, "B11"]),
        "a_10": (8, ["B08", "B02", "B04", "B03"]),
    }
    assert [m.values for m in one.members] == [6 * 16, 4 * 64]


@pytest.mark.parametrize(
    ("token_groups", "text"),
    [
        ({**NATIVE, "g2": ("B11", "B13")}, r"token_groups.g2: no band 'B13'"),
        ({**NATIVE, "g2": ("B11", "B12", "B02")}, "'B02' is in two groups"),
        ({**NATIVE, "g2": ("B11",)}, "B12 in no group"),
    ],
)
def test_wrong_groups_are_refused_in_one_line(token_groups: dict, text: str) -> None:
    with pytest.raises(UsageError, match=text) as error:
        groups(native_bands(), 80, token_groups)
    assert "\n" not in str(error.value)


def hand_cut(image: Tensor, channels: list[int], token: int, patch: int, columns: int) -> Tensor:
    row, column = divmod(token, columns)
    rows = slice(row * patch, (row + 1) * patch)
    return image[:, channels, rows, column * patch : (column + 1) * patch]


def test_native_groups_equal_cutting_by_hand() -> None:
    """10 m bands at 8 px and 20 m bands at 4 px give the same 3 x 2 tokens of 80 m."""
    bands = native_bands()
    model = build(bands, NATIVE)
    generator = torch.Generator().manual_seed(1)
    pixels = {
        "s2l1c_10": torch.rand(2, 4, 24, 16, generator=generator),
        "s2l1c_20": torch.rand(2, 6, 12, 8, generator=generator),
    }
    inputs = model.inputs(pixels)
    assert model.grids(pixels) == dict.fromkeys(NATIVE, (3, 2))
    for name, names in NATIVE.items():
        modality, patch = ("s2l1c_10", 8) if name == "g0" else ("s2l1c_20", 4)
        order = [band.name for band in bands[modality]]
        channels = [order.index(band) for band in names]
        projection = model.embedding(name).member_tokenizer(modality).proj
        made, _ = model.embedding(name)(inputs)
        for token in range(6):
            cut = hand_cut(pixels[modality], channels, token, patch, 2)
            assert torch.allclose(made[:, token], projection(cut.flatten(1)), atol=1e-6)


@pytest.mark.parametrize("size", [80, np.int64(80), np.float32(80)])
def test_sizes_of_tokens_may_be_numpy_s_numbers(size: Any) -> None:
    (one,) = groups({"s2l1c_10": native_bands()["s2l1c_10"]}, size)
    assert (one.token_m, type(one.token_m), one.members[0].patch) == (80.0, float, 8)


def test_satmaes_three_groups_on_one_grid() -> None:
    """fMoW-Sentinel's form: 96 px at 8 px, 144 positions, 3 groups, 432 tokens."""
    token_groups = {g: [NATURAL[i] for i in places] for g, places in SATMAE.items()}
    model = build(one_grid(), token_groups)
    image = torch.rand(1, 10, 96, 96, generator=torch.Generator().manual_seed(1))
    features = model.encode({"fmow_10": image})
    assert features.tokens.shape == (1, 432, 32)
    assert features.grid == dict.fromkeys(SATMAE, (12, 12))
    inputs = model.inputs({"fmow_10": image})
    for name, places in SATMAE.items():
        convolution = model.embedding(name).member_tokenizer("fmow_10").proj
        weight = convolution.weight.reshape(32, len(places), 8, 8)
        want = torch.nn.functional.conv2d(image[:, list(places)], weight, convolution.bias, 8)
        made, _ = model.embedding(name)(inputs)
        assert torch.allclose(made, want.flatten(2).mT, atol=1e-5)


def closed_form(width: int, x: float) -> np.ndarray:
    w = 10000.0 ** (-np.arange(width // 2) / (width / 2))
    return np.concatenate([np.sin(x * w), np.cos(x * w)])


def test_concatenated_code_of_place_and_group() -> None:
    """code(g, l) = [pos2d(l) of D - c, column before row; chan(g) of c] (SatMAE, section 3.3)."""
    token_groups = {g: [NATURAL[i] for i in places] for g, places in SATMAE.items()}
    model = build(one_grid(), token_groups, group_code_width=8)
    assert not list(model.group_embed)
    pixels = {"fmow_10": torch.rand(1, 10, 16, 24)}
    inputs = model.inputs(pixels)
    codes = model.position_codes(inputs)
    tokens, _ = model.embed(inputs)
    bare = torch.cat([model.embedding(name)(inputs)[0] for name in SATMAE], dim=1)
    for number, name in enumerate(SATMAE):
        for place in range(6):
            row, column = divmod(place, 3)
            want = np.concatenate(
                [closed_form(12, column), closed_form(12, row), closed_form(8, number)]
            )
            assert np.allclose(codes[name][place].numpy(), want, atol=1e-6)
            added = (tokens - bare)[0, 6 * number + place].detach().numpy()
            assert np.allclose(added, want, atol=1e-5)
