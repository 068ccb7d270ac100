"""What docs/weights.md says of a location encoder that learned the climate holds in the results."""

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


def of(encoder: str, task: str) -> list[float]:
    return clipped(FOUND, encoder, task, "blocks").tolist()


@pytest.mark.parametrize("task", ASKED)
def test_alone_it_is_behind_raw_harmonics_over_blocks(task: str) -> None:
    assert sum(of("climate", task)) < sum(of("sh40", task))


@pytest.mark.parametrize("task", ["koppen", "elevation", "turbidity", "land-ocean"])
def test_beside_them_it_adds_more_than_an_untrained_one(task: str) -> None:
    rows = [of(name, task) for name in ("sh40, climate", "sh40", "sh40, untrained")]
    assert all(both > max(raw, other) for both, raw, other in zip(*rows, strict=True))
