"""ONNX: one file for onnxruntime and whatever else reads it."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fm.card import Card
from fm.errors import FMError
from fm.export.open_bands import task_of
from fm.export.task import Task
from fm.export.torch_export import program
from fm.export.verify import agreement
from fm.export.written import Settings, Written
from fm.models import Backbone

FILE = "model.onnx"
TOLERANCE = 1e-4
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_installed() -> None:
    """Refuse where a package is missing.

    Raises:
        FMError: names it.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise FMError(f"ONNX needs {', '.join(missing)}: pip install 'eofm[onnx]'")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress to itself; errors are raised all the same."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def save(
    traced: torch.export.ExportedProgram,
    path: Path,
    inputs: list[str],
    results: list[str],
    told: dict[str, Any],
) -> None:
    """Turn an exported program into an ONNX file.

    Args:
        traced: by `torch.export`.
        path: of the file; weights beyond 2 GB go beside it, as the format demands.
        inputs: their names in order.
        results: names of the outputs in order.
        told: name to plain values, which become metadata as JSON.
    """
    with _quiet():
        made = torch.onnx.export(
            traced, input_names=inputs, output_names=results, dynamo=True, verbose=False
        )
        assert made is not None
        for name, value in told.items():
            made.model.metadata_props[name] = json.dumps(value)
        made.save(path)


def _refused(error: Exception) -> FMError:
    return FMError(f"onnx: onnxruntime does not run it ({str(error).splitlines()[0]})")


class Session:
    """An ONNX file under onnxruntime on the CPU.

    Raises:
        FMError: onnxruntime lacks an operator of it.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what fails is raised
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common base
            raise _refused(error) from error

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph.

        Raises:
            FMError: it does not run.
        """
        names = [output.name for output in self.session.get_outputs()]
        try:
            got = self.session.run(names, {name: x.numpy() for name, x in inputs.items()})
        except Exception as error:
            raise _refused(error) from error
        return {name: torch.from_numpy(x) for name, x in zip(names, got, strict=True)}


def fill(aside: Path, task: Task, tolerance: float | None) -> Written:
    """Write `model.onnx` and compare it under onnxruntime with ours."""
    check_installed()
    about = task.about()
    told = {"eofm": about, "card": task.told()}
    save(program(task), aside / FILE, task.names(), list(task.results), told)
    session = Session(aside / FILE)
    rows = []
    for words, inputs in task.trials().items():
        rows += agreement(
            task.wanted(inputs),
            session(inputs),
            on=words,
            tolerance=TOLERANCE if tolerance is None else tolerance,
            what="onnx",
        )
    arrays = ", ".join(
        f'"{name}": np.zeros({tuple(x.shape)}, np.{str(x.dtype).removeprefix("torch.")})'
        for name, x in task.example().items()
    )
    wanted = ", ".join(f'"{name}"' for name in task.results)
    use = (
        "import numpy as np\nimport onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{FILE}")\n'
        f"inputs = {{{arrays}}}\n"
        f"results = session.run([{wanted}], inputs)\n"
    )
    notes = [*task.words(), "The file's metadata has `eofm` (inputs) and `card`, both JSON."]
    return Written(rows, use, notes, about)


def write(aside: Path, model: Backbone, card: Card, settings: Settings) -> Written:
    """Write a backbone as an ONNX file."""
    return fill(aside, task_of(model, card, settings), settings.tolerance)
