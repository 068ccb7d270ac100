"""The machine, the versions and the state of the source, as a run records them."""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from fm.version import __version__
from pretrain.ranks import collective


def environment() -> dict[str, Any]:
    """Describe the machine, the versions and the state of the source."""
    packages = ("torch", "timm", "deepspeed", "numpy", "webdataset")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {"eofm": __version__, **{name: version(name) for name in packages}},
        "threads": torch.get_num_threads(),
        "world_size": collective.world_size(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": sys.argv,
        "git": _git_state(),
    }


def _git_state() -> dict[str, Any] | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        words = ["git", "-C", str(root)]
        commit = subprocess.run(
            [*words, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(
            [*words, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "changed": bool(changes.strip())}
