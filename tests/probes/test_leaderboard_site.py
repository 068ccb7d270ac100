"""The site as files: self-contained, deterministic, safe, whole links, readable colours."""

import base64
import hashlib
import json
import re
from urllib.parse import unquote

import pytest

from fm.errors import FMError
from fm.page.shell import base_style
from probes import leaderboard
from probes.leaderboard import shell
from tests.probes.fixture_results import (
    board_folder,
    fixture_result,
    full_result,
    sample_folder,
    save,
    versus,
)
from tests.probes.site_pages import build, files, pages


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    leaderboard.build(board_folder(folder / "results"), folder / "site")
    return folder / "site"


@pytest.fixture(scope="module")
def parsed(site):
    return pages(site)


def test_a_site_has_a_page_for_each_model_and_benchmark_and_every_download(tmp_path):
    paths = leaderboard.build(sample_folder(tmp_path / "results"), tmp_path / "site")
    assert {kind: path.name for kind, path in paths.items()} == {
        "html": "index.html",
        "csv": "leaderboard.csv",
        "markdown": "leaderboard.md",
        "evaluma": "evaluma.csv",
    }
    made = files(tmp_path / "site")
    assert {name for name in made if name.endswith(".html")} == {
        "index.html",
        "benchmarks/fixture-fields-1.html",
        "benchmarks/fixture-radar-1.html",
        *(f"models/fixture-{name}.html" for name in ("mae", "random", "stats", "cnn")),
    }
    raw = {json.loads(data)["id"]: data for name, data in made.items() if name.startswith("raw/")}
    assert raw == {
        json.loads(path.read_bytes())["id"]: path.read_bytes()
        for path in (tmp_path / "results").iterdir()
    }


def test_same_results_give_the_same_bytes_wherever_and_in_whatever_files(site, tmp_path):
    (tmp_path / "b").mkdir()
    for index, path in enumerate(sorted((site.parent / "results").iterdir(), reverse=True)):
        (tmp_path / "b" / f"{index:02}.json").write_bytes(path.read_bytes())
    leaderboard.build(tmp_path / "b", tmp_path / "two")
    assert files(site) == files(tmp_path / "two")


def test_a_rebuild_takes_away_what_is_no_longer_there_and_nothing_else(tmp_path):
    folder = sample_folder(tmp_path / "results")
    leaderboard.build(folder, tmp_path / "site")
    kept = tmp_path / "site" / "models" / "mine.txt"
    kept.write_text("mine")
    (tmp_path / "site" / "CNAME").write_text("mine")
    for path in folder.glob("fixture-radar*"):
        path.unlink()
    leaderboard.build(folder, tmp_path / "site")
    leaderboard.build(folder, tmp_path / "fresh")
    assert set(files(tmp_path / "site")) == {*files(tmp_path / "fresh"), "CNAME", "models/mine.txt"}
    assert "benchmarks/fixture-radar-1.html" not in files(tmp_path / "site")


@pytest.mark.parametrize("held", ["[]", '{"files": ["../secret.html"]}', '{"files": ["/a"]}'])
def test_a_damaged_list_of_an_earlier_build_removes_nothing(tmp_path, held):
    (tmp_path / "secret.html").write_text("mine")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "site.json").write_text(held)
    with pytest.raises(FMError, match=r"site\.json: not the list of an earlier build"):
        build(tmp_path, fixture_result())
    assert (tmp_path / "secret.html").exists()
    assert not (tmp_path / "site" / "index.html").exists()


def test_the_results_folder_is_no_place_for_the_site(tmp_path):
    folder = save(tmp_path / "results", fixture_result())
    with pytest.raises(FMError, match="holds the results"):
        leaderboard.build(folder, folder)
    assert len(list(folder.iterdir())) == 1


def test_no_page_needs_anything_from_outside(site, parsed):
    for name, page in parsed.items():
        outside = [t for t, _ in page.tags if t in ("link", "img", "iframe", "object", "base")]
        assert not outside, name
        assert page.attributes("src") == []
        text = (site / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert "url(" not in text
        assert "@import" not in text
        assert " style=" not in text
        assert not [
            attribute for _, held in page.tags for attribute in held if attribute[:2] == "on"
        ]


def test_every_link_leads_to_a_file_of_the_site_and_a_place_in_it(site, parsed):
    found = parsed
    ids = {name: page.attributes("id") for name, page in found.items()}
    for name, page in found.items():
        assert len(ids[name]) == len(set(ids[name])), name
        assert set(page.attributes("aria-labelledby")) <= set(ids[name])
        for href in page.attributes("href"):
            path, _, place = unquote(href).partition("#")
            target = (site / name).parent.joinpath(path).resolve() if path else site / name
            assert target.is_relative_to(site), href
            assert target.is_file(), f"{name}: {href}"
            if place:
                assert place in ids[target.relative_to(site).as_posix()], f"{name}: {href}"


def test_every_page_can_be_reached_from_the_front_page(parsed):
    front = {href.partition("#")[0] for href in parsed["index.html"].attributes("href")}
    assert set(parsed) - {"index.html"} <= front


def test_security_policy_holds_the_hashes_of_style_and_script(site, parsed):
    for name in parsed:
        text = (site / name).read_text(encoding="utf-8")
        for tag in ("style", "script"):
            body = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S).group(1)
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert f"{tag}-src &#x27;sha256-{digest}&#x27;" in text
        assert "default-src &#x27;none&#x27;" in text


def test_rows_have_as_many_cells_as_their_table_has_headings(site, parsed):
    for name in parsed:
        text = (site / name).read_text(encoding="utf-8")
        for table in re.findall(r"<table.*?</table>", text, re.S):
            rows = re.findall(r"<tr.*?</tr>", table, re.S)
            assert len({len(re.findall(r"<t[hd][ >]", row)) for row in rows}) == 1, name


def test_sortable_columns_have_a_button_and_one_is_marked_as_sorted(parsed):
    page = parsed["benchmarks/fixture-biomass-1.html"]
    heads = [held for tag, held in page.tags if tag == "th" and held.get("scope") == "col"]
    marked = [head["aria-sort"] for head in heads if "aria-sort" in head]
    assert marked == ["ascending"] * 2  # an error, in two tables
    buttons = sum(tag == "button" for tag, _ in page.tags)
    assert sum("data-first" in head for head in heads) == buttons


EVIL = "<script>alert('x')</script>\"&|`*"


def test_text_of_a_result_is_never_markup(tmp_path):
    result = full_result(id="evil")
    result["model"] |= {"name": EVIL, "architecture": EVIL, "path": EVIL, "card": {EVIL: EVIL}}
    result["command"] = result["created"] = EVIL
    result["overlap"]["statement"] = result["benchmark"]["task"] = EVIL
    result["benchmark"] |= {"name": EVIL, "split": EVIL, "dataset": EVIL, "verified": EVIL}
    result["benchmark"] |= {"classes": [EVIL] * 4, "notes": [EVIL], "manifest_hash": EVIL}
    result["protocol"] |= {"name": EVIL, "settings": {EVIL: {EVIL: [EVIL]}}}
    result["versus"] = [versus(0.1, 0.05, 0.2, name=EVIL)]
    result["metrics"]["oa_" + EVIL] = {"value": 0.5, "low": None, "high": None}
    result["selection"]["grid"][0] = result["selection"]["name"] = EVIL
    for key in ("environment", "axes", "cost", "diagnostics", "contamination"):
        result[key] = {EVIL: EVIL}
    for key in ("robustness", "per_class", "examples"):
        result[key] = [{"name": EVIL, "class": EVIL, EVIL: EVIL, "truth": EVIL}]
    site = build(tmp_path, result, full_result("fixture-cnn"))
    for name, page in pages(site).items():
        assert sum(tag == "script" for tag, _ in page.tags) == 1, name
        assert not [held for _, held in page.tags for key in held if "alert" in key]
    assert EVIL in pages(site)["index.html"].said
    markdown = (site / "leaderboard.md").read_text(encoding="utf-8")
    assert "<script" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 2  # two tables


def _colours(css, dark):
    light = css[: css.index("@media (prefers-color-scheme: dark)")]
    night = css[len(light) : css.index("* { box-sizing")]
    found = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light))
    return found | (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", night)) if dark else {})


def _rgb(colour):
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def _contrast(one, other):
    def light(rgb):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_black_on_white():
    assert _contrast([0, 0, 0], [1, 1, 1]) == pytest.approx(21)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_have_the_contrast_that_wcag_asks_for(dark):
    css = base_style() + shell.source("page.css")
    held = {name: _rgb(colour) for name, colour in _colours(css, dark).items()}
    for ground in ("paper", "stripe", "field"):
        for text in ("ink", "muted", "accent", "second", "good", "bad", "warn"):
            assert _contrast(held[text], held[ground]) >= 4.5, f"{text} on {ground}"
        assert _contrast(held["grey"], held[ground]) >= 3, f"marks and borders on {ground}"
    # places inside a mark of the scatter, numbers on the shades of a table
    for mark in ("accent", "second", "grey"):
        inside = "ink" if mark == "grey" else "paper"
        ground = "paper" if mark == "grey" else mark
        assert _contrast(held[inside], held[ground]) >= 4.5, mark
    shades = [int(share) for share in re.findall(r"--accent\) (\d+)%, var\(--paper\)\)", css)]
    assert len(shades) == 10
    for share in shades:
        mixed = [
            share / 100 * a + (1 - share / 100) * b
            for a, b in zip(held["accent"], held["paper"], strict=True)
        ]
        assert _contrast(held["ink"], mixed) >= 4.5, share
