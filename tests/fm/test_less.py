"""LESS ViT against its formulas in float64, its sizes, and what it refuses."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fm.errors import UsageError
from fm.models import create_model
from fm.models.less import AttentionShape, Context, LessViT, WavelengthAxis
from fm.models.less.attention import AttentionPool, Kronecker, LessAttention
from fm.models.less.axis import Axis, Part, axis_of
from fm.models.less.codes import CodeSettings, PositionChannelCode
from fm.models.less.mask import perception_field
from fm.models.less.rope import Turn, grid_coordinates, rotate, spatial_angles, spectral_angles
from fm.sensors import Band, sensor

S2_ON_10 = tuple(
    replace(band, gsd_m=10.0, modality="s2l1c_10") for band in sensor("sentinel2-l1c").bands
)
S1 = sensor("sentinel1-grd").bands
PUBLISHED_RADAR = {"VV": 5500.0, "VH": 5700.0}
SMALL = {"width": 32, "depth": 1, "heads": 2}


def less(
    bands: dict[str, Sequence[Band]] | None = None, token_m: float = 120, **options: object
) -> LessViT:
    torch.manual_seed(0)
    given = {"s2l1c_10": S2_ON_10} if bands is None else bands
    model = create_model("less_nano", bands=given, token_m=token_m, **{**SMALL, **options})
    assert isinstance(model, LessViT)
    return model.eval()


def optical(*nm: float, gsd_m: float = 10.0, modality: str = "s2l1c_10") -> tuple[Band, ...]:
    return tuple(Band(f"x{v:g}", v, 20.0, gsd_m, "reflectance", None, modality) for v in nm)


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "token_m", "options", "millions"),
    [
        ("less_base", 160, {"channel_dim": 2, "rank": 1, "aggregation": "sum"}, 83.22),
        ("less_base", 160, {"channel_dim": 2, "rank": 2, "aggregation": "sum"}, 86.78),
        ("less_base", 160, {"channel_dim": 2, "rank": 4, "aggregation": "sum"}, 93.91),
        ("less_base", 160, {"channel_dim": 2, "rank": 8, "aggregation": "sum"}, 108.16),
        ("less_base", 160, {"channel_dim": 4, "rank": 1, "aggregation": "sum"}, 72.50),
        ("less_base", 40, {"channel_dim": 4}, 71.77),
        ("less_small", 160, {"channel_dim": 4}, 18.36),
    ],
)
def test_sizes_are_the_published_ones(
    name: str, token_m: float, options: dict[str, object], millions: float
) -> None:
    """Encoders hold both embeddings, as the originals do whatever they are trained on."""
    with torch.device("meta"):
        model = create_model(
            name,
            bands={"s2l1c_10": S2_ON_10, "s1grd_10": S1},
            token_m=token_m,
            codes="sum",
            radar_wavelengths=PUBLISHED_RADAR,
            **options,
        )
    found = sum(p.numel() for p in model.parameters()) / 1e6
    assert found == pytest.approx(millions, abs=0.0051)  # 71.765 is given as 71.77


def attention(heads: torch.Tensor, keys: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
    scores = heads @ keys.transpose(-2, -1) / math.sqrt(heads.shape[-1])
    return (scores if seen is None else scores.masked_fill(~seen, -torch.inf)).softmax(dim=-1)


@pytest.mark.parametrize("aggregation", ["sum", "mean"])
@pytest.mark.parametrize(("rank", "count"), [(1, 3), (1, 30), (3, 4), (3, 40)])
def test_kronecker_attention_is_the_dense_operator(aggregation: str, rank: int, count: int) -> None:
    """sum (or mean) over ranks of A_c (x) A_s, applied to values of rank one."""
    shape = AttentionShape(24, heads=2, channel_dim=4, rank=rank, aggregation=aggregation)
    torch.manual_seed(1)
    module = Kronecker(shape).double()
    positions = 5
    rows, columns = values(2, count, 8), values(2, positions, 6, seed=1)
    cells = torch.ones(2, count, positions, dtype=torch.bool)
    cells[1, :, 3] = False
    cells[0, 1] = False
    context = Context(
        channel_turn=Turn.by(values(1, 1, 1, count, 2, seed=2)),
        near=perception_field(2, 2, 10.0, 10.0, torch.device("cpu"))[None],
        cells=cells,
    )
    qc, kc, vc = module.channel_branch.parts(rows, context.channel_turn)
    qs, ks, vs = module.spatial_branch.parts(columns, None)
    a_c = attention(qc, kc, cells[:, None, None, None, :, 0])
    a_s = attention(qs, ks, (cells[:, None, 0] & context.near)[:, None, None])
    want = torch.zeros(2, count, positions, 24, dtype=torch.float64)
    for b in range(2):
        for head in range(2):
            total = torch.zeros(count * positions, 12, dtype=torch.float64)
            for r in range(rank):
                operator = torch.kron(a_c[b, r, head], a_s[b, r, head])
                total += operator @ torch.kron(vc[b, r, head], vs[b, r, head])
            total /= rank if aggregation == "mean" else 1
            want[b, ..., head * 12 : head * 12 + 12] = total.reshape(count, positions, 12)
    want = module.proj(want)
    assert torch.allclose(module(rows, columns, context), want, atol=1e-12, rtol=0)


def test_mean_has_a_value_for_each_rank_and_sum_one() -> None:
    own = Kronecker(AttentionShape(24, 2, 4, rank=3, aggregation="mean"))
    shared = Kronecker(AttentionShape(24, 2, 4, rank=3, aggregation="sum"))
    assert own.channel_branch.v.out_features == 3 * 8
    assert shared.channel_branch.v.out_features == 8
    assert own.channel_branch.qk.out_features == shared.channel_branch.qk.out_features == 48


def test_folded_pooling_is_multi_head_attention_of_the_first_token() -> None:
    torch.manual_seed(1)
    module = AttentionPool(12, 3).double()
    torch.nn.init.normal_(module.kv.bias)
    x = values(2, 7, 12)
    seen = torch.ones(2, 7, dtype=torch.bool)
    seen[1, 4:] = False
    query = module.q(x[:, :1]).unflatten(-1, (3, 4)).transpose(1, 2)
    key, value = module.kv(x).unflatten(-1, (2, 3, 4)).permute(2, 0, 3, 1, 4)
    read = attention(query, key, seen[:, None, None]) @ value
    want = module.proj(read.transpose(1, 2).flatten(1))
    assert torch.allclose(module(x, seen), want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("pool", ["low", "full"])
def test_pooling_in_the_low_width_and_at_full_width(pool: str) -> None:
    torch.manual_seed(1)
    module = LessAttention(AttentionShape(24, 2, 4, pool=pool)).double().low_dim_pool
    x = values(2, 3, 5, 24)
    rows, columns = module(x, None)
    if pool == "low":
        low = module.channel_linear(x)
        want = low[:, :, 0] + module.channel_pool(module.channel_norm(low))
        narrow = module.spatial_linear(x)
        over = module.spatial_norm(narrow).transpose(1, 2)
        across = narrow[:, 0] + module.spatial_pool(over)
    else:
        want = module.channel_linear(x[:, :, 0] + module.channel_pool(x))
        across = module.spatial_linear(x[:, 0] + module.spatial_pool(x.transpose(1, 2)))
    assert torch.allclose(rows, want, atol=1e-12)
    assert torch.allclose(columns, across, atol=1e-12)


def test_ssrope_is_a_product_with_rotation_matrices() -> None:
    x, width = values(3, 8), 8
    at = WavelengthAxis().coordinate(torch.tensor([450.0, 1600.0, 2200.0], dtype=torch.float64))
    angle = spectral_angles(at, width, 1, False)[0]
    for token in range(3):
        matrix = torch.zeros(width, width, dtype=torch.float64)
        for k in range(width // 2):
            turn = 2 * math.pi * float(at[token]) / 100 ** (2 * k / width)
            matrix[k, k] = matrix[k + width // 2, k + width // 2] = math.cos(turn)
            matrix[k, k + width // 2], matrix[k + width // 2, k] = -math.sin(turn), math.sin(turn)
        assert torch.allclose(rotate(x, Turn.by(angle))[token], matrix @ x[token], atol=1e-12)


def test_spatial_rotations_of_a_rectangular_grid() -> None:
    places = grid_coordinates(2, 3)
    assert places[4].tolist() == pytest.approx([0.5, 0.0])
    angles = spatial_angles(places, 8, 1, False)[0]
    want = [2 * math.pi * x / p for x in places[5].tolist() for p in (1.0, 10.0)]
    assert angles[5].tolist() == pytest.approx(want)


def test_finer_frequencies_resolve_neighbouring_bands_and_do_not_alias() -> None:
    axis = WavelengthAxis()
    nm = torch.tensor([600.0, 606.5, 600.0 + 1150.0], dtype=torch.float64)

    def apart(finer: bool, other: int) -> float:
        angle = spectral_angles(axis.coordinate(nm), 4, 12, finer)
        turned = rotate(torch.ones(1, 3, 4, dtype=torch.float64), Turn.by(angle))
        return float((turned[:, 0] - turned[:, other]).norm(dim=-1).max())

    assert apart(False, 1) < 0.1 < 1.0 < apart(True, 1)
    period_one = spectral_angles(axis.coordinate(nm), 4, 12, False)[0, :, 0]
    assert math.cos(period_one[0]) == pytest.approx(math.cos(period_one[2]))  # half an axis apart
    assert apart(True, 2) > 1.0


def test_one_wavelength_axis_for_all_sensors() -> None:
    nm = torch.tensor([300.0, 998.7, 1450.0, 2600.0], dtype=torch.float64)
    assert WavelengthAxis().coordinate(nm).tolist() == pytest.approx(
        [-1, 2 * 698.7 / 2300 - 1, 0, 1]
    )
    logarithm = WavelengthAxis(scale="log").coordinate(nm)
    assert logarithm[1].item() == pytest.approx(2 * math.log(998.7 / 300) / math.log(26 / 3) - 1)
    made = less(legacy_range=(402.0, 998.7)).code_settings.axis.coordinate(nm)
    assert made[1].item() == pytest.approx(1.0)
    assert less().code_settings.axis == less({"s2l1c_10": optical(500, 600)}).code_settings.axis


def code(kind: str = "sum", **options: object) -> PositionChannelCode:
    return PositionChannelCode(16, 1, 4, CodeSettings(kind=kind, **options), ("VH", "VV"))


def one_axis(bands: tuple[Band, ...], grid: tuple[int, int] = (2, 3), token_m: float = 120) -> Axis:
    part = Part(bands[0].modality, "optical", 12, bands, tuple(range(len(bands))))
    return Axis((part,), grid, token_m, 10.0)


def sincos(x: float, width: int) -> list[float]:
    turns = [x * 10000 ** (-k / (width / 2)) for k in range(width // 2)]
    return [math.sin(t) for t in turns] + [math.cos(t) for t in turns]


@pytest.mark.parametrize(("legacy", "step"), [(False, 120.0), (True, 10.0)])
def test_position_channel_code_is_the_closed_form(legacy: bool, step: float) -> None:
    axis = one_axis(optical(490, 865))
    module = code(legacy_positions=legacy)
    added = module(axis, torch.device("cpu")).added()[0]
    for c, nm in enumerate((490, 865)):
        for n in range(6):
            row, column = divmod(n, 3)
            place = sincos(column * step, 8) + sincos(row * step, 8)
            want = [(a + b) / 2 for a, b in zip(place, sincos(nm, 16), strict=True)]
            assert added[1 + c, 1 + n].tolist() == pytest.approx(want, abs=1e-4)
    assert added[0, 0].abs().max() == 0
    assert added[0, 4].tolist() == pytest.approx(
        [v / 2 for v in sincos(0, 8) + sincos(step, 8)], abs=1e-4
    )
    assert added[2, 0].tolist() == pytest.approx([v / 2 for v in sincos(865, 16)], abs=1e-4)


def test_the_same_wavelength_has_the_same_code_whatever_the_sensor() -> None:
    for kind in ("sum", "rope"):
        module = code(kind)
        one = module(one_axis(optical(490, 998.7)), torch.device("cpu"))
        other = module(one_axis(optical(400, 998.7, 2400)), torch.device("cpu"))
        if kind == "sum":
            assert torch.equal(one.channel[0, 1], other.channel[0, 1])
        else:
            assert torch.equal(one.channel_angle[0, :, 1], other.channel_angle[0, :, 1])


def test_radar_has_a_code_of_its_polarisation_and_no_wavelength() -> None:
    model = less({"s1grd_10": S1})
    assert set(model.pos_chan_embed.polarisation) == {"VV", "VH"}
    other = less({"s1grd_10": S1}, codes="sum", radar_wavelengths=PUBLISHED_RADAR)
    assert not list(other.pos_chan_embed.parameters())
    x = {"s1grd_10": torch.rand(1, 2, 24, 24)}
    swapped = {"s1grd_10": x["s1grd_10"].flip(1)}
    for each in (model, other):
        assert not torch.allclose(each.encode(x).pooled, each.encode(swapped).pooled, atol=1e-4)
    hh = [replace(S1[0], name="HH", polarisation="HH")]
    with pytest.raises(UsageError, match="no polarisation HH, only VH, VV"):
        model.encode(
            {"s1grd_10": x["s1grd_10"][:, :1]},
            bands={"s1grd_10": hh},
            normalisation={"s1grd_10": model.normalisation["s1grd_10"].select([0])},
        )


def test_a_band_without_a_wavelength_is_refused() -> None:
    bands = {"s2l1c_10": (*optical(500), Band("odd", None, None, 10.0, "dn", None, "s2l1c_10"))}
    with pytest.raises(UsageError, match="'odd' of s2l1c_10 has no wavelength"):
        less(bands).encode({"s2l1c_10": torch.rand(1, 2, 24, 24)})


def test_perception_field_of_a_rectangular_grid() -> None:
    near = perception_field(2, 3, 40.0, 40.0, torch.device("cpu"))
    assert near.shape == (7, 7)
    assert near[0].all()
    assert near[:, 0].all()
    assert near[1, 1:].tolist() == [True, True, False, True, False, False]
    wide = perception_field(2, 3, 40.0, 40.0 * math.sqrt(2), torch.device("cpu"))
    assert wide[1, 1:].tolist() == [True, True, False, True, True, False]
    assert perception_field(2, 3, 40.0, 40.0, torch.device("cpu")) is near
    with torch.inference_mode():
        made = perception_field(3, 3, 41.0, 50.0, torch.device("cpu"))
    assert not made.is_inference()


def test_other_sampling_distances_move_the_tokens_in_metres() -> None:
    model = less(codes="sum", perception_m=130)
    x = {"s2l1c_10": torch.rand(1, 13, 24, 36)}
    own = model.encode(x).tokens
    assert torch.equal(model.encode(x, gsd={"s2l1c_10": 10.0}).tokens, own)
    assert not torch.allclose(model.encode(x, gsd={"s2l1c_10": 20.0}).tokens, own, atol=1e-4)
    coarse = tuple(replace(band, gsd_m=20.0) for band in S2_ON_10)
    by_band = model.encode(x, bands={"s2l1c_10": coarse}).tokens
    assert torch.equal(by_band, model.encode(x, gsd={"s2l1c_10": 20.0}).tokens)


def test_rotations_alone_do_not_take_other_sampling_distances() -> None:
    x = {"s2l1c_10": torch.rand(1, 13, 24, 36)}
    assert less(codes="sum").metric
    assert less(perception_m=130).metric
    model = less()
    assert not model.metric
    with pytest.raises(UsageError, match="pixels of 20 m, the model takes 10 m"):
        model.encode(x, gsd={"s2l1c_10": 20.0})


def test_bands_of_one_modality_on_different_grids_are_refused() -> None:
    model = less(codes="sum")
    mixed = (*optical(490), *optical(560, gsd_m=20.0))
    x = {"s2l1c_10": torch.rand(1, 2, 24, 24)}
    normal = {"s2l1c_10": model.normalisation["s2l1c_10"].select([0, 1])}
    with pytest.raises(UsageError, match=r"s2l1c_10: bands on different grids \[10.0, 20.0\] m"):
        model.encode(x, bands={"s2l1c_10": mixed}, normalisation=normal)


def test_a_group_without_any_of_its_bands_is_left_out() -> None:
    groups = {"visible": ["B02", "B03", "B04"], "infrared": ["B08", "B8A"]}
    torch.manual_seed(0)
    bands = [b for b in S2_ON_10 if any(b.name in names for names in groups.values())]
    model = create_model("less_nano", bands=bands, token_m=120, token_groups=groups, **SMALL)
    inputs = model.inputs({"s2l1c_10": torch.rand(1, 5, 24, 24)})
    grids = model.grids(inputs.pixels)
    some = axis_of(model.groups, grids, inputs.select({"s2l1c_10": [3, 4]}))
    assert [band.name for band in some.bands] == ["B08", "B8A"]
    with pytest.raises(UsageError, match="none of the given bands is one of a token group"):
        axis_of(model.groups, {"visible": (2, 2)}, inputs.select({"s2l1c_10": [3]}))


def test_native_grids_stack_as_channels_with_patches_of_their_own() -> None:
    model = less(dict(sensor("sentinel2-l1c").modalities))
    assert set(model.patch_embed) == {"optical_12", "optical_6", "optical_2"}
    sizes = {"s2l1c_10": (4, 12), "s2l1c_20": (6, 6), "s2l1c_60": (3, 2)}
    pixels = {m: torch.rand(2, c, 2 * p, 3 * p) for m, (c, p) in sizes.items()}
    axis = model.axis(model.inputs(pixels))
    assert (len(axis.bands), axis.grid, axis.token_m, axis.pixel_m) == (13, (2, 3), 120, 10)
    features = model.encode(pixels)
    assert features.tokens.shape == (2, 6, 32)
    assert features.grid == {"s2l1c": (2, 3)}


def test_sensors_whose_grids_agree_share_positions_and_others_are_refused() -> None:
    model = less({"s2l1c_10": S2_ON_10, "s1grd_10": S1}, perception_m=130)
    optical_part = {"s2l1c_10": torch.rand(1, 13, 24, 24)}
    both = model.encode({**optical_part, "s1grd_10": torch.rand(1, 2, 24, 24)})
    assert both.tokens.shape == model.encode(optical_part).tokens.shape == (1, 4, 32)
    with pytest.raises(UsageError, match="one token grid") as error:
        model.encode({**optical_part, "s1grd_10": torch.rand(1, 2, 36, 24)})
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="s1grd_10 240 m"):
        model.encode({**optical_part, "s1grd_10": torch.rand(1, 2, 24, 24)}, gsd={"s1grd_10": 20.0})


def test_kept_cells_are_those_of_the_whole() -> None:
    """Samples may choose from several embeddings, as many of each as they like."""
    model = less({**sensor("sentinel2-l1c").modalities, "s1grd_10": S1}, codes="sum")
    sizes = {"s2l1c_10": (4, 12), "s2l1c_20": (6, 6), "s2l1c_60": (3, 2), "s1grd_10": (2, 12)}
    pixels = {m: torch.rand(2, c, 2 * p, 3 * p) for m, (c, p) in sizes.items()}
    inputs = model.inputs(pixels)
    axis = model.axis(inputs)
    whole, _ = model.embed(inputs, axis)
    channels, positions = torch.tensor([[0, 5, 14], [3, 2, 12]]), torch.tensor([[4, 1], [0, 5]])
    kept, _ = model.embed(inputs, axis, channels, positions)
    for b in range(2):
        rows, columns = torch.cat([torch.zeros(1, dtype=torch.int64), channels[b] + 1]), [0]
        columns += [int(n) + 1 for n in positions[b]]
        assert torch.allclose(kept[b], whole[b][rows][:, columns], atol=1e-6)


@pytest.mark.parametrize("mlp", ["tokens", "pooled"])
@pytest.mark.parametrize("pool", ["low", "full"])
def test_a_band_without_valid_pixels_is_as_if_absent(mlp: str, pool: str) -> None:
    model = less(depth=2, mlp=mlp, pool=pool, perception_m=130, rank=2)
    x = torch.rand(2, 13, 24, 36)
    valid = torch.ones_like(x, dtype=torch.bool)
    valid[:, 5] = False
    valid[:, :, :12, :12] = False
    masked = model.encode({"s2l1c_10": x}, valid={"s2l1c_10": valid})
    kept = [i for i in range(13) if i != 5]
    without = model.encode(
        {"s2l1c_10": x[:, kept]},
        bands={"s2l1c_10": [S2_ON_10[i] for i in kept]},
        valid={"s2l1c_10": valid[:, kept]},
    )
    assert masked.mask.tolist() == [[False] + [True] * 5] * 2
    seen = masked.mask
    assert torch.allclose(masked.tokens[seen], without.tokens[seen], atol=1e-5)
    assert torch.allclose(masked.pooled, without.pooled, atol=1e-5)


def test_a_sample_without_any_valid_pixel_gives_numbers() -> None:
    x = torch.rand(2, 13, 24, 24)
    valid = torch.ones_like(x, dtype=torch.bool)
    valid[1] = False
    for mlp in ("tokens", "pooled"):
        model = less(mlp=mlp)
        features = model.encode({"s2l1c_10": x}, valid={"s2l1c_10": valid})
        assert torch.isfinite(features.tokens).all()
        plain = model.encode({"s2l1c_10": x}).pooled[0]
        assert torch.allclose(features.pooled[0], plain, atol=1e-5)


def test_pooling_is_of_the_class_row_or_the_class_cell() -> None:
    x = {"s2l1c_10": torch.rand(2, 13, 24, 36)}
    mean, cell = less(), less(pooling="cls")
    cell.load_state_dict(mean.state_dict())
    features = mean.encode(x, hidden=True)
    assert torch.allclose(features.pooled, features.tokens.mean(dim=1), atol=1e-6)
    assert [h.shape for h in features.hidden] == [(2, 6, 32)]
    assert not torch.allclose(cell.encode(x).pooled, features.pooled, atol=1e-3)
    assert torch.equal(cell.encode(x).tokens, features.tokens)


def flops(bands: int, **options: object) -> int:
    """Count the work of a block of the base size on 8 x 8 positions."""
    with torch.device("meta"):
        given = {"enmap_30": optical(500, gsd_m=30.0, modality="enmap_30")}
        model = create_model("less_base", bands=given, token_m=120, depth=1, **options)
        with FlopCounterMode(display=False) as counter:
            model.trunk(torch.empty(1, 1 + bands, 65, 768), Context())
    return counter.get_total_flops()


def test_the_pooled_mlp_makes_many_bands_cheap() -> None:
    published, pooled = flops(202), flops(202, mlp="pooled")
    assert published > 5 * pooled
    assert flops(202) > 10 * flops(12)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"channel_dim": 3}, "heads 2 times channel_dim 3"),
        ({"channel_dim": 8}, "a multiple of 4"),
        ({"aggregation": "max"}, "give one of mean, sum"),
        ({"pool": "none"}, "give one of low, full"),
        ({"mlp": "none"}, "give one of tokens, pooled"),
        ({"codes": "none"}, "give one of rope, sum"),
        ({"pooling": "max"}, "give one of mean, cls"),
        ({"wavelength_axis": "um"}, "give one of linear, log"),
        ({"legacy_range": (900.0, 400.0)}, "the smaller one first"),
        ({"perception_m": -1.0}, "must be positive"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(
    options: dict[str, object], text: str
) -> None:
    with pytest.raises(UsageError, match=text) as error:
        less(**options)
    assert "\n" not in str(error.value)
