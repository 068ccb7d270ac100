from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fm
from fm.errors import UsageError
from fm.geo import block_bounds, block_id, blocks_bounds, great_circle_m
from probes.benchmarks import get_benchmark
from probes.checks import contamination as c
from probes.judging.evaluation import evaluate_many
from probes.result import Result

KM = 10.0


def _card(parent=None, **data):
    return SimpleNamespace(card=SimpleNamespace(data=data, parent=parent))


def _around(data, offset_deg=0.0, months=("2017-06",), **more):
    """A card whose images lie in the cells of the test samples, moved east."""
    lonlat = c.places(data, data.of("test")) + np.array([offset_deg, 0])
    cells = np.unique(block_id(lonlat, KM)).tolist()
    return _card(manifest_hash="f" * 64, cell_km=KM, cells=cells, months=list(months), **more)


@pytest.fixture(scope="module")
def data(pairs):
    return get_benchmark("bigearthnet-s2").load(pairs)


@pytest.mark.parametrize("km", [1.0, 10.0, 700.0])
def test_bounds_enclose_the_distance_to_every_point_of_a_cell(km):
    rng = np.random.default_rng(0)
    places = np.stack(
        [rng.uniform(-180, 180, 40), np.degrees(np.arcsin(rng.uniform(-1, 1, 40)))], 1
    )
    places[:4] = [[179.99, 10], [-179.99, -60], [30, 89.97], [10, -89.5]]
    near = places + rng.normal(0, km / 60, places.shape)
    near[:, 1] = np.clip(near[:, 1], -90, 90)
    seen = np.unique(block_id(near, km))
    cells = blocks_bounds(seen, km)
    low, high = c.bounds(places, cells, 3 * km)
    assert (low <= high).all()
    # points all over the cells, their corners and borders too
    share = np.linspace(0, 1, 9)
    grid = np.stack(np.meshgrid(share, share), -1).reshape(-1, 1, 2)
    points = cells[:, :2] + grid * (cells[:, 2:] - cells[:, :2])
    points[..., 0] = (points[..., 0] + 180) % 360 - 180
    all_km = great_circle_m(places[:, None, None], points[None]) / 1000  # [n, points, cells]
    reached = np.isfinite(low)
    assert reached.sum() > 20
    assert (low[:, None, None] <= all_km + 1e-6)[reached].all()
    assert (all_km.min((1, 2))[~reached] > 3 * km).all()
    # the nearest cell's bounds are sharp: some point is as near, some corner as far
    assert (low >= all_km.min((1, 2)) * 0.98 - 0.2 * km)[reached].all()
    narrow = (cells[:, 2] - cells[:, 0] < 90).all()
    if narrow:
        worst = all_km.max(1).min(1)
        np.testing.assert_allclose(high[reached], worst[reached] * (1 + c.SPHERE), rtol=1e-9)


def test_bounds_of_many_blocks_are_those_of_each():
    blocks = np.array([0, 3, 500, 20000])
    want = [block_bounds(int(b), 100.0) for b in blocks]
    np.testing.assert_allclose(blocks_bounds(blocks, 100.0), want)


def test_samples_within_a_distance_are_counted(data):
    """The test samples lie 0.01 degrees (0.74 km) apart in one row."""
    n = len(data.of("test"))
    here = c.describe(_around(data), data)
    assert [row["km"] for row in here["counts"]] == [0.0, 10.0, 100.0]
    assert [row["near"] for row in here["counts"]] == [n, n, n]
    assert here["counts"][0]["certain"] == 0  # in the cell, but the image may be 14 km away
    assert here["counts"][2]["certain"] == n
    assert here["known"]
    assert here["statement"].startswith(f"{n} of {n} test samples may lie within 10 km")
    assert "cells of 10 km" in here["statement"]
    # 74 km further east: none within 10 km, all within 100 km
    apart = c.describe(_around(data, 1.0), data)
    assert [row["near"] for row in apart["counts"]] == [0, 0, n]
    cut = c.describe(_around(data, 1.0), data, c.Rule(60.0))
    edge = c.bounds(c.places(data, data.of("test")), c.seen(_around(data, 1.0)).parts[0][0], 60.0)[
        0
    ]
    assert cut["counts"][-1]["near"] == int((edge <= 60).sum())


def test_a_time_window_clears_only_what_is_known_to_be_far(data):
    n = len(data.of("test"))
    samples = "2017-06"
    same = c.describe(_around(data, months=[samples]), data, c.Rule(10, 5))
    assert same["counts"][-1] == {"km": 10, "days": 5, "near": n, "certain": 0}
    # 13 June to 1 August: 49 days and a part
    later = _around(data, months=["2017-08"])
    assert c.describe(later, data, c.Rule(10, 48))["counts"][-1]["near"] == 0
    assert c.describe(later, data, c.Rule(10, 49))["counts"][-1]["near"] == n
    undated = _around(data, months=[])
    assert c.describe(undated, data, c.Rule(10, 5))["counts"][-1]["near"] == n


def test_unknown_is_said_and_never_zero(data, blocks):
    for model in (
        SimpleNamespace(card=None),
        _card(),
        _card(manifest_hash="f" * 64, name="elsewhere"),
        _card(manifest_hash="f" * 64, cell_km=KM, cells=[]),
    ):
        found = c.describe(model, data)
        assert found["statement"].startswith("unknown")
        assert not found["known"]
        assert all(row["near"] is None for row in found["counts"])
        with pytest.raises(UsageError, match="unknown"):
            c.exclude(model, data, c.Rule(10))
    # a benchmark without places
    scene = get_benchmark("indian-pines").load(blocks)
    found = c.describe(_around(data), scene)
    assert found["counts"][0]["near"] is None
    assert "have no place" in found["statement"]
    with pytest.raises(UsageError, match="tells no places"):
        c.exclude(_around(data), scene, c.Rule(10))


def test_what_a_card_says_in_part_is_at_least(data):
    n = len(data.of("test"))
    whole = dict(_around(data).card.data)
    for model in (
        _card(parts={"a": whole, "b": {"manifest_hash": "e" * 64}}),
        _around(data, samples=50, located=40),
        _card(parent="another checkpoint", **whole),
    ):
        found = c.describe(model, data)
        assert found["counts"][0]["near"] == n
        assert not found["known"]
        assert found["statement"].startswith(f"at least {n} of {n}")
    both = c.describe(_card(parts={"a": whole, "b": dict(_around(data, 1.0).card.data)}), data)
    assert both["known"]


def test_near_samples_leave_the_score(data):
    test = data.of("test")
    lonlat = c.places(data, test)
    half = np.median(lonlat[:, 0])
    west = blocks_bounds(np.unique(block_id(lonlat[lonlat[:, 0] < half], 1.0)), 1.0)
    model = _card(
        manifest_hash="f" * 64,
        cell_km=1.0,
        cells=np.unique(block_id(lonlat[lonlat[:, 0] < half], 1.0)).tolist(),
    )
    kept, count = c.exclude(model, data, c.Rule(0.0))
    low, _ = c.bounds(lonlat, west, 0.0)
    gone = low <= 0
    assert 0 < count == gone.sum() < len(test)
    np.testing.assert_array_equal(kept.of("test"), test[~gone])
    np.testing.assert_array_equal(kept.of("train"), data.of("train"))
    assert (data.split[test] == "test").all()
    with pytest.raises(UsageError, match="nothing is left"):
        c.exclude(_around(data), data, c.Rule(100))


def test_rules_are_read():
    assert c.Rule.parse("10") == c.Rule(10)
    assert c.Rule.parse("2.5,30") == c.Rule(2.5, 30)
    assert str(c.Rule(10, 30)) == "10 km and 30 days"
    for text in ("", "x", "1,2,3", "-1", "inf", "1,"):
        with pytest.raises(UsageError, match="KM or KM,DAYS"):
            c.Rule.parse(text)


def test_the_floors_are_scored_on_what_is_left(pairs, data):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = fm.create_model(
            "vit_nano", bands=fm.sensor("sentinel2-l2a").modalities, token_m=120, depth=1
        )
    test = data.of("test")
    lonlat = c.places(data, test)
    cells = np.unique(block_id(lonlat[lonlat[:, 0] < np.median(lonlat[:, 0])], 1.0)).tolist()
    card = {"manifest_hash": "f" * 64, "cell_km": 1.0, "cells": cells}
    model.card = SimpleNamespace(name="near", weights_sha256="0", data=card, parent=None)
    rows = evaluate_many(model, "bigearthnet-s2", ["knn"], data=pairs, exclude_near="0")
    gone = rows[0].contamination["excluded"]["samples"]
    assert 0 < gone < len(test)
    assert {row.benchmark["n_test"] for row in rows} == {len(test) - gone}
    assert all(f"{gone} test samples within 0 km" in row.benchmark["split"] for row in rows)
    assert len(rows[0].versus) == len(rows) - 1 == 5
    assert rows[0].contamination["counts"][0]["near"] == gone
    assert rows[-1].contamination["excluded"] == rows[0].contamination["excluded"]
    left = rows[0].benchmark["split_lists"]["test"]["sha256"][:6]
    assert all(f"--without-0km-{left}--s0" in row.id for row in rows)
    assert Result.from_dict(rows[0].to_dict()).id == rows[0].id
    plain = evaluate_many(model, "bigearthnet-s2", ["knn"], data=pairs, with_floors=False)[0]
    assert plain.id == rows[0].id.replace(f"--without-0km-{left}", "")
    assert plain.benchmark["n_test"] == len(test)
    assert plain.contamination["excluded"] is None
    with pytest.raises(UsageError, match="name a model"):
        evaluate_many(None, "bigearthnet-s2", ["raw-pixel"], data=pairs, exclude_near="1")
