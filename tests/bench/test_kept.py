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
