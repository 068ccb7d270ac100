"""Where and when samples are, held against what change-aware contrast needs, before a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shards
from fm.errors import UsageError
from pretrain.build import build
from pretrain.data import RunData, open_data
from pretrain.objective import Objective
from pretrain.trainer import load_config

YEARS = ("2016-06-01", "2016-09-01", "2019-06-01")
WIDEST = 1003 / 365.25
"""Years between the last two."""


def written(folder: Path, times: Sequence[Sequence[str]]) -> Path:
    """Write samples of three images of these times; the places of the first two are a metre."""
    draw = np.random.default_rng(0)

    def samples() -> Any:
        for number, own in enumerate(times):
            yield shards.Sample(
                f"s{number}",
                {"s2l2a_10": draw.uniform(0.1, 0.4, (3, 4, 48, 48)).astype(np.float32)},
                lonlat=(10.0 + max(number, 1) + 1e-7 * number, 50.0),
                times=own,
            )

    shards.write_dataset(
        folder,
        samples(),
        name="series",
        modalities={"s2l2a_10": shards.Declared("sentinel2-l2a", ("B02", "B03", "B04", "B08"))},
        provenance={},
        licence="CC0-1.0",
    )
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six samples at five places, times in no order."""
    folder = tmp_path_factory.mktemp("whereabouts") / "series"
    return written(folder, [YEARS[::-1], *[YEARS] * 5])


def opened(folder: Path, *words: str, name: str = "caco_tiny") -> tuple[RunData, Objective]:
    config = load_config(name, [f"data.path={folder}", "data.batch_size=4", *words])
    data = open_data(config)
    return data, build(config, data.layout)


def test_a_table_that_cannot_hold_the_places_is_refused(series: Path) -> None:
    """Defect: it is found out steps later, and the run is lost."""
    data, objective = opened(series, "objective.places=4")
    with pytest.raises(UsageError, match=r"5 places do not go into objective\.places=4 rows"):
        data.read_labels(objective)
    data, objective = opened(series, "objective.places=5")
    data.read_labels(objective)


def test_places_of_one_era_take_no_row(tmp_path: Path) -> None:
    """Defect: a table that holds all places with two eras is refused for those that have one."""
    one = (*YEARS[:2], "2016-12-01")
    folder = written(tmp_path / "series", [one, one, YEARS, one, YEARS])
    data, objective = opened(folder, "objective.places=1", "objective.era_years=2")
    with pytest.raises(UsageError, match=r"2 places do not go into objective\.places=1 rows"):
        data.read_labels(objective)
    data, objective = opened(folder, "objective.places=2", "objective.era_years=2")
    data.read_labels(objective)


def test_places_of_one_era_are_refused(series: Path) -> None:
    """Defect: no place ever has another era, all run long, and nothing says so."""
    data, objective = opened(series, f"objective.era_years={WIDEST + 0.01}")
    with pytest.raises(UsageError, match=r"no sample has images 2\.75\S* years apart.*is 2\.7\)"):
        data.read_labels(objective)
    for words in ([f"objective.era_years={WIDEST - 0.01}"], ["objective.era_years=0.1"]):
        data, objective = opened(series, *words)
        data.read_labels(objective)


def test_it_is_seen_beside_land_cover_too(series: Path) -> None:
    beside = "{kind: caco, queue: 64, places: 4, era_years: 9, view: {size: 40}}"
    objective = "objective={kind: landcover, label: x, classes: 2, beside: " + beside + "}"
    _, made = opened(series, objective)
    assert (made.most_places, made.needs_years, made.needs_places) == (4, 9.0, True)


def test_other_contrasts_do_not_ask(series: Path) -> None:
    data, objective = opened(series, name="seco_tiny")
    assert (objective.most_places, objective.needs_years) == (None, 0.0)
    data.read_labels(objective)
