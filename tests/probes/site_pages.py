"""Reading the pages of a built site."""

from html.parser import HTMLParser
from pathlib import Path

from probes import leaderboard
from tests.probes.fixture_results import save


class Page(HTMLParser):
    """Collects tags, checks that they nest, and gathers text."""

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "col", "wbr"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.stack, self.text, self.goes_on = [], [], [], False
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"{tag} has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        self.goes_on = tag == "wbr"  # a place to break one word
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] not in ("style", "script"):
            if self.goes_on:
                data = self.text.pop() + data
            self.text.append(data)
        self.goes_on = False

    @property
    def said(self):
        return " ".join(" ".join(self.text).split())

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.tags if name in attrs]


def build(tmp_path: Path, *results) -> Path:
    """Build a site from results; returns its folder."""
    leaderboard.build(save(tmp_path / "results", *results), tmp_path / "site")
    return tmp_path / "site"


def pages(site: Path) -> dict[str, Page]:
    """Every page by its path in the site."""
    return {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }


def files(site: Path) -> dict[str, bytes]:
    """Every file by its path in the site."""
    return {
        path.relative_to(site).as_posix(): path.read_bytes()
        for path in sorted(site.rglob("*"))
        if path.is_file()
    }
