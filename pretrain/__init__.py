"""Learn from shards: objectives, the DeepSpeed engine, runs that can be interrupted."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pretrain.finish import RunResult
    from pretrain.trainer import load_config, run

__all__ = ["RunResult", "load_config", "run"]


def __getattr__(name: str) -> Any:
    """Import the heavy parts when they are first asked for (PEP 562)."""
    if name in __all__:
        from importlib import import_module

        room = "pretrain.finish" if name == "RunResult" else "pretrain.trainer"
        return getattr(import_module(room), name)
    raise AttributeError(f"module 'pretrain' has no attribute {name!r}")
