"""The index of the docs leads to every page, once, by a line that says what it is for."""

import re

from tests.docs.test_docs import PAGES, ROOT

INDEX = ROOT / "docs" / "README.md"
LINK = re.compile(r"\]\(([\w-]+\.md)\)")


def test_every_page_is_in_the_index_once() -> None:
    """A page may be named above the tables too; in them it has one row."""
    rows = [line for line in INDEX.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    named = [name for row in rows for name in LINK.findall(row)]
    first = ["installing.md"]
    assert LINK.findall(INDEX.read_text(encoding="utf-8"))[:1] == first
    assert sorted([*named, *first]) == sorted({p.name for p in PAGES} - {INDEX.name})


def test_every_row_says_what_its_page_is_for() -> None:
    rows = [line for line in INDEX.read_text(encoding="utf-8").splitlines() if LINK.search(line)]
    told = [row.split("|")[2].strip() for row in rows if row[:1] == "|"]
    assert len(told) > 40
    assert min(map(len, told)) > len("for")
