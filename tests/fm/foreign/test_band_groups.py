"""Presto and Galileo: values, places and months that are not known, and what does not fit."""

import pytest
import torch

from fm import foreign
from fm.errors import UsageError
from tests.fm.foreign.band_groups import GALILEO_OF_4, HEADS, LONLAT, PRESTO, Small
from tests.fm.foreign.states import identity

both = pytest.mark.parametrize("small", [PRESTO, GALILEO_OF_4], ids=lambda small: small.kind)


@both
def test_invalid_values_take_their_token_away_and_no_other(small: Small) -> None:
    x, times = small.series(), small.times
    ours, _ = small.load(small.state())
    last = {m: values[:, :-1] for m, values in x.items()}
    valid = {m: torch.ones(2, small.images, *v.shape[-2:], dtype=torch.bool) for m, v in x.items()}
    for modality in valid:
        valid[modality][:, -1] = False
        x[modality] = torch.where(valid[modality][:, :, None], x[modality], torch.nan)
    with torch.no_grad():
        found = ours.encode(x, times=times, lonlat=LONLAT, valid=valid)
        short = ours.encode(last, times=times[:, :-1], lonlat=LONLAT)
    torch.testing.assert_close(found.tokens, short.tokens, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, short.pooled, rtol=1e-5, atol=1e-5)
    assert found.mask is not None
    assert found.mask.all()


@both
def test_unknown_places_have_no_token_and_unknown_months_no_code(small: Small) -> None:
    ours, _ = small.load(small.state())
    x, times, some = small.series(), small.times, LONLAT.clone()
    some[1] = float("nan")
    with torch.no_grad():
        known = ours.encode(x, times=times, lonlat=LONLAT).pooled
        half = ours.encode(x, times=times, lonlat=some).pooled
        none = ours.encode(x, times=times).pooled
        timeless = ours.encode(x, times=torch.full_like(times, float("nan"))).pooled
    torch.testing.assert_close(half[0], known[0])
    torch.testing.assert_close(half[1], none[1])
    assert not torch.allclose(known, none, atol=1e-3)
    assert not torch.allclose(timeless, none, atol=1e-3)


@both
def test_a_group_with_a_part_of_its_bands_is_refused(small: Small) -> None:
    part = {"s2l1c_10": small.bands["s2l1c_10"][:2]}
    name = small.kind.capitalize()
    with pytest.raises(UsageError, match=rf"{name}'s S2_RGB is B02, B03, B04; B04 is missing"):
        foreign.load(small.state(), bands=part, normalisation=identity(part), heads=HEADS)


@both
def test_longer_series_than_there_are_codes_for_are_refused(small: Small) -> None:
    ours, _ = small.load(small.state())
    x = {m: torch.cat([values] * 3, dim=1) for m, values in small.series().items()}
    count = 3 * small.images
    with pytest.raises(UsageError, match=f"series of {count} images, the model knows 6 at most"):
        ours.encode(x, times=torch.cat([small.times] * 3, dim=1))


@both
def test_a_series_beyond_the_stored_places_is_refused(small: Small) -> None:
    ours, _ = small.load(small.state())
    count = ours.longest + 1
    x = {m: v[:, :1].expand(-1, count, *v.shape[2:]) for m, v in small.series().items()}
    times = small.times[:, :1].expand(-1, count)
    said = f"series of {count} images, the model knows {ours.longest} at most"
    with pytest.raises(UsageError, match=said):
        ours.encode(x, times=times, lonlat=LONLAT)
