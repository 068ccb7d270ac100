"""The packages a run imports: are they there, do they fit, do they import?"""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from fm.doctor.finding import Finding
from fm.version import __version__

TOLD = ("torch", "torchvision", "timm", "deepspeed", "torchgeo", "webdataset", "numpy")
IMPORT_SECONDS = 180
_ASK_DEEPSPEED = """
import json, os
import torch
if not torch.cuda.is_available():
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
import deepspeed
from deepspeed.git_version_info import installed_ops
print(json.dumps({"ready": sorted(name for name, built in installed_ops.items() if built)}))
"""


def versions() -> Iterator[Finding]:
    """Compare what is installed with what eofm declares."""
    from packaging.requirements import Requirement

    told = {}
    try:
        declared = requires("eofm") or []
    except PackageNotFoundError:
        yield Finding("eofm", "not installed", "stop", "pip install -e . in its folder")
        return
    for text in declared:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield Finding(wanted.name, "not installed", "stop", f"pip install '{text}'")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            yield Finding(
                wanted.name, f"{found}, wanted {wanted.specifier}", "stop", f"pip install '{text}'"
            )
        told[wanted.name] = found
    told["torchvision"] = told.get("torchvision") or _version("torchvision")
    listed = ", ".join(f"{name} {told[name]}" for name in TOLD if name in told)
    yield Finding("packages", f"eofm {__version__}, {listed}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def deepspeed() -> Finding:
    """Import DeepSpeed in another process and say which of its operators are built."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_DEEPSPEED],
            capture_output=True,
            text=True,
            check=False,
            timeout=IMPORT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Finding(
            "deepspeed",
            f"not imported after {IMPORT_SECONDS} s",
            "stop",
            "look for a lock below, or try python -c 'import deepspeed'",
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding(
            "deepspeed", f"cannot be imported: {last}", "stop", "pip install --force-reinstall it"
        )
    ops: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    built = ", ".join(ops["ready"]) or "none"
    return Finding(
        "deepspeed",
        f"imports; operators built with it: {built}; a run compiles none (torch's fused AdamW, "
        f"gloo in place of the shared-memory collective)",
    )
