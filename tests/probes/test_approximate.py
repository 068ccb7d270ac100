"""`fm search --approximate`: an index beside the table, its recall, and what it is refused for."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fm.cli import main
from fm.errors import FMError
from fm.version import WRITER
from probes.embed import approximate, parquet, search
from tests.probes.test_search import write

ROWS, DIM = 3000, 16


def vectors(seed: int = 0) -> np.ndarray:
    """Rows around forty directions, one of them without any."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(40, DIM))
    made = centres[rng.integers(0, 40, ROWS)] + 0.6 * rng.normal(size=(ROWS, DIM))
    made *= rng.uniform(0.1, 10, (ROWS, 1))
    made[11] = 0
    return made.astype(np.float32)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with its index."""
    path = tmp_path_factory.mktemp("approximate") / "e.parquet"
    write_many(path, vectors())
    approximate.build(path, parquet.look(path).read)
    return path


def write_many(path: Path, rows: np.ndarray) -> Path:
    import pyarrow as pa

    count = len(rows)
    of = {"key": [f"s{i}" for i in range(count)], "lon": [0.0] * count, "lat": [0.0] * count}
    told = {"model": "m", "dataset": "d"}
    parquet.write(path, pa.table(of), rows.shape[1], lambda a, b: rows[a:b], told)
    return path


def copied(table: Path, folder: Path) -> Path:
    shutil.copytree(table.parent, folder)
    return folder / table.name


def test_it_finds_what_exact_search_finds(table: Path) -> None:
    found, index = parquet.read(table), approximate.Index(table)
    about = index.about
    assert (about.rows, about.features) == (ROWS - 1, DIM)  # the row of zeros is in no cell
    assert 1 <= about.looked_into < about.cells
    assert about.recall >= approximate.RECALL
    same = 0
    for row in range(0, 600, 3):
        query = search.of_row(found, f"s{row}")
        exact = search.nearest(found, query, 10)
        near = search.nearest(parquet.look(table), query, 10, index)
        assert f"s{row}" not in {hit.key for hit in near}
        cosines = {hit.key: hit.cosine for hit in exact}
        for hit in near:
            if hit.key in cosines:
                assert hit.cosine == pytest.approx(cosines[hit.key], abs=1e-5)
        assert [hit.rank for hit in near] == list(range(1, len(near) + 1))
        same += len(set(cosines) & {hit.key for hit in near})
    assert same >= 0.97 * 200 * 10


def test_more_than_ten_are_all_there_and_the_nearest(table: Path) -> None:
    rows, index = vectors(), approximate.Index(table)
    about = index.about
    many = ROWS // about.cells * about.looked_into * 2  # more than the cells for ten hold
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    directions = rows / np.where(lengths > 0, lengths, 1)
    for row in range(0, 60, 3):
        exact = np.argsort(-(directions @ directions[row]), kind="stable")
        for count in (100, many):
            found, cosines = index.nearest(rows[row], count)
            assert len(found) == len(set(found.tolist())) == count
            assert (np.diff(cosines) <= 0).all()
            assert len(np.intersect1d(found, exact[:count])) >= 0.95 * count
    assert len(index.nearest(rows[3], 10 * ROWS)[0]) == ROWS - 1


def test_recall_is_the_share_that_was_found() -> None:
    exact = np.float32([[0.9, 0.8, 0.7], [0.5, 0.5, 0.5]])
    found = np.float32([[0.9, 0.7, 0.6], [0.5, 0.5, -3e38]])
    assert approximate.share(found, exact) == pytest.approx(4 / 6)


def test_rows_that_are_alike_stand_for_each_other(tmp_path: Path) -> None:
    rows = np.repeat(np.random.default_rng(0).normal(size=(20, DIM)), 100, axis=0)
    rows = rows.astype(np.float32)
    path = write_many(tmp_path / "e.parquet", rows)
    about = approximate.build(path, lambda: rows)
    assert about.cells > 1
    assert (about.looked_into, about.recall) == (1, 1.0)


def test_one_row_is_read_alone(table: Path) -> None:
    stored, rows = parquet.look(table), vectors()
    for row in (0, 11, ROWS - 1):
        assert np.array_equal(stored.vector(row), rows[row])
    with pytest.raises(IndexError):
        stored.vector(ROWS)


def test_the_command_makes_it_once(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_many(tmp_path / "e.parquet", vectors())
    words = ["search", str(path), "s5", "--count", "3", "--json"]
    assert main(words) == 0
    exact = json.loads(capsys.readouterr().out)["hits"]
    assert not approximate.place(path).exists()
    assert main([*words, "--approximate"]) == 0
    first = capsys.readouterr()
    assert "making" in first.err
    assert "of the ten nearest to 200 rows" in first.err
    assert [hit["key"] for hit in json.loads(first.out)["hits"]] == [hit["key"] for hit in exact]
    told = json.loads((approximate.place(path) / "index.json").read_text())
    assert told["written_by"] == WRITER
    assert main([*words, "--approximate"]) == 0
    again = capsys.readouterr()
    assert "making" not in again.err
    assert again.out == first.out


def test_an_index_of_another_table_is_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(table, tmp_path / "copy")
    assert approximate.Index(path).about.rows == ROWS - 1  # copied: another time, the same bytes
    stat = path.stat()
    write_many(tmp_path / "other.parquet", vectors(seed=1))
    os.replace(tmp_path / "other.parquet", path)
    words = ["search", str(path), "s5", "--approximate"]
    assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the file has changed since: give --rebuild" in line
    data = bytearray((table.parent / table.name).read_bytes())
    data[len(data) // 3] ^= 1  # as long as before
    path.write_bytes(data)
    assert path.stat().st_size == stat.st_size
    with pytest.raises(FMError, match="changed since"):
        approximate.Index(path)
    write_many(tmp_path / "other.parquet", vectors(seed=1))
    os.replace(tmp_path / "other.parquet", path)
    assert main([*words, "--rebuild"]) == 0
    assert "making" in capsys.readouterr().err
    assert main(words) == 0


@pytest.mark.parametrize("before", [True, False])
def test_a_table_that_is_replaced_meanwhile_gets_no_index(tmp_path: Path, before: bool) -> None:
    """Of one size, as tables of the same samples often are."""
    path = write_many(tmp_path / "e.parquet", vectors())
    other = write_many(tmp_path / "other.parquet", vectors(seed=1))

    def read() -> np.ndarray:
        if before:
            os.replace(other, path)
        made = parquet.look(path).read()
        if not before:
            os.replace(other, path)
        return made

    with pytest.raises(FMError, match="changed meanwhile, run it again"):
        approximate.opened(path, read, rebuild=False)
    assert [item.name for item in tmp_path.iterdir()] == ["e.parquet"]
    assert approximate.opened(path, parquet.look(path).read, rebuild=False).about.rows == ROWS - 1


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("index.json", b"{}", "no format_version"),
        ("index.json", b'{"format_version": 1}', "no index of fm search"),
        ("index.json", b'{"format_version": 9, "written_by": "eofm 9.9"}', "written by eofm 9.9"),
        ("cells.faiss", b"", "damaged"),
        ("cells.faiss", b"IwFl" + bytes(40), "damaged|not those of"),
    ],
)
def test_a_damaged_index_is_one_line(
    table: Path, tmp_path: Path, name: str, content: bytes, text: str
) -> None:
    path = copied(table, tmp_path / "copy")
    (approximate.place(path) / name).write_bytes(content)
    with pytest.raises(FMError, match=text) as caught:
        approximate.Index(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"looked_into": 0}, {"looked_into": "8"}, {"rows": None}, {"features": 1.5}, {"cells": True}],
)
def test_damaged_counts_are_one_line(
    table: Path, tmp_path: Path, wrong: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    path = copied(table, tmp_path / "copy")
    told = approximate.place(path) / "index.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), **wrong}))
    assert main(["search", str(path), "s5", "--approximate"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no index of fm search; remove it, or give --rebuild" in line


def test_without_the_extra_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "e.parquet")
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert main(["search", str(path), "<s3>", "--approximate"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'eofm[ann]'" in line
    assert not approximate.place(path).exists()
    assert main(["search", str(path), "<s3>", "--rebuild"]) == 2
    assert "give both" in capsys.readouterr().err


def test_queries_without_a_direction_or_of_another_width(table: Path) -> None:
    index = approximate.Index(table)
    with pytest.raises(FMError, match="like nothing"):
        index.nearest(np.zeros(DIM, np.float32), 3)
    with pytest.raises(FMError, match="8 features"):
        index.nearest(np.ones(8, np.float32), 3)


def test_a_folder_that_is_no_index_is_not_replaced(tmp_path: Path) -> None:
    path = write_many(tmp_path / "e.parquet", vectors()[:5])
    theirs = approximate.place(path) / "thesis.txt"
    theirs.parent.mkdir()
    theirs.write_text("years")
    with pytest.raises(FMError, match=r"e\.parquet\.index is there and holds no index\.json"):
        approximate.build(path, parquet.look(path).read, overwrite=True)
    assert theirs.read_text() == "years"


def test_few_rows_are_searched_whole(tmp_path: Path) -> None:
    rows = vectors()[:9]
    path = write_many(tmp_path / "e.parquet", rows)
    about = approximate.build(path, lambda: rows)
    assert (about.cells, about.recall) == (1, 1.0)
    found, _ = approximate.Index(path).nearest(rows[2], 50)
    assert sorted(found.tolist()) == list(range(9))
    with pytest.raises(FMError, match="no row has a direction"):
        approximate.build(path, lambda: np.zeros((3, DIM), np.float32))
