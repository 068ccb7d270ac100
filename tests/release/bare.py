"""Environments that hold what a package declares and nothing else, made without downloads.

The distributions come from this environment as links. So what runs there runs with the declared
dependencies alone: what an extra or the development tools bring is not importable.
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement


def closure(requirements: Iterable[str]) -> dict[str, Distribution]:
    """Distributions that requirements ask for, and those that these ask for in turn."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        wanted = todo.pop()
        extras = frozenset({"", *wanted.extras})
        if (wanted.name.lower(), extras) in seen:
            continue
        seen.add((wanted.name.lower(), extras))
        found[wanted.name.lower()] = one = distribution(wanted.name)
        for text in one.requires or ():
            asked = Requirement(text)
            if asked.marker is None or any(asked.marker.evaluate({"extra": e}) for e in extras):
                todo.append(asked)
    return found


def make(folder: Path, requirements: Iterable[str]) -> Path:
    """Make an environment of the closure of requirements; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for one in closure(requirements).values():
        for top in {file.parts[0] for file in one.files or ()} - {"..", "__pycache__"}:
            source = Path(str(one.locate_file(top)))
            if source.suffix != ".pth" and source.exists() and not (site / top).exists():
                (site / top).symlink_to(source.resolve())
    return folder / "bin" / "python"


def install(python: Path, file: Path) -> None:
    """Install a wheel or an sdist by pip, with no index and no other package."""
    words = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index"]
    subprocess.run([*words, "--no-deps", "--no-build-isolation", "-q", str(file)], check=True)


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing of this tree on its path; it must succeed."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(words, cwd=folder, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
