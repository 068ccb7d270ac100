"""A patch that has become broken code is told from a defect that comes back."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.broken import broken_code

CASES = {
    "name_that_is_gone": ("return gone()", "assert it() == 1", "NameError"),
    "attribute_that_is_gone": ("return str.gone", "assert it() == 1", "AttributeError"),
    "raised_below_it": ("return os.fspath(1)", "it()", "TypeError"),
    "wrong_value": ("return 2", "assert it() == 1", None),
    "other_kind": ("raise ValueError('no')", "it()", None),
    "in_the_test": ("return None", "it().gone", None),
    "handled": (
        "\n    try: str.gone\n    except AttributeError: raise ValueError('no')",
        "it()",
        None,
    ),
    "told_by_a_process": (
        "return gone()",
        "\n    try: it()\n    except NameError: told = traceback.format_exc()\n    assert 0, told",
        "NameError",
    ),
}
"""What a function does, what its test does, and the kind of the error that is told."""
HERE = "code_of_it.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Run a test for each case, as the mutants' runner does; return where, and what is printed."""
    folder = tmp_path_factory.mktemp("project")
    code, tests = ["import os"], ["import traceback", "import code_of_it"]
    for name, (does, asks, _) in CASES.items():
        code.append(f"def {name}(): {does}")
        body = asks if asks.startswith("\n") else f"\n    {asks}"
        tests.append(f"def test_{name}():\n    it = code_of_it.{name}{body}")
    (folder / HERE).write_text("\n".join(code) + "\n")
    (folder / "test_it.py").write_text("\n".join(tests) + "\n")
    words = ["-m", "pytest", "-q", "--tb=native", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    parts = re.split(r"^_+ test_(\w+) _+$", done.stdout, flags=re.MULTILINE)
    printed = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert printed.keys() == CASES.keys(), done.stdout
    return folder, printed


@pytest.mark.parametrize("case", CASES)
def test_only_broken_lines_of_the_patch_are_told(
    case: str, run: tuple[Path, dict[str, str]]
) -> None:
    folder, printed = run
    kind = CASES[case][2]
    found = broken_code(printed[case], folder, [HERE])
    assert (found and found[0]) == kind
    if found:
        assert found[1].startswith(f"{HERE}:")
    assert broken_code(printed[case], folder, ["other.py"]) is None
    assert broken_code(printed[case], folder / "elsewhere", [HERE]) is None
