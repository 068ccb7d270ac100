"""Position codes: closed forms, metres, and timm's resampling of learned tables."""

import math

import pytest
import torch

from fm.errors import UsageError
from fm.models import VisionTransformer, create_model
from fm.models.positions import resized_positions, sincos_1d, sincos_2d
from fm.sensors import sensor

S2 = {"s2l1c_10": sensor("sentinel2-l1c").modalities["s2l1c_10"]}
SMALL = {"width": 32, "depth": 1, "heads": 2}


def test_sincos_1d_equals_the_closed_form() -> None:
    x = torch.tensor([0.0, 1.0, 2.5, 400.0], dtype=torch.float64)
    code = sincos_1d(6, x)
    for row, value in zip(code.tolist(), x.tolist(), strict=True):
        w = [10000 ** (-k / 3) for k in range(3)]
        want = [math.sin(value * v) for v in w] + [math.cos(value * v) for v in w]
        assert row == pytest.approx(want, abs=1e-12)


def test_sincos_2d_is_column_then_row() -> None:
    code = sincos_2d(16, 3, 5, step=0.5)
    columns = sincos_1d(8, 0.5 * torch.arange(5, dtype=torch.float32))
    rows = sincos_1d(8, 0.5 * torch.arange(3, dtype=torch.float32))
    for row in range(3):
        for column in range(5):
            want = torch.cat([columns[column], rows[row]])
            assert torch.allclose(code[row * 5 + column], want, atol=1e-6)


def metres(token_m: float, **options: object) -> VisionTransformer:
    model = create_model(
        "vit_nano", bands=S2, token_m=token_m, positions="metres", **SMALL, **options
    )
    assert isinstance(model, VisionTransformer)
    return model.eval()


def codes(model: VisionTransformer, side: int, gsd: float | None = None) -> torch.Tensor:
    pixels = {"s2l1c_10": torch.rand(1, 4, side, side)}
    given = None if gsd is None else {"s2l1c_10": gsd}
    code = model.position_codes(model.inputs(pixels, gsd=given))["s2l1c"]
    rows = side // model.groups["s2l1c"].members[0].patch
    return code.reshape(rows, rows, -1)


def test_the_same_ground_has_the_same_code_at_another_resolution() -> None:
    model = metres(40)
    native, coarse, fine = codes(model, 32), codes(model, 16, 20.0), codes(model, 64, 5.0)
    assert torch.allclose(coarse, native[::2, ::2][:4, :4], atol=1e-6)
    assert torch.allclose(fine[::2, ::2], native, atol=1e-6)
    assert not torch.allclose(coarse[1, 1], native[1, 1], atol=1e-2)
    # and with tokens of another size on the native grid
    assert torch.allclose(codes(metres(80), 32), native[::2, ::2], atol=1e-6)


def test_metres_at_the_reference_are_grid_steps() -> None:
    assert torch.equal(codes(metres(40, reference_m=40.0), 16), sincos_2d(32, 4, 4).view(4, 4, 32))


def test_gsd_changes_features_and_needs_positions_in_metres() -> None:
    pixels = {"s2l1c_10": torch.rand(2, 4, 16, 16)}
    model = metres(40)
    own = model.encode(pixels).tokens
    assert torch.equal(model.encode(pixels, gsd={"s2l1c_10": 10.0}).tokens, own)
    coarse = model.encode(pixels, gsd={"s2l1c_10": 20.0}).tokens
    assert not torch.allclose(coarse, own, atol=1e-4)
    plain = create_model("vit_nano", bands=S2, token_m=40, **SMALL)
    with pytest.raises(UsageError, match="resample them first"):
        plain.encode(pixels, gsd={"s2l1c_10": 20.0})


def test_grids_of_one_group_must_agree_on_the_ground() -> None:
    bands = sensor("sentinel2-l1c").modalities
    model = create_model("vit_nano", bands=bands, token_m=120, positions="metres", **SMALL)
    sizes = {"s2l1c_10": 24, "s2l1c_20": 12, "s2l1c_60": 4}
    pixels = {m: torch.rand(1, len(b), sizes[m], sizes[m]) for m, b in bands.items()}
    twice = {m: 2 * b[0].gsd_m for m, b in bands.items()}
    model.encode(pixels, gsd=twice)
    model.encode(pixels, gsd={m: b[0].gsd_m * 0.11 for m, b in bands.items()})  # up to rounding
    with pytest.raises(UsageError, match="disagree"):
        model.encode(pixels, gsd={**twice, "s2l1c_60": 60.0})


@pytest.mark.parametrize("grid", [(7, 7), (3, 5), (12, 9)])
def test_learned_tables_are_resampled_as_timm_does(grid: tuple[int, int]) -> None:
    from timm.layers import resample_abs_pos_embed

    table = torch.randn(1, 49, 24, generator=torch.Generator().manual_seed(0))
    want = resample_abs_pos_embed(table, list(grid), num_prefix_tokens=0)[0]
    found = resized_positions(table[0], *grid)
    assert found.shape == (grid[0] * grid[1], 24)
    assert torch.allclose(found, want, atol=1e-6)


def test_a_learned_table_is_used_as_it_is_on_its_own_grid() -> None:
    table = torch.randn(16, 8)
    assert resized_positions(table, 4, 4) is table
    model = create_model("vit_nano", bands=S2, token_m=40, positions="learned", grid=4, **SMALL)
    assert model.pos_embed.shape == (1, 17, 32)
    for side in (16, 24):
        pixels = {"s2l1c_10": torch.rand(1, 4, side, side)}
        assert torch.isfinite(model.encode(pixels).tokens).all()
