import json

import fm
from fm.card import Card
from probes.checks.carded import told


def _card(data):
    sensor = fm.sensor("sentinel2-l1c")
    return Card(
        name="fixture",
        architecture={"name": "vit_tiny"},
        bands={"s2": sensor.bands[:2]},
        normalisation={},
        scaling={},
        objective={"name": "mae"},
        data=data,
        training={"steps": 10},
        licence="fixture-licence",
        parent="fixture-parent",
    )


def test_a_card_is_told_without_the_places_it_saw():
    seen = {"name": "fixture-data", "samples": 3, "cells": [1, 2], "months": ["2020-01"]}
    one = told(_card(seen))["card"]
    assert one["data"] == {"name": "fixture-data", "samples": 3}
    assert one["bands"] == {"s2": [band.name for band in fm.sensor("sentinel2-l1c").bands[:2]]}
    assert (one["licence"], one["parent"]) == ("fixture-licence", "fixture-parent")
    parts = told(_card({"parts": {"a": seen, "b": {"name": "other"}}}))["card"]["data"]["parts"]
    assert parts == {"a": {"name": "fixture-data", "samples": 3}, "b": {"name": "other"}}
    assert json.loads(json.dumps(one)) == one


def test_a_model_without_a_card_has_nothing_to_tell():
    assert told(None) == {}
