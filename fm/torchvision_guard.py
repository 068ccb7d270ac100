"""Let torchvision import beside a torch it was not built for.

timm and torchgeo import torchvision. Where only a CPU build of torch and only a CUDA build of
torchvision can be had, torchvision's compiled library cannot be loaded (it links CUDA), it goes
on without it, and then dies at import because it attaches a shape rule to `torchvision::nms`, an
operator which that library would have declared:

    RuntimeError: operator torchvision::nms does not exist

The cure is to declare the operators (their signatures, not their kernels) before torchvision is
imported. Everything in torchvision that is plain Python then works; calling an operator that
needs the compiled library still raises. Where the library loads, nothing is done.
"""

import contextlib
import importlib.machinery
import importlib.util
from pathlib import Path

import torch

_DECLARATIONS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []
"""Declarations live as long as this list holds them."""


def _declared(operator: str) -> bool:
    return hasattr(torch.ops.torchvision, operator)


def _compiled_library(package: Path) -> Path | None:
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        if (package / f"_C{suffix}").exists():
            return package / f"_C{suffix}"
    found = sorted(package.glob("_C*.so")) + sorted(package.glob("_C*.pyd"))
    return found[0] if found else None


def install() -> bool:
    """Make `import torchvision` safe.

    Returns:
        True if the operators had to be declared; False if torchvision is absent or works.
    """
    if _kept:
        return True
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    library = _compiled_library(Path(spec.origin).parent)
    if library is not None:
        # an OSError says it links libraries this torch does not carry: the case to cure
        with contextlib.suppress(OSError):
            torch.ops.load_library(str(library))
    if _declared("nms"):
        return False
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    for declaration in _DECLARATIONS:
        if not _declared(declaration.split("(")[0]):
            fragment.define(declaration)
    _kept.append(fragment)
    return True
