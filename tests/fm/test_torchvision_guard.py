"""timm and torchgeo import beside whatever torch is installed."""

import subprocess
import sys

import pytest

import fm.torchvision_guard as guard


def fresh(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def guarded() -> list[str]:
    """Whether the guard acted, whether a second call says the same, and an operator's name."""
    done = fresh(
        "from fm.torchvision_guard import install; a = install(); b = install();"
        "import torchvision, timm; print(a, a == b, torchvision.ops.nms.__name__)"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_torchvision_imports_after_the_guard(guarded: list[str]) -> None:
    assert guarded[1:] == ["True", "nms"]


def test_guard_acts_exactly_where_the_import_fails(guarded: list[str]) -> None:
    bare = fresh("import torchvision")
    needed = bare.returncode != 0 and "torchvision::nms" in bare.stderr
    assert guarded[0] == str(needed), bare.stderr


def test_nothing_is_declared_where_the_library_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_kept", [])
    monkeypatch.setattr(guard, "_declared", lambda operator: True)
    assert guard.install() is False
    assert guard._kept == []
