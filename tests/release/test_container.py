"""The container recipe: what it copies is there, what it installs is ours, who runs it is nobody.

No container is built here. `docs/releasing.md` has the commands that do, and what they were run on.
"""

import fnmatch
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def instructions(text: str) -> list[tuple[str, str]]:
    """Instruction and words of each step, comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    steps = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(name.upper(), words.strip()) for name, words in steps]


STEPS = instructions(TEXT)
LAST = STEPS[max(i for i, (name, _) in enumerate(STEPS) if name == "FROM") :]


def default(name: str) -> str:
    (found,) = [w.partition("=")[2] for n, w in STEPS if n == "ARG" and w.startswith(f"{name}=")]
    return found


def copied() -> list[str]:
    """What is copied out of the context (not from an earlier stage)."""
    words = [w.split() for n, w in STEPS if n == "COPY" and not w.startswith("--from")]
    return [source for line in words for source in line[:-1]]


def sent(path: str) -> bool:
    """Whether `.dockerignore` lets a path through; the last line that fits decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            parts = [path, *Path(path).parts] if "**/" in line else [path, path.split("/")[0]]
            if any(fnmatch.fnmatchcase(part, pattern) for part in parts):
                kept = line.startswith("!")
    return kept


def test_the_base_is_a_tag_of_the_python_that_we_test() -> None:
    name, _, tag = default("BASE").partition(":")
    assert name == "python"
    assert re.fullmatch(r"3\.11(\.\d+)?-slim(-\w+)?", tag)
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    bases = {words.split()[0] for n, words in STEPS if n == "FROM"}
    assert bases == {"${BASE}"}
    assert "://" not in TEXT  # no host but the one that a plain FROM means


def test_everything_copied_is_there_and_sent() -> None:
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert sent(source), f"{source} is copied, and .dockerignore keeps it away"


def test_nothing_else_is_sent() -> None:
    there = {path.name for path in ROOT.iterdir()}
    assert {name for name in there if sent(name)} == set(copied()) & there
    assert sent("fm/page/base.css")
    assert not sent("fm/__pycache__/cli.cpython-311.pyc")
    assert not sent("runs/mae/export/model.safetensors")


def test_what_the_wheel_is_made_of_is_copied() -> None:
    built = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    readme, licences = PROJECT["project"]["readme"], PROJECT["project"]["license-files"]
    needed = {*built["packages"], *built["force-include"], readme, *licences, "pyproject.toml"}
    assert needed | {"constraints.txt"} == set(copied())


def test_pip_installs_our_own_files_with_our_pins() -> None:
    installs = re.findall(r"pip install ([^&]+)", " ".join(w for n, w in STEPS if n == "RUN"))
    assert len(installs) == 2
    for words in installs:
        assert words.startswith("-c constraints.txt ")
    asked = set(installs[0].split()[2:])
    pins = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert asked <= pins
    assert installs[1].split()[2:] == ['".[${EXTRAS}]"']
    assert set(default("EXTRAS").split(",")) <= set(PROJECT["project"]["optional-dependencies"])


def test_the_last_stage_has_no_tools_and_no_root() -> None:
    for name, words in LAST:
        for tool in ("pip", "gcc", "g++", "build-essential", "curl", "git"):
            assert name == "ENV" or not re.search(rf"(?<![\w.-]){re.escape(tool)}\b", words), words
    (user,) = [words for name, words in LAST if name == "USER"]
    assert user.isdigit()
    assert int(user) > 0
    assert f"--uid {user} " in dict(LAST)["RUN"]
    assert [name for name, _ in LAST].index("USER") > [name for name, _ in LAST].index("RUN")
    assert dict(LAST)["ENTRYPOINT"] == '["fm"]'
    assert "fm" in PROJECT["project"]["scripts"]


@pytest.mark.parametrize(
    ("torch", "index", "machine", "status"),
    [
        ("cpu", "", "x86_64", 1),
        ("cpu", "named", "x86_64", 0),
        ("cpu", "", "aarch64", 0),
        ("cuda", "", "x86_64", 0),
    ],
)
def test_the_cpu_build_is_asked_for_before_gigabytes_come(
    torch: str, index: str, machine: str, status: int, tmp_path: Path
) -> None:
    (step,) = [words for name, words in STEPS if name == "RUN" and "uname" in words]
    uname = tmp_path / "uname"
    uname.write_text(f"#!/bin/sh\necho {machine}\n")
    uname.chmod(0o755)
    told = {"TORCH": torch, "TORCH_INDEX": index, "PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", step], env=told, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert len(done.stderr.splitlines()) == status
    assert ("--build-arg TORCH=cuda" in done.stderr) == bool(status)


def test_another_build_of_torch_is_refused() -> None:
    (step,) = [words for name, words in STEPS if name == "RUN" and "torch.version" in words]
    code = re.search(r'python -c "(.+)"', step)
    assert code is not None
    import torch

    has = "cuda" if torch.version.cuda else "cpu"
    other = {"cpu": "cuda", "cuda": "cpu"}[has]
    with pytest.raises(SystemExit) as stopped:
        exec(code[1].replace("$TORCH", other))
    assert f"is the build for {has}, asked was {other}" in str(stopped.value)
    with pytest.raises(SystemExit) as stopped:
        exec(code[1].replace("$TORCH", has))
    assert stopped.value.code is None
