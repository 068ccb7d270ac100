"""The two findings about location encoders hold in the results that the page shows."""

import pytest

from bench.studies import location_page as page
from fm.files import read_json
from probes.location.names import TEN
from probes.location.splits import NAMES
from probes.location.tasks import TASKS

if not page.FOUND.is_file():
    pytest.skip("results are not copied along (mutants)", allow_module_level=True)
FOUND = read_json(page.FOUND, "study")


def test_the_page_shows_the_results() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.written(text, FOUND) == text
    for name in page.tables(FOUND):
        assert text.count(f"<!-- {name} -->") == 1


def test_ridge_is_in_every_cell() -> None:
    keys = {(r["encoder"], r["task"], r["split"]) for r in FOUND["ridge"]}
    assert keys == {(e, t.name, s) for e in TEN for t in TASKS for s in NAMES}
    assert FOUND["seeds"] == [0, 1, 2]
    assert FOUND["cells"] == 10 * 10 * 3 * 3
    assert all(len(values) == 3 for r in FOUND["ridge"] for values in r["metrics"].values())


@pytest.mark.parametrize("task", page.PHYSICAL)
def test_raw_harmonics_beat_geoclip_on_random_splits(task: str) -> None:
    for metric in ("r2", "r2_clipped"):
        raw, learned = (page.mean(FOUND, e, task, "random", metric) for e in ("sh40", "geoclip"))
        assert raw > learned
    raw, learned = (
        page.cell(FOUND, e, task, "random")["metrics"]["r2_clipped"] for e in ("sh40", "geoclip")
    )
    assert all(one > other for one, other in zip(raw, learned, strict=True))


@pytest.mark.parametrize("metric", ["r2", "r2_clipped"])
@pytest.mark.parametrize("task", page.PHYSICAL)
def test_raw_harmonics_collapse_on_unseen_continents(task: str, metric: str) -> None:
    assert page.mean(FOUND, "sh40", task, "random", metric) > 0.5
    after = page.cell(FOUND, "sh40", task, "continents")["metrics"][metric]
    assert max(after) < 0.1
    assert sum(after) < 0
    learned = page.mean(FOUND, "geoclip", task, "continents", metric)
    assert learned > sum(after) / 3
    assert learned > page.mean(FOUND, "geoclip-untrained", task, "continents", metric)


RETRIEVED = read_json(page.RETRIEVED, "study")
KNOWN = (*page.PHYSICAL, "koppen")


def gain(first: str, second: str, task: str, split: str) -> list[float]:
    parts = [page.clipped(RETRIEVED, name, task, split) for name in (first, second)]
    return (parts[0] - parts[1]).tolist()


def test_the_page_shows_retrieval() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(text, {"retrieval": page.retrieval(RETRIEVED)}) == text
    assert text.count("<!-- retrieval -->") == 1


@pytest.mark.parametrize("task", KNOWN)
def test_pictures_know_something_of_climates_and_relief_over_blocks(task: str) -> None:
    gains = gain("satclip, range", "satclip, range, shuffled", task, "blocks")
    assert min(gains) > 0
    assert max(gain("satclip, range", "satclip", task, "blocks")) > sum(gains) / 3
    beside = gain("sh40, range-plus", "sh40, range-plus, shuffled", task, "blocks")
    assert min(beside) > 0
    assert sum(beside) / 3 < 0.02


def test_retrieval_does_not_make_it_better_than_raw_harmonics_at_random() -> None:
    for task in TASKS:
        assert max(gain("satclip, range-plus", "sh40", task.name, "random")) < 0
    for task in ("country", "time-zone"):
        lost = gain("sh40, range-plus", "sh40, range-plus, shuffled", task, "blocks")
        assert sum(lost) < 0
