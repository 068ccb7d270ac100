"""Parts of a study: made once, and made anew when what they depend on is another."""

from pathlib import Path

import pytest

from bench.studies import kept


def test_a_part_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"number": len(made)}

    first = kept.part(tmp_path / "parts", {"seed": 0}, make)
    assert (first.value, first.again) == ({"number": 1}, False)
    again = kept.part(tmp_path / "parts", {"seed": 0}, make)
    assert (again.value, again.again) == ({"number": 1}, True)
    assert (again.seconds, again.cpu) == (first.seconds, first.cpu)
    assert kept.part(tmp_path / "parts", {"seed": 1}, make).value == {"number": 2}
    monkeypatch.setattr(kept, "code_hash", lambda: "other code")
    assert kept.part(tmp_path / "parts", {"seed": 0}, make).value == {"number": 3}


def test_a_part_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.part(tmp_path, {}, fail)
    assert not list(tmp_path.iterdir())
    assert kept.part(tmp_path, {}, lambda: 1).value == 1


def test_a_file_is_made_anew_of_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "values", []

    def make() -> None:
        assert not path.exists()
        path.mkdir() if len(made) == 1 else path.touch()
        made.append(1)

    def after(about: dict[str, object]) -> int:
        assert kept.once(path, about, make) == path
        return len(made)

    path.write_text("of nobody knows what")
    assert after({"steps": 1, "sizes": (2, 3)}) == 1
    assert after({"steps": 1, "sizes": (2, 3)}) == 1
    assert after({"steps": 2, "sizes": (2, 3)}) == 2
    assert path.is_dir()
    assert after({"steps": 1, "sizes": (2, 3)}) == 3
    path.unlink()
    assert after({"steps": 1, "sizes": (2, 3)}) == 4
    monkeypatch.setattr(kept, "code_hash", lambda: "other code")
    assert after({"steps": 1, "sizes": (2, 3)}) == 5


def test_what_was_ended_is_not_taken_for_made(tmp_path: Path) -> None:
    path = tmp_path / "values"

    def fail() -> None:
        path.touch()
        raise KeyboardInterrupt

    kept.once(path, {"steps": 1}, path.touch)
    with pytest.raises(KeyboardInterrupt):
        kept.once(path, {"steps": 2}, fail)
    made: list[int] = []
    kept.once(path, {"steps": 1}, lambda: made.append(1))
    assert made == [1]


def test_constants_of_a_study_are_code_and_pages_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("location.py", "location_page.py"):
        (tmp_path / "bench/studies" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bench/studies" / name).write_text("RADIUS_KM = 1000.0\n")
    monkeypatch.setattr(kept, "ROOT", tmp_path)
    fresh = kept.code_hash.__wrapped__
    first = fresh()
    (tmp_path / "bench/studies/location_page.py").write_text("")
    assert fresh() == first
    (tmp_path / "bench/studies/location.py").write_text("RADIUS_KM = 100.0\n")
    assert fresh() != first
