"""Fixtures for every room. Light on imports: nothing heavy loads before the first test."""

import gc
import os
import random
from pathlib import Path
from typing import Any

import pytest

# before torch is imported: small matrices, and several processes share few cores
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a sweep over seeds look for bounds that hold by luck."""
    parser.addoption("--seed", type=int, default=0, help="of every test's random numbers")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let hypothesis draw other examples in a sweep; without one they are always the same."""
    number = config.getoption("seed")
    for item in items if number else ():
        if getattr(item.obj, "is_hypothesis_test", False):  # type: ignore[attr-defined]
            from hypothesis import seed

            seed(number)(item.obj)  # type: ignore[attr-defined]


def _begin_anew(number: int) -> None:
    """Seed every generator that is not somebody's own."""
    import numpy as np
    import torch

    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  (the numbers of whoever uses numpy's own generator)
    torch.manual_seed(number)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin every test's random numbers anew: none depends on which tests ran before it."""
    _begin_anew(item.config.getoption("seed"))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef, request: pytest.FixtureRequest) -> Any:
    """Make what tests share from numbers of its own, whichever test is the first to ask for it."""
    if fixturedef.scope == "function":
        return (yield)
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    _begin_anew(request.config.getoption("seed"))
    try:
        return (yield)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Any:
    """Take what lives after a file, mostly modules, out of what is searched for garbage."""
    result = yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()
    return result


def pytest_collection_finish() -> None:
    """Do the same before the first."""
    gc.collect()
    gc.freeze()


TINY = 24
"""Samples of `tiny_dataset`."""


def tiny_samples(count: int = TINY, seed: int = 0, size: int = 24):
    """Yield fake Sentinel-2 L1C samples: smooth fields and noise, on 10, 20 and 60 m grids."""
    import numpy as np

    import shards

    rng = np.random.default_rng(seed)
    grids = {"s2l1c_10": (4, size), "s2l1c_20": (6, size // 2), "s2l1c_60": (3, size // 6)}
    for i in range(count):
        slope, level = rng.normal(0, 0.3, 2), rng.uniform(0.5, 1.5)
        arrays = {}
        for name, (bands, side) in grids.items():
            y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
            field = level + slope[0] * y + slope[1] * x
            mean = np.linspace(800, 2600, bands)[:, None, None] * field
            arrays[name] = np.clip(mean + rng.normal(0, 60, mean.shape), 1, 9999).astype(np.uint16)
        yield shards.Sample(
            key=f"tiny_{i:03d}",
            arrays=arrays,
            lonlat=(10.0 + 0.1 * (i % 6), 50.0 + 0.1 * (i // 6)),
            time=f"2021-{1 + i % 12:02d}-15T10:30:00Z",
            split=("train", "train", "val", "test")[i % 4],
            labels={"cover": int(level > 1.0), "tags": [0, 1 + i % 2], "level": float(level)},
            window=(0, i * size, size, size),
        )


def write_tiny(out: Path, count: int = TINY, seed: int = 0, **options: object):
    """Write `tiny_samples`; options go to `shards.write_dataset`."""
    import fm.sensors
    import shards

    sensor = fm.sensors.sensor("sentinel2-l1c")
    settings = {
        "name": "tiny",
        "modalities": {
            name: shards.Declared("sentinel2-l1c", tuple(band.name for band in bands))
            for name, bands in sensor.modalities.items()
        },
        "labels": {
            "cover": shards.LabelInfo("cover", "class", ("dark", "bright")),
            "tags": shards.LabelInfo("tags", "multilabel", ("land", "even", "odd")),
            "level": shards.LabelInfo("level", "regression"),
        },
        "provenance": {"source": "tests/conftest.py", "seed": seed},
        "licence": "CC0-1.0",
        "samples_per_shard": 7,
    }
    return shards.write_dataset(out, tiny_samples(count, seed), **(settings | options))


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small fake Sentinel-2 dataset; tests only read it."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    write_tiny(folder)
    return folder


@pytest.fixture(scope="session")
def package_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder where packages with real data are kept: `$EOFM_CACHE`, or a new one."""
    folder = os.environ.get("EOFM_CACHE")
    if not folder:
        return tmp_path_factory.mktemp("packages")
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path
