"""The study of geolocation goes on where it was ended."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.studies import geolocation


def test_ways_that_were_answered_are_not_answered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    ends_before = {"name": "ridge"}

    def answered(model: Any, benchmark: str, protocols: list[str], **_: Any) -> list[Any]:
        if protocols == [ends_before["name"]]:
            raise KeyboardInterrupt
        asked.extend(protocols)
        about = {"name": model, "kind": "pretrained"}
        metrics = {"km_median": {"value": 1.0}}
        return [
            SimpleNamespace(
                protocol={"name": protocols[0]}, model=about, metrics=metrics, selection=None
            )
        ]

    monkeypatch.setattr(geolocation, "evaluate_many", answered)
    monkeypatch.setattr(geolocation, "opened", lambda *_, **__: None)
    monkeypatch.setattr(geolocation.backbones, "load", lambda name, **_: name)
    (tmp_path / "dataset.json").write_text("{}")
    job = (tmp_path / "work", tmp_path, "geolocation-random", tmp_path)
    first = (*job, ("efficientnet-lite0",), 0)
    with pytest.raises(KeyboardInterrupt):
        geolocation.judged(*first)
    ends_before["name"] = ""
    parts = geolocation.judged(*first)
    assert asked == list(geolocation.PROTOCOLS)
    assert [part.again for part in parts] == [True, True, False, False]
    assert [part.value[0]["protocol"] for part in parts] == list(geolocation.PROTOCOLS)
    assert [part.again for part in geolocation.judged(*first)] == [True] * 4
    both = geolocation.judged(*job, geolocation.METHODS, 0)
    assert [part.again for part in both] == [True] * 4 + [False] * 3
    assert [part.value[0]["protocol"] for part in both[4:]] == ["knn", "ridge", "gallery"]


def test_floors_are_judged_once_for_all_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[Any] = []

    def answered(*_: Any, session: Any, **__: Any) -> list[Any]:
        sessions.append(session)
        return []

    monkeypatch.setattr(geolocation, "evaluate_many", answered)
    monkeypatch.setattr(geolocation, "opened", lambda *_, **__: object())
    monkeypatch.setattr(geolocation.backbones, "load", lambda name, **_: name)
    (tmp_path / "dataset.json").write_text("{}")
    asked = (tmp_path / "work", tmp_path, "geolocation-random", tmp_path)
    geolocation.judged(*asked, geolocation.METHODS, 0)
    assert len(sessions) == 7
    assert all(session is sessions[0] for session in sessions)
