"""Nothing that a user can reach is in no page: commands, options, recipes, protocols, pages."""

import argparse
import re
from argparse import ArgumentParser
from collections.abc import Iterator
from importlib.metadata import entry_points

from tests.docs.test_docs import PAGES, ROOT

TEXTS = {page: page.read_text(encoding="utf-8") for page in [*PAGES, ROOT / "README.md"]}
ALL = "\n".join(TEXTS.values())


def parsers(parser: ArgumentParser) -> Iterator[ArgumentParser]:
    """A parser and those of all its verbs."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action._name_parser_map.values():
                yield from parsers(verb)


def commands() -> list[ArgumentParser]:
    found = []
    for point in entry_points(group="eofm.commands"):
        parser = ArgumentParser(prog=f"fm {point.name}")
        point.load().configure(parser)
        found += parsers(parser)
    return found


def named(word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", ALL) is not None


def test_every_command_is_in_a_page() -> None:
    found = {parser.prog for parser in commands()}
    assert len(found) > 40
    assert sorted(name for name in found if not named(name)) == []


def test_every_option_is_in_a_page() -> None:
    missing = []
    for parser in commands():
        for action in parser._actions:
            words = [word for word in action.option_strings if word.startswith("--")]
            hidden = action.help == argparse.SUPPRESS or words == ["--help"]
            if words and not hidden and not any(map(named, words)):
                missing.append(f"{parser.prog} {words[0]}")
    assert missing == []


def test_every_option_says_what_it_is() -> None:
    silent = [
        f"{parser.prog} {action.option_strings or action.dest}"
        for parser in commands()
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert silent == []


def test_every_recipe_and_protocol_is_in_a_page() -> None:
    files = [*(ROOT / "configs" / "pretrain").glob("*.yaml")]
    files += (ROOT / "configs" / "probes").glob("*.yaml")
    assert len(files) > 100
    names = [path.stem for path in files]
    assert (
        sorted(name for name in names if not named(name) and not named(name.partition("@")[0]))
        == []
    )


def test_every_page_is_linked_from_another() -> None:
    for page in PAGES:
        links = [other for other, text in TEXTS.items() if other != page and page.name in text]
        assert links, page.name
