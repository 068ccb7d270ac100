"""The site in a headless browser: sort, filter, open, keyboard alone, phone, dark, no request."""

import pytest

from probes import leaderboard
from tests.browser import MARKS, Browser, alone
from tests.probes.fixture_results import board_folder, full_result, save

pytestmark = MARKS

COLUMN = """
(table, column) => [...document.getElementById(table).tBodies[0].rows]
  .filter((row) => !row.hidden).map((row) => row.cells[column].dataset.value)
"""
HEADING = "[...document.querySelectorAll('#listing thead button')].find(b => b.textContent == '{}')"
FOCUS = "(document.activeElement.name || document.activeElement.textContent).trim()"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    leaderboard.build(board_folder(folder / "results"), folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def unruly(tmp_path_factory):
    """A site of long names, several axes, warnings and nothing beside them."""
    results = []
    for size in (None, 64, 224):
        for normaliser in ("model", "zscore"):
            result = full_result(id=f"long-{size}-{normaliser}")
            changed = {
                "resize": size,
                "normaliser": normaliser,
                "channels": "sentinel2-l2a:B08,B04",
            }
            result["axes"] |= {**changed, "changed": changed}
            result["model"]["name"] = "a-name-of-a-model-that-" + "goes-on-and-on-" * 4
            result["model"]["path"] = "/home/somebody/" + "folder/" * 20
            result["benchmark"]["name"] = "a_benchmark_of_many_words_" * 3
            result["benchmark"]["notes"] = [f"WARNING: B02 {size} is far from normalised " * 3]
            results.append(result)
    folder = tmp_path_factory.mktemp("unruly")
    leaderboard.build(save(folder / "results", *results), folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(shared, site, unruly):
    with alone(shared, site.as_uri(), unruly.as_uri()):
        yield shared


def _column(browser, table, column):
    return browser.run(f"({COLUMN})({table!r}, {column})")


def test_a_heading_sorts_both_ways_and_unknown_values_stay_last(browser, site):
    browser.open(site / "index.html")
    press = HEADING.format("vs random init") + ".click()"
    for order in ("descending", "ascending"):
        browser.run(press)
        values = _column(browser, "listing", 3)
        known = [float(value) for value in values if value]
        assert values[: len(known)] == [value for value in values if value]
        assert known == sorted(known, reverse=order == "descending")
        assert len(known) == 32
        sorted_by = browser.run("document.querySelector('#listing [aria-sort]').ariaSort")
        assert sorted_by == order
        said = browser.run("document.getElementById('announce').textContent")
        assert said == f"Sorted by vs random init, {order}"
    assert browser.run("document.querySelectorAll('#listing [aria-sort]').length") == 1


def _choose(browser, name, value):
    browser.run(
        f"(() => {{ const f = document.getElementById('filters').elements[{name!r}];"
        f"f.value = {value!r}; f.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )


def _shown(browser):
    heads = browser.run(
        "[...document.querySelectorAll('#grid thead th')].filter(h => !h.hidden)"
        ".slice(1).map(h => h.dataset.benchmark + ' ' + h.dataset.protocol)"
    )
    rows = browser.run(
        "[...document.querySelectorAll('#grid tbody tr')].filter(r => !r.hidden)"
        ".map(r => r.dataset.model)"
    )
    return heads, rows, browser.run("document.getElementById('count').textContent")


def test_filters_keep_rows_and_columns_and_the_address_keeps_the_filters(browser, site):
    browser.open(site / "index.html")
    heads, rows, count = _shown(browser)
    assert (len(heads), len(rows), count) == (8, 9, "60 results")
    _choose(browser, "task", "numbers")
    _choose(browser, "protocol", "knn@1")
    heads, rows, count = _shown(browser)
    assert heads == ["fixture-biomass knn@1"]
    # the supervised model has no kNN; floors have no protocol and stay
    assert "fixture-unet-scratch" not in rows
    assert {"image-statistics", "random-conv"} <= set(rows)
    assert count == "9 of 60 results"
    _choose(browser, "kind", "pretrained")
    assert _shown(browser)[1] == [
        "fixture-location",
        "fixture-mae-base",
        "fixture-mae-small",
        "fixture-moco-rn50",
    ]
    address = browser.run("location.hash")
    browser.open(site / "index.html", address)
    assert _shown(browser)[0] == ["fixture-biomass knn@1"]
    browser.run("document.querySelector('#filters [type=reset]').click()")
    browser.wait("document.getElementById('count').textContent === '60 results'")
    assert browser.run("location.hash") == ""


def test_transductive_scores_can_be_left_out(browser, site):
    browser.open(site / "index.html")
    _choose(browser, "transductive", "no")
    values = browser.run(
        "[...document.querySelectorAll('#listing tbody tr')].filter(r => !r.hidden)"
        ".map(r => r.dataset.transductive)"
    )
    assert set(values) == {"no"}
    hidden = "getComputedStyle(document.querySelector('#grid td[data-transductive=yes] a'))"
    assert browser.run(f"{hidden}.visibility") == "hidden"


def test_a_score_opens_its_details_on_the_page_of_its_model(browser, site):
    browser.open(site / "index.html")
    link = "document.querySelector('#grid tbody tr[data-model=fixture-mae-small] td a')"
    target = browser.run(f"{link}.getAttribute('href')")
    path, _, place = target.partition("#")
    browser.run(f"{link}.click()")
    browser.wait("document.readyState === 'complete' && location.pathname.includes('/models/')")
    assert path.endswith("fixture-mae-small.html")
    browser.wait(f"document.getElementById({place!r})?.open")
    assert browser.run("document.querySelectorAll('details[open]').length") == 1
    assert browser.run("document.querySelector('h1').textContent") == "fixture-mae-small"


def test_the_keyboard_alone_sorts_filters_and_opens_a_model(browser, site):
    browser.open(site / "index.html")
    browser.press("Tab")
    assert browser.run(FOCUS) == "Skip to the content"
    assert browser.run("document.activeElement.getBoundingClientRect().left") >= 0
    browser.press("Enter")
    browser.press("Tab")
    assert browser.run(FOCUS) == "model"  # the first filter
    for letter in "small":
        browser.press(letter)
    assert _shown(browser)[1] == ["fixture-mae-small"]
    seen = []
    for _ in range(30):
        browser.press("Tab")
        seen.append(browser.run(FOCUS))
        outline = browser.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", seen[-1]
        if browser.run("document.activeElement.matches('#grid thead button')"):
            break
    browser.press("Space")
    assert browser.run("document.querySelector('#grid [aria-sort]').ariaSort") == "ascending"
    for _ in range(60):
        browser.press("Tab")
        if browser.run("document.activeElement.matches('#grid tbody th a')"):
            break
    browser.press("Enter")
    browser.wait("document.readyState === 'complete' && location.pathname.includes('/models/')")
    assert browser.run("document.querySelector('h1').textContent") == "fixture-mae-small"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("which", ["site", "unruly"])
def test_pages_fit_a_phone_and_every_control_can_be_hit(browser, which, dark, request):
    browser.size(360, 740, dark=dark)
    folder = request.getfixturevalue(which)
    for path in sorted(folder.rglob("*.html")):
        browser.open(path)
        assert browser.run("document.documentElement.scrollWidth") == 360, path
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(17, 22, 26)" if dark else "rgb(250, 249, 245)")
        small = browser.run(
            "[...document.querySelectorAll('summary, nav a, select, input, .filters button')]"
            ".map(e => e.getBoundingClientRect().height).filter(h => h && h < 24).length"
        )
        assert small == 0, path
        wide = browser.run(
            "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, svg')"
            " && e.getBoundingClientRect().right > 361).map(e => e.outerHTML.slice(0, 80))"
        )
        assert wide == [], path


def test_every_scrolling_region_can_be_reached_and_is_named(browser, site):
    for path in sorted(site.rglob("*.html")):
        browser.open(path)
        unnamed = browser.run(
            "[...document.querySelectorAll('.scroll')]"
            ".filter(e => e.tabIndex !== 0 || !e.ariaLabel).length"
        )
        assert unnamed == 0, path
