"""Peers whose pins clash with ours: each in an environment of its own, driven through a pipe.

`python -m bench.peers NAME` makes `bench/.peers/NAME` (it sees the packages of this environment
and adds the peer's own). A peer is a script of this folder: it is given a folder of data and then,
for each line on its input, consumes batches and prints the seconds they took.
"""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

from bench.machine import ROOT
from bench.runner import Ready
from fm.errors import FMError

HOME = ROOT / "bench" / ".peers"
PACKAGES = {
    "litdata": ("litdata==0.2.76",),
    # what else it asks for is here already, torch above all
    "lightly": ("--no-deps", "lightly==1.5.22", "lightly-utils==0.0.2", "aenum==3.1.15"),
    "faiss": ("--no-deps", "faiss-cpu==1.15.1"),
    "mosaicml_streaming": ("mosaicml-streaming==0.13.0",),
    # loaded into the bench's own process: C++ for several releases of torch, nothing else asked for
    "sphericart": ("--no-deps", "sphericart-torch==2.0.4"),
}
"""Peer to what pip installs for it."""


def python(name: str) -> Path:
    """Return the interpreter of a peer's environment."""
    return HOME / name / "bin" / "python"


def install(name: str) -> None:
    """Make a peer's environment."""
    place = HOME / name
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = place / "lib" / version / "site-packages"
    (own / "ours.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [str(python(name)), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *PACKAGES[name]], check=True)


def start(
    name: str, *arguments: str, counted: int, warm: int, script: str | None = None
) -> Ready | None:
    """Start a peer; None when its environment is absent.

    Args:
        name: of the peer.
        arguments: for its script.
        counted: batches it times at each step.
        warm: batches it takes before.
        script: of this folder; `NAME_reader` when None.

    Raises:
        FMError: it stopped.
    """
    if not python(name).exists():
        return None
    path = Path(__file__).parent / f"{script or f'{name}_reader'}.py"
    command = [str(python(name)), str(path), *arguments, str(counted), str(warm)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def answer() -> dict:
        for line in stdout:
            if line.startswith("{"):  # peers print notes of their own
                return json.loads(line)
        raise FMError(f"peer {name} stopped; run {path.name} by hand to see why")

    settings = answer()

    def step() -> float:
        stdin.write("go\n")
        stdin.flush()
        return float(answer()["seconds"])

    def close() -> None:
        stdin.close()
        process.terminate()
        process.wait(30)

    return Ready(step, settings, close)
