"""`fm doctor`: is this machine ready?"""

import argparse
import os
import platform
import shutil
import sys
import time
from importlib.metadata import PackageNotFoundError, version

from fm.command import Command

PACKAGES = ("eofm", "torch", "torchvision", "timm", "deepspeed", "torchgeo", "webdataset", "numpy")


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _bfloat16() -> str:
    import torch

    from fm.hardware import native_bfloat16

    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return "native" if native_bfloat16(place) else "emulated: use engine.precision=fp32 here"


def _collective() -> str:
    """Time one all-reduce in a group of one."""
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        return "torch.distributed is not available"
    joined = not dist.is_initialized()
    if joined:
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    started = time.perf_counter()
    x = torch.ones(1024)
    dist.all_reduce(x)
    took = time.perf_counter() - started
    if joined:
        dist.destroy_process_group()
    return f"works ({1000 * took:.1f} ms)" if bool((x == 1).all()) else "wrong result"


def _run(arguments: argparse.Namespace) -> int:
    import json

    import torch

    from fm import torchvision_guard

    declared = torchvision_guard.install()
    facts = {
        "python": f"{platform.python_version()} ({sys.executable})",
        **{name: _version(name) for name in PACKAGES},
        "torchvision operators": "declared by eofm (CPU torch)" if declared else "its own",
        "devices": ", ".join(
            torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
        )
        or f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "bfloat16": _bfloat16(),
        "package cache": os.environ.get("EOFM_CACHE", "EOFM_CACHE is not set"),
        "free disk here": f"{shutil.disk_usage('.').free / 2**30:.1f} GiB",
        "collective": _collective(),
    }
    missing = [name for name in PACKAGES if facts[name] == "not installed"]
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name:<22} {value}")
        print(f"missing: {', '.join(missing)}; pip install eofm" if missing else "ready")
    return 1 if missing else 0


command = Command(
    help="versions, devices, caches, disk, a short collective test",
    example="fm doctor",
    configure=_configure,
    run=_run,
)
