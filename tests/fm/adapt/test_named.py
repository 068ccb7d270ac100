"""`fm.adapt.to_bands` on models with bases, other tokenizers, group codes and own scalings."""

import numpy as np
import pytest
import torch

from fm.adapt import to_bands
from fm.errors import UsageError
from fm.models import VisionTransformer, create_model
from fm.models.embed import TOKENIZERS, Moments
from fm.normalize import Normalisation
from fm.sensors import Band, sensor

SMALL = {"width": 32, "depth": 1, "heads": 2}
S2 = {m: b for m, b in sensor("sentinel2-l1c").modalities.items() if m != "s2l1c_60"}
S1 = sensor("sentinel1-grd").modalities


def zscore(bands: dict[str, tuple[Band, ...]]) -> dict[str, Normalisation]:
    return {m: Normalisation("zscore", (0.4,) * len(b), (0.2,) * len(b)) for m, b in bands.items()}


def with_basis() -> VisionTransformer:
    torch.manual_seed(0)
    bands = {"aviris_20": sensor("aviris-indian-pines").bands, **S1}
    model = create_model(
        "vit_nano",
        bands=bands,
        token_m=40,
        normalisation=zscore(bands),
        basis={"aviris": {"components": 30}},
        **SMALL,
    )
    ((_, basis),) = model.bases()
    basis.fit(Moments.of(np.random.default_rng(0).normal(size=(900, 200)).cumsum(axis=1) / 10))
    assert isinstance(model, VisionTransformer)
    return model.eval()


def test_a_basis_moves_with_its_bands_and_others_are_refused() -> None:
    model = with_basis()
    adapted, _ = to_bands(model, {"aviris_20": model.bands["aviris_20"]})
    x = {"aviris_20": torch.rand(2, 200, 4, 4)}
    assert torch.allclose(adapted.encode(x).pooled, model.encode(x).pooled, atol=1e-5)
    with pytest.raises(UsageError, match=r"give them to encode\(bands=...\)"):
        to_bands(model, {"aviris_20": model.bands["aviris_20"][:50]})
    with pytest.raises(UsageError, match="this has a spectral basis; it takes other bands"):
        to_bands(model, {"enmap_30": sensor("enmap-l2a").bands}, policy="response", beyond="zero")


@pytest.mark.parametrize("tokenizer", sorted(set(TOKENIZERS) - {"spectral_adapter"}))
def test_the_code_of_a_group_left_alone_joins_its_tokens(tokenizer: str) -> None:
    torch.manual_seed(0)
    options = {"channel_attention": {"heads": 4}}
    model = create_model(
        "vit_nano",
        bands={**S2, **S1},
        token_m=80,
        tokenizer={"s2l1c": tokenizer, "s1grd": "linear"},
        tokenizer_options={"s2l1c": options.get(tokenizer, {})},
        **SMALL,
    ).eval()
    adapted, report = to_bands(model, S2)
    x = {m: torch.rand(2, len(b), *[160 // int(b[0].gsd_m)] * 2) for m, b in S2.items()}
    assert torch.allclose(adapted.encode(x).tokens, model.encode(x).tokens, atol=1e-5)
    assert report["absent"] == sorted(S1)


@pytest.mark.parametrize("positions", [{}, {"positions": "learned", "grid": 2}])
def test_a_code_by_place_is_not_renumbered(positions: dict[str, object]) -> None:
    model = create_model(
        "vit_nano", bands={**S1, **S2}, token_m=80, group_code_width=8, **SMALL, **positions
    ).eval()
    for wanted in (S2, {**S2, **S1}):
        with pytest.raises(UsageError, match="the code of a group is its place"):
            to_bands(model, wanted)
    fewer = {**S1, "s2l1c_10": S2["s2l1c_10"][:2]}
    adapted, _ = to_bands(model, fewer)
    assert list(adapted.groups) == list(model.groups)


def test_an_own_scaling_is_kept_or_reported() -> None:
    own = dict.fromkeys(S2, (0.5, 1.0))
    model = create_model("vit_nano", bands=S2, token_m=80, scaling=own, **SMALL)
    adapted, report = to_bands(model, {"s2l1c_10": S2["s2l1c_10"][:3]})
    assert adapted.scaling == {"s2l1c_10": (0.5, 1.0)}
    assert "scaling" not in report
    l2a = {"s2l2a_10": sensor("sentinel2-l2a").modalities["s2l2a_10"]}
    adapted, report = to_bands(model, l2a, like={"s2l2a_10": "s2l1c_10"})
    table = sensor("sentinel2-l2a")
    assert adapted.scaling == {"s2l2a_10": (table.scale, table.offset)}
    assert report["scaling"]["s2l2a_10"]["from"] == [0.5, 1.0]


def test_numbers_that_mean_something_else_are_not_taken_by_name() -> None:
    """Defect: 8-bit numbers for reflectance, as the bands have the same names."""
    model = create_model("vit_nano", bands={"s2l1c_10": S2["s2l1c_10"]}, token_m=80, **SMALL)
    eight = {"s2byte_10": sensor("sentinel2-8bit").select(["B02", "B03", "B04", "B08"])}
    with pytest.raises(UsageError, match=r"s2byte_10: B02 cannot .*; under a policy give the norm"):
        to_bands(model, eight, like={"s2byte_10": "s2l1c_10"})
    own = create_model("vit_nano", bands=eight, token_m=80, **SMALL)
    fewer, _ = to_bands(own, {"s2byte_10": eight["s2byte_10"][:3]})  # uncalibrated, but the same
    assert len(fewer.bands["s2byte_10"]) == 3
