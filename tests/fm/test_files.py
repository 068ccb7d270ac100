"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from fm.errors import FMError
from fm.files import atomic_folder, read_json, write_atomic, write_json


def test_folder_appears_only_when_complete(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic_folder(tmp_path / "x") as aside:
            (aside / "a").write_text("1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "x") as aside:
        (aside / "a").write_text("1")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x" / "a").read_text() == "1"
    with pytest.raises(FMError, match="exists already"), atomic_folder(tmp_path / "x"):
        pass


def test_only_a_folder_of_ours_is_replaced(tmp_path: Path) -> None:
    theirs, ours, empty = tmp_path / "home", tmp_path / "model", tmp_path / "empty"
    for folder in (theirs, ours, empty):
        folder.mkdir()
    (theirs / "thesis.txt").write_text("years")
    (ours / "card.json").write_text("{}")
    (tmp_path / "file").write_text("x")
    for path in (theirs, tmp_path / "file"):
        with (
            pytest.raises(FMError, match=rf"{path.name} is there and holds no card\.json"),
            atomic_folder(path, overwrite=True, ours=("card.json",)),
        ):
            pass
    assert (theirs / "thesis.txt").read_text() == "years"
    for folder in (ours, empty):
        with atomic_folder(folder, overwrite=True, ours=("card.json",)) as aside:
            (aside / "new").write_text("x")
        assert [path.name for path in folder.iterdir()] == ["new"]


def test_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, to in (("link", "there"), ("broken", "nowhere")):
        (tmp_path / name).symlink_to(to)
        for overwrite in (True, False):
            with (
                pytest.raises(FMError, match=f"{name} is a link to {to}; name that itself"),
                atomic_folder(tmp_path / name, overwrite=overwrite),
            ):
                pass
        assert (tmp_path / name).is_symlink()
    assert len(list(tmp_path.iterdir())) == 3


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_json_refuses_nan_and_names_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(FMError, match=r"b\.json: this model card is not valid JSON"):
        read_json(tmp_path / "b.json", "model card")
    with pytest.raises(FMError, match="no such model card"):
        read_json(tmp_path / "c.json", "model card")


def test_json_that_is_nested_without_end_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text("[" * 100_000)
    with pytest.raises(FMError, match="this model card is nested too deeply"):
        read_json(tmp_path / "card.json", "model card")
