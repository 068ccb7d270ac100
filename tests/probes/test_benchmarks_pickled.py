"""Plain values of pickles, against `pickle` itself on what may be loaded, and never run."""

import collections
import os
import pickle

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks.pickled import Made, Name, numbers_of, read

PLAIN = {
    "label": 7,
    "large": 2**70,
    "negative": -3,
    "order": ["02 - Blue", "03 - Green", "02 - Blue"],
    "nested": {"a": (1.5, None, True), "b": [[], {}, ()], 3: "drei"},
    "raw": b"\x00\xff" * 200,
    "long": "x" * 300,
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_those_that_loading_gives(protocol):
    assert read(pickle.dumps(PLAIN, protocol), "here") == PLAIN


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [
        np.int64(5),
        np.float32(-2.5),
        np.arange(43) % 3 == 0,
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.zeros((0, 4), np.uint8),
        12,
        [0, 1, 1],
    ],
    ids=lambda v: type(v).__name__,
)
def test_numbers_as_numpy_pickles_them(value, protocol):
    found = numbers_of(read(pickle.dumps(value, protocol), "here"), "here")
    np.testing.assert_array_equal(found, value)
    assert found.dtype == np.asarray(value).dtype


class Calls:
    """What a hostile file holds."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_is_run(tmp_path):
    path = tmp_path / "made"
    data = pickle.dumps({"label": 3, "band": Calls(str(path))})
    found = read(data, "here")
    assert not path.exists()
    assert found["label"] == 3
    assert found["band"].by.endswith(".mkdir")
    assert found["band"].args == (str(path),)
    with pytest.raises(FMError, match="no plain numbers"):
        numbers_of(found["band"], "here")
    pickle.loads(data)
    assert path.exists(), "loading would have"


class Spectral:
    """An object with attributes, as files hold bands."""

    def __init__(self) -> None:
        self.name, self.wavelength = "04 - Red", 0.665


def test_objects_are_notes_with_their_fields():
    made = read(pickle.dumps([Spectral(), Spectral, collections.OrderedDict(a=1)]), "here")
    assert isinstance(made[0], Made)
    assert made[0].fields == {"name": "04 - Red", "wavelength": 0.665}
    assert made[1] == Name(__name__, "Spectral")
    assert made[2].by == "collections.OrderedDict"


def test_object_arrays_and_damage_are_refused():
    with pytest.raises(FMError, match="no plain numbers"):
        numbers_of(read(pickle.dumps(np.array([{}, []], object)), "f.hdf5"), "f.hdf5")
    whole = pickle.dumps(PLAIN)
    for data in (b"", b"no pickle", whole[:-1], whole[: len(whole) // 2]):
        with pytest.raises(FMError, match=r"f\.hdf5: its pickle"):
            read(data, "f.hdf5")
    with pytest.raises(FMError, match="opcode PERSID"):
        read(b"Pthing\n.", "f.hdf5")
    short = Made("numpy._core.multiarray.scalar", (Made("numpy.dtype", ("i8",)), b"\x00"))
    with pytest.raises(FMError, match="no plain numbers"):
        numbers_of(short, "f.hdf5")
