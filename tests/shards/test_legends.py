"""Legends: every code of every table has a class or is told to have none."""

import json
from pathlib import Path

import numpy as np
import pytest

from fm.errors import FMError, UsageError
from probes.benchmarks.crisislandmark import WORD_OF, WORDS
from shards.labelling.legends import CORINE_CODES, DYNAMIC_WORLD, LEGENDS, find_legend
from shards.sources.corine import CORINE


def test_corine_is_joined_as_crisislandmark_joins_it() -> None:
    theirs = {word.lower(): word for word in WORDS}
    legend = LEGENDS["corine"]
    for code, name, _ in CORINE:
        word = WORDS[WORD_OF[name.lower()]]
        own = legend.codes[code]
        if word == "Burned Area":
            assert own is None
        else:
            assert own is not None
            assert theirs[DYNAMIC_WORLD[own]] == word


def test_codes_of_a_class_are_there_once_and_all_but_the_burnt() -> None:
    codes = [code for several in CORINE_CODES.values() for code in several]
    assert len(codes) == len(set(codes)) == 43
    assert {code for code, _, _ in CORINE} - set(codes) == {334}
    assert set(CORINE_CODES) == set(DYNAMIC_WORLD)


def test_the_grid_counts_the_classes_from_one() -> None:
    grid, plain = LEGENDS["corine-grid"], LEGENDS["corine"]
    assert [grid.codes[n] for n in range(1, 45)] == [plain.codes[c] for c, _, _ in CORINE]
    assert grid.codes[48] is None


def test_worldcover_by_hand() -> None:
    numbers = np.array([[10, 80, 95], [100, 0, 50]], np.uint8)
    found = LEGENDS["worldcover"].table(numbers, "a map")
    assert found.tolist() == [[1, 0, 3], [-1, -1, 6]]


def test_a_number_that_is_not_in_the_legend_is_refused() -> None:
    with pytest.raises(FMError, match="a map: 11 is no number of the legend worldcover"):
        LEGENDS["worldcover"].table(np.array([10, 11]), "a map")


def test_a_legend_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"classes": ["wet", "dry"], "codes": {"3": "dry", "9": None}}))
    legend = find_legend(str(path))
    assert legend.table(np.array([9, 3]), "").tolist() == [-1, 1]
    for text in ("[]", '{"classes": ["a", "a"], "codes": {}}', '{"classes": ["a"]}', "{"):
        path.write_text(text)
        with pytest.raises(FMError, match="no legend"):
            find_legend(str(path))
    with pytest.raises(UsageError, match="did you mean 'worldcover'"):
        find_legend("worldcove")
