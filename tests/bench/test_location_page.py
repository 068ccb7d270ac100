"""The two findings about location encoders hold in the results that the page shows."""

from collections.abc import Sequence

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


SAID = {
    ("blocks", "satclip, range"): (*KNOWN, "country", "time-zone"),
    ("blocks", "satclip, range-plus"): (
        *("air-temperature", "precipitation", "elevation", "country"),
        "-land-ocean",
    ),
    ("random", "satclip, range"): (*KNOWN, "checkerboard", "-time-zone"),
    ("random", "satclip, range-plus"): (*KNOWN, "-population"),
    ("blocks", "sh40, range-plus"): (*KNOWN, "checkerboard", "-time-zone"),
    ("random", "sh40, range-plus"): ("precipitation", "-country", "-time-zone"),
}
"""What the page says that pictures know beyond the kernel, by split and row; - is a loss."""


def bold(split: str, row: str) -> dict[str, float]:
    """Means that have one sign in all seeds, of a row less its shuffled one, by task."""
    found = {}
    for task in TASKS:
        gains = gain(row, f"{row}, shuffled", task.name, split)
        if min(gains) > 0 or max(gains) < 0:
            found[task.name] = sum(gains) / len(gains)
    return found


@pytest.mark.parametrize(("split", "row"), SAID)
def test_the_page_says_all_that_is_of_one_sign_and_nothing_else(split: str, row: str) -> None:
    found = bold(split, row)
    assert {f"{'-' if mean < 0 else ''}{task}" for task, mean in found.items()} == set(
        SAID[split, row]
    )


def test_the_figures_of_retrieval_are_the_tables() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    said = " ".join(text.partition("- **Retrieval helps")[2].partition("<!-- retr")[0].split())
    own = {key: bold(*key) for key in SAID}

    def span(split: str, row: str, tasks: Sequence[str]) -> str:
        means = [own[split, row][task] for task in tasks]
        return f"{min(means):.3f} to {max(means):.3f}"

    blocks, plus = own["blocks", "satclip, range"], own["blocks", "satclip, range-plus"]
    first, second = own["random", "satclip, range"], own["random", "satclip, range-plus"]
    beside, at_random = own["blocks", "sh40, range-plus"], own["random", "sh40, range-plus"]

    def loose(row: str, task: str) -> str:
        gains = gain(row, f"{row}, shuffled", task, "blocks")
        assert min(gains) <= 0 <= max(gains)
        return f"{sum(gains) / len(gains):+.3f}"

    some = ("air-temperature", "precipitation", "elevation")
    for sentence in (
        f"Over blocks, `range`: {span('blocks', 'satclip, range', KNOWN)} for temperature, "
        "precipitation, climates, elevation and turbidity, "
        f"{blocks['country']:.3f} for countries, {blocks['time-zone']:.3f} for time zones.",
        f"`range-plus`: {span('blocks', 'satclip, range-plus', some)} for temperature, "
        f"precipitation and elevation, {plus['country']:.3f} for countries, "
        f"{plus['land-ocean']:.3f} for land or ocean; "
        f"its {loose('satclip, range-plus', 'koppen')} for climates and "
        f"{loose('satclip, range-plus', 'turbidity')} for turbidity have not one sign.",
        f"At random, `range`: {span('random', 'satclip, range', KNOWN)} for the first five, "
        f"{first['checkerboard']:.3f} for the checkerboard, {first['time-zone']:.3f} for time "
        f"zones; `range-plus`: {span('random', 'satclip, range-plus', KNOWN)} for the five, "
        f"{second['population']:.3f} for population.",
        f"worth {span('blocks', 'sh40, range-plus', KNOWN)} over blocks** for the same five and "
        f"{beside['checkerboard']:.3f} for the checkerboard, and costs "
        f"{-beside['time-zone']:.3f} for time zones; {loose('sh40, range-plus', 'country')} for "
        f"countries has not one sign. At random it is worth {at_random['precipitation']:.3f} for "
        f"precipitation and costs {-at_random['country']:.3f} for countries and "
        f"{-at_random['time-zone']:.3f} for time zones.",
    ):
        assert sentence in said


@pytest.mark.parametrize("task", KNOWN)
def test_most_of_what_range_plus_gives_is_the_kernel(task: str) -> None:
    row = "satclip, range-plus"
    assert sum(gain(f"{row}, shuffled", "satclip", task, "blocks")) > 0.5 * sum(
        gain(row, "satclip", task, "blocks")
    )


def test_retrieval_does_not_make_it_better_than_raw_harmonics_at_random() -> None:
    for task in TASKS:
        assert max(gain("satclip, range-plus", "sh40", task.name, "random")) < 0
