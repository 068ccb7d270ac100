"""Judging a model: benchmarks, protocols, floors, intervals, and the results they leave.

    result = probes.evaluate("runs/mae/export", "indian-pines", "linear", data="data/indian-pines")

Names are loaded when they are first used, so `import probes` loads neither torch nor pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probes.benchmarks import list_benchmarks
    from probes.judging.evaluation import evaluate, evaluate_many
    from probes.protocols import list_protocols
    from probes.result import Result

_HOME = {
    "Result": "probes.result",
    "evaluate": "probes.judging.evaluation",
    "evaluate_many": "probes.judging.evaluation",
    "list_benchmarks": "probes.benchmarks",
    "list_protocols": "probes.protocols",
}

__all__ = ["Result", "evaluate", "evaluate_many", "list_benchmarks", "list_protocols"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'probes' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
