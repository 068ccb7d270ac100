"""What docs/weights.md says of a location encoder that learned the climate holds in the results."""

from pathlib import Path

import pytest

from bench.machine import ROOT
from bench.studies import climate
from bench.studies.location_page import clipped
from bench.studies.page import RESULTS
from fm.files import read_json
from probes.location.tasks import TASKS

FOUND_IN = RESULTS / "climate.json"
if not FOUND_IN.is_file():
    pytest.skip("results are not copied along (mutants)", allow_module_level=True)
FOUND = read_json(FOUND_IN, "study")
ASKED = [task.name for task in TASKS if task.name not in climate.LEARNED]


def test_the_page_shows_the_results() -> None:
    assert climate.table(FOUND) in (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")


def test_what_was_learned_and_what_follows_from_it_by_definition_is_not_shown() -> None:
    assert set(climate.LEARNED) == {"air-temperature", "precipitation", "koppen"}
    head = climate.table(FOUND).splitlines()[0]
    assert head == "| split | row | " + " | ".join(ASKED) + " |"
    assert not any(name in head for name in climate.LEARNED)


def test_other_settings_train_another_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Path] = []

    def train(folder: Path, cache: Path) -> None:
        folder.mkdir()
        trained.append(cache)

    monkeypatch.setattr(climate, "train", train)
    for changed in ({}, {"STEPS": 7}, {"RATE": 0.5}, {"SIZES": {**climate.SIZES, "L": 3}}):
        for name, value in changed.items():
            monkeypatch.setattr(climate, name, value)
        before = len(trained)
        for _ in range(2):
            assert climate.trained(tmp_path / "encoder", tmp_path) == tmp_path / "encoder"
        assert len(trained) == before + 1


def of(encoder: str, task: str) -> list[float]:
    return clipped(FOUND, encoder, task, "blocks").tolist()


@pytest.mark.parametrize("task", ASKED)
def test_alone_it_is_behind_raw_harmonics_over_blocks(task: str) -> None:
    assert sum(of("climate", task)) < sum(of("sh40", task))


@pytest.mark.parametrize("task", ["elevation", "turbidity", "land-ocean"])
def test_beside_them_it_adds_more_than_an_untrained_one(task: str) -> None:
    rows = [of(name, task) for name in ("sh40, climate", "sh40", "sh40, untrained")]
    assert all(both > max(raw, other) for both, raw, other in zip(*rows, strict=True))
