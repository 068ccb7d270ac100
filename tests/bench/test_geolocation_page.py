"""The page shows the study, and what it says of the rows holds in them."""

import pytest

from bench.studies import geolocation_page as page
from bench.studies.geolocation import BENCHMARKS, METHODS
from fm.files import read_json
from probes.statistics.places import LADDER_KM, MEDIAN

if not page.FOUND.is_file():
    pytest.skip("results are not copied along (mutants)", allow_module_level=True)
FOUND = read_json(page.FOUND, "study")


def median(benchmark: str, protocol: str, model: str) -> float:
    wanted = (benchmark, protocol, model)
    rows = [r for r in FOUND["rows"] if (r["benchmark"], r["protocol"], r["model"]) == wanted]
    return rows[0]["metrics"][MEDIAN]["value"]


def test_the_page_shows_the_results() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.written(text, FOUND) == text
    for name in page.tables(FOUND):
        assert text.count(f"<!-- {name} -->") == 1


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_no_row_beats_its_ceiling(benchmark: str) -> None:
    ceilings = FOUND["benchmarks"][benchmark]["ceilings"]
    for row in FOUND["rows"]:
        if row["benchmark"] == benchmark and not row["protocol"].startswith("prior"):
            kind = "nearest training image" if "gallery" in row["protocol"] else "best cell"
            for reach in LADDER_KM:
                metric = f"acc@{reach}km"
                assert row["metrics"][metric]["value"] <= ceilings[kind][metric] + 1e-12


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_what_the_page_says_of_the_rows(benchmark: str) -> None:
    """Untrained convolutions are ahead; EfficientNet beats its random weights and the priors."""
    best = min(r["metrics"][MEDIAN]["value"] for r in FOUND["rows"] if r["benchmark"] == benchmark)
    assert median(benchmark, "random-conv", "random-conv") == best
    model = METHODS[1]
    for protocol in ("knn", "ridge", "gallery"):
        nearer = median(benchmark, protocol, model) < median(
            benchmark, protocol, f"{model}-random-init"
        )
        assert nearer == (protocol == "ridge")
    model = METHODS[0]
    for protocol in ("linear", "knn", "ridge", "gallery"):
        own = median(benchmark, protocol, model)
        assert own < median(benchmark, protocol, f"{model}-random-init")
        assert own < median(benchmark, "prior-mean", "prior-mean")
