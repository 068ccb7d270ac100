"""Files in one file: places are counted from each file's own beginning, and nothing leaves it."""

import numpy as np
import pytest

from fm.errors import FMError
from probes.benchmarks import tortilla
from tests.probes.layouts.tortilla import START, pack, tif

PLANES = np.arange(2 * 16 * 16, dtype=np.uint16).reshape(2, 16, 16)


def two(tmp_path):
    """Two samples of two files, of different lengths."""
    samples = [
        pack([("a", "GTiff", tif(PLANES + n)), ("b", "BYTES", bytes([n]) * (n + 5))], [{}, {}])
        for n in range(2)
    ]
    files = [(f"s{n}", "TORTILLA", data) for n, data in enumerate(samples)]
    path = tmp_path / "x, y.tortilla"
    path.write_bytes(pack(files, [{"labels": ["x"]}, {"labels": []}]))
    return path


def test_a_file_lies_where_its_own_tortilla_says(tmp_path):
    path = two(tmp_path)
    first, second = tortilla.contents(path)
    assert (first.name, first.kind, first.offset) == ("s0", "TORTILLA", START)
    assert second.offset == START + first.length
    assert second.about["labels"] == []
    for n, sample in enumerate((first, second)):
        a, b = tortilla.contents(path, sample)
        np.testing.assert_array_equal(tortilla.raster(path, a), PLANES + n)
        stored = path.read_bytes()[b.offset : b.offset + b.length]
        assert stored == bytes([n]) * (n + 5)


def test_what_is_no_raster_is_one_line(tmp_path):
    path = two(tmp_path)
    a, b = tortilla.contents(path, tortilla.contents(path)[1])
    with pytest.raises(FMError, match=r"b is BYTES, expected GTiff$"):
        tortilla.raster(path, b)
    whole = bytearray(path.read_bytes())
    whole[a.offset : a.offset + 64] = bytes(64)
    path.write_bytes(whole)
    with pytest.raises(FMError, match=r"a at byte [\d,]+ is no GeoTIFF that can be read; take"):
        tortilla.raster(path, a)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"PK" + data[2:], r"not a tortilla; take the published file$"),
        (lambda data: data[:9], r"not a tortilla"),
        (lambda data: data[:-1], r"its table should end at byte [\d,]+ of [\d,]+; the download"),
        (lambda data: data[:-9] + bytes(9), r"its table cannot be read \("),
    ],
)
def test_a_file_that_is_not_whole_is_one_line(tmp_path, change, message):
    path = two(tmp_path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(FMError, match=message) as caught:
        tortilla.contents(path)
    assert "\n" not in str(caught.value)


def test_a_table_that_leaves_the_file_or_lacks_a_column_is_refused(tmp_path):
    path = tmp_path / "a.tortilla"
    path.write_bytes(pack([("a", "BYTES", b"data")], [{"tortilla:length": 5}]))
    with pytest.raises(FMError, match=r"a leaves the file; take the published file"):
        tortilla.contents(path)
    with pytest.raises(FMError, match=r"b\.tortilla: cannot be read"):
        tortilla.contents(tmp_path / "b.tortilla")
    import io

    import pyarrow
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(pyarrow.table({"tortilla:id": ["a"]}), sink)
    footer = sink.getvalue()
    head = b"#y" + b"".join(n.to_bytes(8, "little") for n in (START, len(footer)))
    path.write_bytes(head.ljust(START, b"\0") + footer)
    with pytest.raises(FMError, match=r"its table has no tortilla:file_format"):
        tortilla.contents(path)
