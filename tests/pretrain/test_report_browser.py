"""The page of a run in a headless browser: curves, keyboard alone, phone, dark, no request."""

import pytest

from pretrain.report.page import render
from pretrain.report.read import read
from tests.browser import MARKS, Browser, alone
from tests.pretrain.report_run import STEPS, loss_at, write_export, write_pictures, write_run

pytestmark = MARKS

LOSS = "document.querySelector('.plot[aria-label^=\"Loss:\"]')"


@pytest.fixture(scope="module")
def page(tmp_path_factory, tiny_dataset):
    folder = write_run(tmp_path_factory.mktemp("report") / "run", tiny_dataset)
    write_pictures(folder)
    write_export(folder)
    (folder / "report.html").write_text(render(read(folder), samples=2))
    return folder / "report.html"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(shared, page):
    with alone(shared, page.as_uri(), "data:image/png;base64,"):
        shared.open(page)
        yield shared


def test_curves_have_a_width_a_height_and_a_colour(browser):
    drawn = browser.run(
        "[...document.querySelectorAll('.plot')].map(p => { const l = p.querySelector('.line');"
        "const b = l.getBoundingClientRect(), s = getComputedStyle(l);"
        "return [p.ariaLabel, b.width, b.height, s.stroke, s.fill]; })"
    )
    assert len(drawn) > 10
    for label, width, height, stroke, fill in drawn:
        assert width > 50, label
        assert fill == "none", label
        assert stroke.startswith("rgb("), label
        assert height <= 301, label
    (loss,) = [one for one in drawn if one[0].startswith("Loss:")]
    assert loss[2] > 150
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert browser.run("document.images.length") > 20
    assert browser.run(broken) == 0


def test_the_keyboard_alone_reads_a_curve_and_opens_the_config(browser):
    browser.press("Tab")
    assert browser.run("document.activeElement.textContent") == "Skip to the content"
    browser.press("Enter")
    browser.press("Tab")
    assert browser.run(f"document.activeElement === {LOSS}")
    assert browser.run(f"getComputedStyle({LOSS}).outlineStyle") != "none"
    browser.press("Home")
    assert browser.run(f"{LOSS}.ariaValueText") == f"step 1: {loss_at(1):g}"
    browser.press("ArrowRight", 4)
    assert browser.run(f"{LOSS}.ariaValueText") == f"step 5: {loss_at(5):g}"
    assert browser.run(f"{LOSS}.ariaValueNow") == "5"
    # the others over the steps have moved too, those over wavelengths have not
    said = "document.querySelector('.plot[aria-label^=\"{}\"]').ariaValueText"
    assert browser.run(said.format("Gradient norm")) == "step 5: 1"
    assert browser.run(said.format("Waiting for data")) == "step 5: 25 %"
    assert not browser.run(said.format("s2l1c: hidden")).startswith("step")
    browser.press("End")
    assert browser.run(f"{LOSS}.ariaValueNow") == str(STEPS)
    for _ in range(60):
        browser.press("Tab")
        if browser.run("document.activeElement.textContent === 'Resolved config'"):
            break
        assert browser.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    browser.press("Enter")
    shown = "document.querySelector('#config ~ details pre').getBoundingClientRect().height"
    assert browser.run(shown) > 100


def test_the_pointer_reads_a_curve(browser):
    place = browser.run(
        f"(() => {{ {LOSS}.scrollIntoView({{behavior: 'instant', block: 'center'}});"
        f"const b = {LOSS}.getBoundingClientRect();"
        "return [b.left + b.width / 2, b.top + 20]; })()"
    )
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    browser.wait(f"{LOSS}.ariaValueNow === '60'")
    line = f"{LOSS}.querySelector('.cursor')"
    assert browser.run(f"{line}.getAttribute('x1')") == "50%"
    readout = f"{LOSS}.closest('figure').querySelector('.readout').textContent"
    assert browser.run(readout) == f"step 60: {loss_at(60):g}"


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_fits_a_phone_and_every_control_can_be_hit(browser, page, dark):
    browser.size(360, 740, dark=dark)
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.run("document.documentElement.scrollWidth") == 360
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(17, 22, 26)" if dark else "rgb(250, 249, 245)")
    small = browser.run(
        "[...document.querySelectorAll('summary, nav a, .plot')]"
        ".map(e => e.getBoundingClientRect().height).filter(h => h && h < 24).length"
    )
    assert small == 0
    wide = browser.run(
        "[...document.querySelectorAll('main *')]"
        ".filter(e => !e.closest('.scroll, .wide, pre, svg')"
        " && e.getBoundingClientRect().right > 361).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    unnamed = browser.run(
        "[...document.querySelectorAll('.scroll, .wide')]"
        ".filter(e => e.tabIndex !== 0 || !e.ariaLabel).length"
    )
    assert unnamed == 0
