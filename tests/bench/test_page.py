"""The page of the studies says what their committed results say."""

from bench.studies import page


def test_the_committed_page_is_what_the_committed_results_say():
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.render(text) == text


def test_every_result_has_its_place_on_the_page():
    text = page.PAGE.read_text(encoding="utf-8")
    results = [path.stem for path in page.RESULTS.glob("*.json")]
    assert "learns" in results
    others = {"climate", "geolocation", "location", "retrieval"}  # on pages of their own
    for name in set(results) - others:
        assert name in page.TABLES
        assert f"<!-- {name} -->" in text
        assert f"<!-- /{name} -->" in text
