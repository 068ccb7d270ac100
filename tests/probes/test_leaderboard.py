"""The leaderboard: honest verdicts, deterministic and self-contained pages."""

import base64
import csv
import hashlib
import io
import re
from html.parser import HTMLParser

import pytest

from probes import leaderboard
from probes.leaderboard import metrics, plot, records, table
from tests.probes.fixture_results import (
    KINDS,
    SCORES,
    fixture_result,
    sample_folder,
    save,
    versus,
)


class Page(HTMLParser):
    """Collects tags, checks that they nest, and gathers text."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.stack, self.text = [], [], []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("style", "script"):
            self.text.append(data)

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.tags if name in attrs]


def build_page(tmp_path, *results):
    paths = leaderboard.build(save(tmp_path / "results", *results), tmp_path / "board")
    return paths["html"].read_text(encoding="utf-8")


def test_build_writes_three_files_and_nothing_else(tmp_path):
    paths = leaderboard.build(sample_folder(tmp_path / "results"), tmp_path / "board")
    assert {kind: path.name for kind, path in paths.items()} == {
        "html": "index.html",
        "csv": "leaderboard.csv",
        "markdown": "leaderboard.md",
    }
    assert sorted(p.name for p in (tmp_path / "board").iterdir()) == sorted(
        path.name for path in paths.values()
    )


def test_same_results_give_the_same_bytes_wherever_and_in_whatever_files(tmp_path):
    first = leaderboard.build(sample_folder(tmp_path / "a"), tmp_path / "one")
    (tmp_path / "b").mkdir()
    for index, path in enumerate(sorted((tmp_path / "a").iterdir(), reverse=True)):
        (tmp_path / "b" / f"{index:02}.json").write_bytes(path.read_bytes())
    second = leaderboard.build(tmp_path / "b", tmp_path / "two")
    for kind in first:
        assert first[kind].read_bytes() == second[kind].read_bytes()


def test_page_needs_nothing_from_outside(tmp_path):
    text = build_page(tmp_path, fixture_result())
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in ("link", "img", "iframe", "object", "base")]
    assert page.attributes("src") == []
    assert all(target.startswith("#") for target in page.attributes("href"))
    without_namespace = text.replace("http://www.w3.org/2000/svg", "")
    assert "://" not in without_namespace
    assert "url(" not in text
    assert "@import" not in text


def test_every_fragment_link_has_its_target_and_ids_are_unique(tmp_path):
    paths = leaderboard.build(sample_folder(tmp_path / "results"), tmp_path / "board")
    page = Page(paths["html"].read_text(encoding="utf-8"))
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in page.attributes("href")} <= set(ids)
    assert set(page.attributes("aria-labelledby")) <= set(ids)


def test_tables_mark_their_headings_and_the_sorted_column(tmp_path):
    page = Page(build_page(tmp_path, fixture_result(), fixture_result("fixture-random")))
    heads = [attrs for tag, attrs in page.tags if tag == "th" and attrs.get("scope") == "col"]
    assert [h["aria-sort"] for h in heads if "aria-sort" in h] == ["descending"]
    assert sum("data-first" in h for h in heads) == sum(tag == "button" for tag, _ in page.tags)
    assert any(tag == "th" and attrs.get("scope") == "row" for tag, attrs in page.tags)


def test_text_of_a_result_is_never_markup(tmp_path):
    evil = "<script>alert('x')</script>\"&|`*"
    result = fixture_result()
    result["model"]["name"] = result["id"] = evil
    result["id"] = "evil"
    result["command"] = result["model"]["architecture"] = result["model"]["path"] = evil
    result["overlap"]["statement"] = result["benchmark"]["task"] = evil
    result["benchmark"]["name"] = result["protocol"]["name"] = evil
    result["benchmark"]["classes"] = [evil] * 4
    result["protocol"]["settings"] = {evil: {evil: [evil]}}
    result["environment"] = {evil: evil}
    result["versus"][0]["name"] = evil
    result["metrics"]["oa_" + evil] = {"value": 0.5, "low": None, "high": None}
    result["selection"]["grid"][0] = evil
    folder = save(tmp_path / "results", result)
    paths = leaderboard.build(folder, tmp_path / "board")
    page = Page(paths["html"].read_text(encoding="utf-8"))
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert evil in page.text
    markdown = paths["markdown"].read_text(encoding="utf-8")
    assert "<script" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_security_policy_holds_the_hashes_of_style_and_script(tmp_path):
    text = build_page(tmp_path, fixture_result())
    for tag in ("style", "script"):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.S).group(1)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in text
    assert "style=" not in text


@pytest.mark.parametrize(
    ("against", "metric", "outcome", "words"),
    [
        ((0.052, 0.011, 0.094), "oa", "beat", "beat the random-initialised backbone by +0.052"),
        ((0.052, 0.0, 0.094), "oa", "even", "+0.052 [0.000, +0.094] OA; the interval includes 0"),
        ((-0.01, -0.05, 0.02), "oa", "even", "did not beat"),
        ((-0.06, -0.1, -0.02), "oa", "worse", "was worse"),
        ((-0.06, -0.1, -0.02), "rmse", "beat", "−0.060 [−0.100, −0.020] RMSE (lower is better)"),
        ((0.06, 0.02, 0.1), "rmse", "worse", "was worse"),
        ((0.06, None, None), "oa", "unknown", "without an interval"),
    ],
)
def test_verdict_says_what_the_interval_says(tmp_path, against, metric, outcome, words):
    result = fixture_result(primary=metric)
    result["metrics"]["rmse"] = {"value": 0.4, "low": 0.3, "high": 0.5}
    result["versus"] = [versus(*against, metric=metric)]
    path = save(tmp_path, result)
    (group,) = table.groups(records.load(path))
    assert group.rows[0].verdict.outcome == outcome
    assert words in group.rows[0].verdict.text
    assert words in " ".join(Page(build_page(tmp_path / "page", result)).text)


def test_verdict_needs_a_comparison_on_the_primary_metric(tmp_path):
    result = fixture_result(versus=[versus(0.3, 0.2, 0.4, metric="aa")])
    (group,) = table.groups(records.load(save(tmp_path, result)))
    assert group.rows[0].verdict.outcome == "unknown"
    assert group.rows[0].random_init is None


def test_of_several_random_initialisations_the_hardest_counts(tmp_path):
    several = [versus(0.09, 0.05, 0.12, name="s0"), versus(0.01, -0.02, 0.04, name="s1")]
    (group,) = table.groups(records.load(save(tmp_path, fixture_result(versus=several))))
    assert group.rows[0].random_init.name == "s1"
    assert group.rows[0].verdict.outcome == "even"


def test_an_interval_that_misses_zero_is_never_written_as_touching_it():
    assert metrics.change(0.0007, 0.0002, 0.0012) == "+0.0007 [+0.0002, +0.0012]"
    assert metrics.change(0.05, 0.011, 0.09) == "+0.050 [+0.011, +0.090]"
    assert metrics.change(-0.05, -0.1, 0.0) == "−0.050 [−0.100, 0.000]"


def test_rows_are_ranked_best_first_in_either_direction(tmp_path):
    results = [fixture_result(name) for name in SCORES]
    (group,) = table.groups(records.load(save(tmp_path / "oa", *results)))
    values = [row.value for row in group.rows]
    assert values == sorted(values, reverse=True)
    for at, result in enumerate(results):
        result["primary"] = "rmse"
        result["metrics"]["rmse"] = {"value": 3.0 - at, "low": None, "high": None}
        result["versus"] = []
    (group,) = table.groups(records.load(save(tmp_path / "rmse", *results)))
    assert [row.value for row in group.rows] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("section", "key", "other"),
    [
        ("benchmark", "manifest_hash", "cd" * 16),
        ("benchmark", "split", "random"),
        ("benchmark", "n_test", 10),
        ("benchmark", "version", "2"),
        ("protocol", "version", "2"),
    ],
)
def test_scores_on_other_data_or_recipes_are_not_ranked_together(tmp_path, section, key, other):
    odd = fixture_result("fixture-random")
    odd[section][key] = other
    made = table.groups(records.load(save(tmp_path, fixture_result(), odd)))
    assert [len(group.rows) for group in made] == [1, 1]
    assert len({group.title for group in made}) == 2


def test_floors_stand_beside_every_protocol_of_their_benchmark_and_once_in_the_csv(tmp_path):
    floor = fixture_result("fixture-stats", protocol="image-statistics")
    probed = [fixture_result(protocol=name) for name in ("linear", "knn")]
    elsewhere = fixture_result(benchmark="fixture-radar")
    folder = save(tmp_path / "results", floor, elsewhere, *probed)
    made = table.groups(records.load(folder))
    assert {group.title: len(group.rows) for group in made} == {
        "fixture-fields · knn": 2,
        "fixture-fields · linear": 2,
        "fixture-radar · linear": 1,
    }
    paths = leaderboard.build(folder, tmp_path / "board")
    assert len(paths["csv"].read_text().splitlines()) == 1 + 4
    page = Page(paths["html"].read_text())
    assert len([tag for tag, _ in page.tags if tag == "details"]) == 4


def test_floors_alone_make_one_group(tmp_path):
    names = {"fixture-stats": "image-statistics", "fixture-pixel": "raw-pixel"}
    SCORES["fixture-pixel"], KINDS["fixture-pixel"] = 0.78, "floor"
    try:
        floors = [fixture_result(name, protocol=protocol) for name, protocol in names.items()]
    finally:
        del SCORES["fixture-pixel"], KINDS["fixture-pixel"]
    (group,) = table.groups(records.load(save(tmp_path, *floors)))
    assert group.title == "fixture-fields · floors"
    assert len(group.rows) == 2


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.15, 0.23, "It beat every floor: fixture-floor."),
        (-0.3, -0.1, "It did not beat fixture-floor (−0.200 [−0.300, −0.100])."),
        (-0.5, 0.1, "It did not beat fixture-floor (−0.200 [−0.500, +0.100])."),
    ],
)
def test_verdict_also_tells_of_the_floors(tmp_path, low, high, words):
    against = [versus(0.05, 0.01, 0.09), versus((low + high) / 2, low, high, kind="floor")]
    (group,) = table.groups(records.load(save(tmp_path, fixture_result(versus=against))))
    assert group.rows[0].verdict.outcome == "beat"
    assert group.rows[0].verdict.text.endswith(words)


def test_what_probes_write_is_what_the_leaderboard_reads(tmp_path):
    from probes.result import Result

    values = fixture_result()
    values.pop("format_version")
    values.pop("id")
    values["per_class"] = [{"class": "fixture-corn", "recall": None, "support": 0}]
    values["benchmark"] |= {"version": 1, "notes": ["fixture note"], "unit": "block"}
    path = Result(**values).save(tmp_path / "results")
    assert leaderboard.check(path) == []
    page = leaderboard.build(tmp_path / "results", tmp_path / "board")["html"].read_text()
    assert "fixture note" in page


def test_seeds_are_named_only_where_they_differ(tmp_path):
    again = fixture_result(seed=1, id="fixture-again")
    (group,) = table.groups(records.load(save(tmp_path, fixture_result(), again)))
    assert sorted(row.name for row in group.rows) == [
        "fixture-mae (seed 0)",
        "fixture-mae (seed 1)",
    ]


def test_bars_have_the_length_of_their_scores(tmp_path):
    result = fixture_result()
    result["metrics"]["oa"] = {"value": 0.8, "low": 0.75, "high": 0.9}
    (group,) = table.groups(records.load(save(tmp_path, result)))
    drawn = plot.bars(group)
    assert re.search(r'class="bar" x="0.00%" y="\d+" width="80.00%"', drawn)
    assert 'class="whisker" x1="75.00%" x2="90.00%"' in drawn


def test_axis_covers_negative_and_large_scores(tmp_path):
    results = [fixture_result("fixture-random"), fixture_result("fixture-stats")]
    for result, value in zip(results, (-0.3, 7.2), strict=True):
        result["primary"] = "r2"
        result["metrics"] = {"r2": {"value": value, "low": None, "high": None}}
    (group,) = table.groups(records.load(save(tmp_path, *results)))
    ticks = plot.axis(group)
    assert ticks[0] <= -0.3
    assert ticks[-1] >= 7.2
    assert 0.0 in ticks
    assert 4 <= len(ticks) <= 7


def test_csv_keeps_full_precision_and_leaves_unknowns_empty(tmp_path):
    result = fixture_result()
    result["metrics"]["oa"]["value"] = 0.8123456789012345
    other = fixture_result("fixture-random")
    del other["metrics"]["kappa"]
    paths = leaderboard.build(save(tmp_path / "results", result, other), tmp_path / "board")
    rows = list(csv.DictReader(io.StringIO(paths["csv"].read_text(encoding="utf-8"))))
    assert float(rows[0]["oa"]) == float(rows[0]["value"]) == 0.8123456789012345
    assert rows[0]["verdict"] == "beat"
    assert float(rows[0]["random_init_low"]) == 0.011
    assert rows[1]["kappa"] == rows[1]["verdict"] == rows[1]["random_init_difference"] == ""


def test_details_show_grid_command_and_edge(tmp_path):
    text = " ".join(Page(build_page(tmp_path, fixture_result())).text)
    assert "fm probe runs/fixture-mae/export --benchmark fixture-fields" in text
    assert "10 (chosen)" in text
    assert "edge of the grid" in text
    assert "2.13.0+cpu" in text
    assert "95 % intervals by percentile bootstrap over blocks, 1000 resamples" in text
