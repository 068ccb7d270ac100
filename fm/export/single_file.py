"""A folder with its own loader: one Python file that needs torch and safetensors alone."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import torch

from fm import checkpoint
from fm.card import Card
from fm.errors import UsageError
from fm.export import standalone
from fm.export.graph import Graph, Signature
from fm.export.task import outputs
from fm.export.timm_folder import only_member, why_not_plain
from fm.export.verify import agreement
from fm.export.written import Settings, Written
from fm.models import Backbone, VisionTransformer
from fm.models.plain_resnet import PlainResNet

LOADER = "eofm_model.py"
TOLERANCE = 1e-5


def check_plain(model: Backbone) -> None:
    """Refuse a model that the loader does not hold.

    Raises:
        UsageError: says what it has not.
    """
    reason: str | None = f"{model.architecture.get('name')}"
    if isinstance(model, PlainResNet):
        reason = None
    elif isinstance(model, VisionTransformer):
        reason = why_not_plain(model)
        if reason is None and any(m.channels for g in model.groups.values() for m in g.members):
            only_member(model, "single-file")
    if reason is not None:
        raise UsageError(
            f"single-file has no place for {reason}; export it to torch-export or onnx"
        )


def loaded(path: Path) -> ModuleType:
    """Import a loader from where it lies, as a module of its own."""
    spec = importlib.util.spec_from_file_location("_eofm_exported", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def write(aside: Path, model: Backbone, card: Card, settings: Settings) -> Written:
    """Write weights, card and loader, and compare what the loader gives with ours."""
    check_plain(model)
    checkpoint.save(aside, model, card, overwrite=True)
    shutil.copyfile(standalone.__file__, aside / LOADER)
    theirs = loaded(aside / LOADER).load(aside)
    rows = []
    for values in ("physical", "stored"):
        signature = Signature.of(model, values)
        graph = Graph(model, stored=values == "stored")
        for words, inputs in signature.trials().items():
            with torch.no_grad():
                got = theirs(inputs)
            rows += agreement(
                outputs(graph, inputs),
                got,
                on=f"{values}, {words}",
                tolerance=TOLERANCE if settings.tolerance is None else settings.tolerance,
                what="single-file",
            )
    shown = Signature.of(model, "stored").sample(1, (4, 4), 0)
    arrays = ", ".join(
        f'"{name}": torch.zeros({tuple(x.shape)}, dtype={x.dtype})' for name, x in shown.items()
    )
    use = (
        f"import torch\nfrom {LOADER.removesuffix('.py')} import load\n\n"
        'model = load(".")\n'
        "with torch.no_grad():\n"
        f"    features = model({{{arrays}}})\n"
        'pooled, tokens = features["pooled"], features["tokens"]\n'
    )
    notes = [
        "Needs torch and safetensors.",
        "Integer pixels are stored numbers, floating ones physical; both are normalised inside.",
        *(
            f"`{m}` takes {', '.join(band.name for band in bands)}, in this order."
            for m, bands in model.bands.items()
        ),
    ]
    return Written(rows, use, notes)
