"""`torch.export`: one `.pt2` file that needs torch and nothing of ours."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fm.card import Card
from fm.errors import UsageError
from fm.export.open_bands import task_of
from fm.export.task import Task, outputs
from fm.export.verify import agreement
from fm.export.written import Settings, Written
from fm.models import Backbone

FILE, ABOUT = "model.pt2", "eofm.json"
TOLERANCE = 1e-5
NOT_ANY_SIZE = (
    "the model cannot be traced for every image size ({}); fix the size with --tokens ROWSxCOLUMNS"
)


def program(task: Task) -> torch.export.ExportedProgram:
    """Trace a function, with everything that may vary left open.

    Raises:
        UsageError: the model does not bear sizes that vary.
    """
    from torch._dynamo.exc import UserError

    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(task.graph, (task.traced(),), dynamic_shapes=(task.dims(),))
    except UserError as error:
        if task.fixed:
            raise
        raise UsageError(NOT_ANY_SIZE.format(str(error).splitlines()[0])) from error


def tensors(values: Mapping[str, Tensor]) -> str:
    """Return Python that makes zeros of the right kind and shape."""
    shown = ", ".join(
        f'"{name}": torch.zeros({tuple(x.shape)}, dtype={x.dtype})' for name, x in values.items()
    )
    return f"{{{shown}}}"


def fill(aside: Path, task: Task, tolerance: float | None) -> Written:
    """Write `model.pt2` and compare what is on the disk with ours."""
    about = task.about()
    told = json.dumps({"eofm": {**about, "card": task.told()}})
    torch.export.save(program(task), aside / FILE, extra_files={ABOUT: told})
    again: Any = torch.export.load(aside / FILE).module()
    rows = []
    for words, inputs in task.trials().items():
        try:
            got = outputs(again, inputs)
        except AssertionError as error:  # a guard: the trace holds for other sizes only
            raise UsageError(NOT_ANY_SIZE.format(str(error).splitlines()[0])) from error
        rows += agreement(
            task.wanted(inputs),
            got,
            on=words,
            tolerance=TOLERANCE if tolerance is None else tolerance,
            what="torch-export",
        )
    use = (
        "import torch\n\n"
        f'model = torch.export.load("{FILE}").module()\n'
        f"inputs = {tensors(task.example())}\n"
        "with torch.no_grad():\n"
        "    results = model(inputs)\n"
        + "".join(f'{name} = results["{name}"]\n' for name in task.results)
    )
    return Written(rows, use, task.words(), about)


def write(aside: Path, model: Backbone, card: Card, settings: Settings) -> Written:
    """Write a backbone as a `.pt2` file."""
    return fill(aside, task_of(model, card, settings), settings.tolerance)
