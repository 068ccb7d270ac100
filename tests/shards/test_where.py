import datetime

import pyarrow as pa
import pytest

from fm.errors import UsageError
from shards.format import LabelInfo
from shards.where import filter_table

UTC = datetime.UTC
TABLE = pa.table(
    {
        "key": ["a", "b", "c", "d"],
        "split": ["train", "test", None, "train"],
        "height": pa.array([16, 32, 16, None], pa.int32()),
        "lon": [1.0, -2.0, 3.0, None],
        "time": pa.array(
            [datetime.datetime(2020, month, 1, tzinfo=UTC) for month in (1, 6, 7)] + [None],
            pa.timestamp("us", tz="UTC"),
        ),
        "crop": pa.array([0, 1, 1, 2], pa.int64()),
        "tags": [[0], [1], [0, 1], None],
        "caption": ["a river", "a town", None, "river and town"],
        "sample.offset": [0, 1, 2, 3],
        "s1grd_10.offset": [1, None, 5, None],
        "geometry": [b"", b"", b"", b""],
    }
)
LABELS = {
    "crop": LabelInfo("crop", "class", ("wheat", "maize", "rice")),
    "caption": LabelInfo("caption", "text"),
}


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("split == 'train'", "ad"),
        ("'train' == split", "ad"),
        ("split != 'train'", "b"),  # unknown is neither
        ("not (split == 'train')", "b"),
        ("split not in ('train',)", "b"),
        ("not (split in ('train',))", "b"),  # unknown is neither here, too
        ("not (height in (16,))", "b"),
        ("not (month not in (6, 7))", "bc"),
        ("not (split in ('test',) or height == 32)", "a"),
        ("split is None", "c"),
        ("split is not None and height == 16", "a"),
        ("month in (6, 7, 8)", "bc"),
        ("year == 2020 and month < 7", "ab"),
        ("time >= '2020-06-01'", "bc"),
        ("time < '2020-06-01T02:00+02:00'", "a"),
        ("0 < lon <= 3", "ac"),
        ("lon == -2", "b"),
        ("crop == 'maize' or crop == 2", "bcd"),
        ("crop in ('wheat', 'rice')", "ad"),
        ("has('s1grd_10')", "ac"),
        ("not has('s1grd_10')", "bd"),
        ("'river' in caption", "ad"),
        ("'river' not in caption", "b"),
        ("caption == 'a town'", "b"),
        ("tags is None", "d"),
        ("tags is not None and height == 16", "ac"),
    ],
)
def test_rows_that_are_kept(where: str, keys: str) -> None:
    assert "".join(filter_table(where, TABLE, LABELS)["key"].to_pylist()) == keys


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("__import__('os').system('true')", "no comparison"),
        ("(lambda: 1)() == 1", "no column"),
        ("split.upper() == 'A'", "no column"),
        ("[x for x in (1,)] == height", "no number"),
        ("height + 1 == 2", "no column"),
        ("splt == 'train'", "did you mean 'split'"),
        ("split == 3", "holds text"),
        ("height == 'a'", "holds numbers"),
        ("crop == 'wheet'", "did you mean 'wheat'"),
        ("tags == 1", "lists"),
        ("has('s1grd')", "did you mean 's1grd_10'"),
        ("has('sample')", "no member"),
        ("has(split)", "no comparison"),
        ("time == 'noon'", "ISO-8601"),
        ("time == 3", "types do not fit"),
        ("time > '0001-01-01T00:00+23:00'", "out of range"),
        ("year == 99999999999999999999999", "out of range"),
        ("year in (2020, -99999999999999999999999)", "out of range"),
        ("split == None", "is None"),
        ("split is 'train'", "use =="),
        ("'river' in height", "text column"),
        ("3 in caption", "text column"),
        ("'a' in tags", "lists"),
        ("height == -'a'", "no number"),
        ("height in ()", "list of constants"),
        ("1 == 1", "no column of the index"),
        ("split", "no comparison"),
        ("geometry == 'a'", "no column"),
        ("split ==", "invalid syntax"),
        ("", "invalid syntax"),
        ("height == 1" + " and height == 1" * 2000, "at most"),
        ("not " * 2000 + "height == 1", ""),
    ],
)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_what_is_refused_in_one_line(where: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        filter_table(where, TABLE, LABELS)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
