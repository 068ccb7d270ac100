"""torchvision, and so timm and torchgeo, imports beside whatever torch is installed."""

import subprocess
import sys

import pytest

import fm.torchvision_guard as guard


def fresh(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


FRESH = """
import os, sys
import torch
if not os.fork():  # the same imports, without the guard
    import torchvision
    os._exit(0)
bare = os.waitstatus_to_exitcode(os.wait()[1])
from fm.torchvision_guard import install
first, second = install(), install()
import torchvision
print(bare, first, first == second, torchvision.ops.nms.__name__)
"""


@pytest.fixture(scope="module")
def guarded() -> subprocess.CompletedProcess:
    """Status of a bare import, whether the guard acted, and again alike, an operator's name."""
    return fresh(FRESH)


def test_torchvision_imports_after_the_guard(guarded: subprocess.CompletedProcess) -> None:
    assert guarded.returncode == 0, guarded.stderr
    assert guarded.stdout.split()[2:] == ["True", "nms"]


def test_guard_acts_exactly_where_the_import_fails(guarded: subprocess.CompletedProcess) -> None:
    bare, acted = guarded.stdout.split()[:2]
    assert acted == str(bare != "0" and "torchvision::nms" in guarded.stderr), guarded.stderr


def test_nothing_is_declared_where_the_library_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_kept", [])
    monkeypatch.setattr(guard, "_declared", lambda operator: True)
    assert guard.install() is False
    assert guard._kept == []
