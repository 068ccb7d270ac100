"""Series of images: the code of the time against the calendar, and what a sample of T images is."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from fm.errors import UsageError
from fm.models import VisionTransformer, create_model
from fm.models.series import calendar, codes_at, strip, time_code, with_times
from fm.sensors import sensor

BANDS = {m: b for m, b in sensor("sentinel2-l1c").modalities.items() if m != "s2l1c_60"}
MOMENTS = ("2002-01-01T00:00:00", "2016-02-29T23:59:59", "1968-12-31T12:30:00", "2100-03-01T05:00")
TIMES = torch.tensor([[1.30e9, 1.41e9, 1.52e9], [1.60e9, 1.20e9, 1.45e9]], dtype=torch.float64)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def model(**options: object) -> VisionTransformer:
    torch.manual_seed(0)
    settings = {"token_m": 40, "depth": 2, "time_code_width": 24, **options}
    made = create_model("vit_nano", bands=BANDS, **settings)  # type: ignore[arg-type]
    assert isinstance(made, VisionTransformer)
    return made.eval()


def pixels(images: int = 3, batch: int = 2, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sides = {"s2l1c_10": (8, 12), "s2l1c_20": (4, 6)}
    return {
        name: torch.rand((batch, images, len(BANDS[name]), *side), generator=generator)
        for name, side in sides.items()
    }


def chosen(given: dict[str, torch.Tensor], images: list[int]) -> dict[str, torch.Tensor]:
    return {name: x[:, images] for name, x in given.items()}


def test_the_calendar_is_the_gregorian_one() -> None:
    random = np.random.default_rng(0).uniform(-3e9, 6e9, 3000).tolist()
    moments = [*random, *map(seconds, MOMENTS)]
    want = [(t.year, t.month, t.hour) for t in (datetime.fromtimestamp(s, UTC) for s in moments)]
    found = calendar(torch.tensor(moments, dtype=torch.float64))
    assert [tuple(row) for row in found.tolist()] == want


@pytest.mark.parametrize("text", MOMENTS)
def test_the_code_is_the_closed_form(text: str) -> None:
    at = datetime.fromisoformat(text)
    want = []
    for value in (at.year - 2002, at.month - 1, at.hour):
        angles = [value * 10000 ** (-k / 64) for k in range(64)]
        want += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    found = time_code(384, torch.tensor([[seconds(text)]], dtype=torch.float64))
    assert found.shape == (1, 1, 384)
    assert found.dtype == torch.float32
    # angles up to 98 in float64, stored as float32
    assert np.allclose(found[0, 0].numpy(), want, rtol=0, atol=1e-6)


def test_an_unknown_time_is_zeros_and_no_time_is() -> None:
    times = torch.tensor([[1.3e9, math.nan], [math.inf, 1.4e9]], dtype=torch.float64)
    code = time_code(12, times)
    assert not code[0, 1].any()
    assert not code[1, 0].any()
    for row, column in ((0, 0), (1, 1)):
        assert torch.equal(code[row, column], time_code(12, times[row, column]))
        assert code[row, column].square().sum() == pytest.approx(6.0, rel=1e-6)


def test_codes_of_places_are_repeated_and_followed_by_times() -> None:
    places, times = torch.randn(4, 3), torch.randn(2, 5, 6)
    code = with_times(places, times)
    assert code.shape == (2, 20, 9)
    for b, t, n in ((0, 0, 0), (1, 4, 3), (1, 2, 1)):
        assert torch.equal(code[b, t * 4 + n], torch.cat([places[n], times[b, t]]))
    index = torch.tensor([[19, 0], [3, 3]])
    assert torch.equal(codes_at(code, index)[1], code[1, [3, 3]])
    assert torch.equal(codes_at(places, index % 4)[0], places[[3, 0]])


@pytest.mark.parametrize("dtype", [torch.uint16, torch.float32])
def test_a_strip_has_the_images_one_below_the_other(dtype: torch.dtype) -> None:
    x = torch.arange(2 * 3 * 4 * 2 * 5).reshape(2, 3, 4, 2, 5).to(dtype)
    made = strip(x)
    assert made.shape == (2, 4, 6, 5)
    for t in range(3):
        assert torch.equal(made[:, :, 2 * t : 2 * t + 2], x[:, t])
    assert torch.equal(strip(x[:, :, 0]), made[:, 0])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"positions": "learned", "grid": 3},
        {"positions": "metres", "group_code_width": 8},
        {"positions": "learned", "grid": 2, "group_code_width": 8},
    ],
)
def test_tokens_of_a_series_are_those_of_its_images(options: dict[str, object]) -> None:
    """Image after image within a group; each as it would be alone, with its own time."""
    groups = {"ten": ["B02", "B03", "B04", "B08"]}
    groups["twenty"] = [band.name for band in BANDS["s2l1c_20"]]
    made = model(**options, token_groups=groups if "group_code_width" in options else None)
    if made.pos_embed is not None:
        assert made.pos_embed.shape[-1] == 128 - 24 - (8 if made.group_code_width else 0)
    given = pixels()
    whole, mask = made.embed(made.inputs(given, times=TIMES))
    assert mask is None
    count = len(made.groups)
    alone = []
    for t in range(3):
        one = made.inputs({m: x[:, t] for m, x in given.items()}, time=TIMES[:, t])
        tokens, _ = made.embed(one)
        alone.append(tokens.reshape(2, count, 6, 128))
    want = torch.stack(alone, dim=2).reshape(2, count * 18, 128)
    # products of other sizes sum in another order
    assert torch.allclose(whole, want, atol=1e-5)
    index = torch.tensor([[17, 0, 7], [4, 12, 5]])
    kept, _ = made.embed(made.inputs(given, times=TIMES), keep=dict.fromkeys(made.groups, index))
    rows = torch.arange(2)[:, None]
    for number in range(count):
        tokens = whole[:, 18 * number : 18 * number + 18]
        assert torch.allclose(kept[:, 3 * number : 3 * number + 3], tokens[rows, index], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_images_in_another_order_with_their_times_are_the_same_sample(pooling: str) -> None:
    made, given = model(pooling=pooling), pixels()
    first = made.encode(given, times=TIMES, hidden=True)
    assert first.tokens.shape == (2, 18, 128)
    assert first.grid == {"s2l1c": (6, 3)}
    assert first.images == 3
    order = [2, 0, 1]
    other = made.encode(chosen(given, order), times=TIMES[:, order])
    tokens = first.tokens.reshape(2, 3, 6, 128)[:, order].flatten(1, 2)
    assert torch.allclose(other.tokens, tokens, atol=1e-5)
    assert torch.allclose(other.pooled, first.pooled, atol=1e-5)
    # the same images at exchanged times are another sample
    wrong = made.encode(given, times=TIMES[:, order])
    assert not torch.allclose(wrong.pooled, first.pooled, atol=1e-4)


@torch.no_grad()
def test_a_series_of_one_is_the_image_at_its_time() -> None:
    made, given = model(), pixels(images=1)
    series = made.encode(given, times=TIMES[:, :1])
    image = made.encode({m: x[:, 0] for m, x in given.items()}, time=TIMES[:, 0])
    assert torch.equal(series.tokens, image.tokens)
    timeless = made.encode({m: x[:, 0] for m, x in given.items()})
    assert not torch.allclose(timeless.pooled, image.pooled, atol=1e-4)


@torch.no_grad()
def test_an_unknown_time_touches_its_own_sample_only() -> None:
    made, given = model(), pixels()
    complete = made.encode(given, times=TIMES)
    holed = TIMES.clone()
    holed[1, 2] = math.nan
    some = made.encode(given, times=holed)
    assert torch.equal(some.tokens[0], complete.tokens[0])
    assert torch.isfinite(some.tokens).all()
    assert not torch.allclose(some.pooled[1], complete.pooled[1], atol=1e-4)


@torch.no_grad()
def test_an_image_without_data_is_no_part_of_the_series() -> None:
    made, given = model(), pixels()
    want = made.encode(chosen(given, [0, 2]), times=TIMES[:, [0, 2]])
    for name, x in given.items():
        x[:, 1] = math.nan
        assert torch.isnan(given[name]).any()
    valid = {name: torch.isfinite(x) for name, x in given.items()}
    shared = {name: x.all(dim=2) for name, x in valid.items()}
    for masks in (valid, shared):
        found = made.encode(given, valid=masks, times=TIMES)
        assert torch.allclose(found.pooled, want.pooled, atol=1e-5)
        assert found.mask is not None
        assert found.mask.reshape(2, 3, 6).all(dim=2).tolist() == [[True, False, True]] * 2


@torch.no_grad()
def test_stored_integers_are_scaled_like_those_of_single_images() -> None:
    made, given = model(), pixels()
    stored = {name: (x * 10000).to(torch.uint16) for name, x in given.items()}
    scaling = dict.fromkeys(stored, (1e-4, 0.0))
    physical = {name: x.to(torch.float32) * 1e-4 for name, x in stored.items()}
    want = made.encode(physical, times=TIMES).tokens
    found = made.encode(stored, scaling=scaling, times=TIMES).tokens
    assert torch.allclose(found, want, atol=1e-5)


def test_what_does_not_fit_is_said() -> None:
    made, given = model(), pixels()
    single = {m: x[:, 0] for m, x in given.items()}
    short = {**given, "s2l1c_20": given["s2l1c_20"][:, :2]}
    mixed = {**given, "s2l1c_20": single["s2l1c_20"]}
    # 3 images of 6 rows are whole tokens of 4 together, and none of them alone
    cut = {"s2l1c_10": torch.rand(2, 2, 4, 6, 12)}
    mask = {"s2l1c_10": torch.ones(2, 8, 12, dtype=torch.bool)}
    for words, problem in (
        (lambda: made.encode(given), r"times: expected \[2, 3\].*got none"),
        (lambda: made.encode(given, times=TIMES[:, :2]), r"times: expected \[2, 3\].*got \[2, 2\]"),
        (lambda: made.encode(single, times=TIMES), "times: the pixels are single images"),
        (
            lambda: made.encode({m: x[:, :0] for m, x in given.items()}, times=TIMES[:, :0]),
            r"s2l1c_10: series of no image, \[2, 0, 4, 8, 12\]",
        ),
        (lambda: made.encode(short, times=TIMES), "same number of images.*_10 3, s2l1c_20 2"),
        (lambda: made.encode(mixed, times=TIMES), "s2l1c_20 a single image"),
        (lambda: made.encode(cut, times=TIMES[:, :2]), "6x12 px is not a whole number of tokens"),
        (lambda: made.encode(given, times=TIMES, valid=mask), r"valid\['s2l1c_10'\]: expected"),
        (
            lambda: model(time_code_width=None).encode(given, times=TIMES),
            r"series of images \[2, 3, 4, 8, 12\], the model takes single ones",
        ),
        (lambda: model(time_code_width=20), "must be a multiple of 12"),
        (
            lambda: model(basis={"s2l1c": {}}),
            "time_code_width does not go with options.basis",
        ),
        (lambda: model(time_code_width=132), "must be a multiple of 12"),
        (lambda: model(time_code_width=120, group_code_width=8), "below the 120 channels"),
        (
            lambda: model(tokenizer="generator", tokenizer_options={"shift": 1}),
            "does not go with a tokenizer that reads beyond its token",
        ),
    ):
        with pytest.raises(UsageError, match=problem) as error:
            words()
        assert "\n" not in str(error.value)
