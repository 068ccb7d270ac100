"""Weights & Biases, for those who want it: offline it needs no network."""

import secrets
from importlib import import_module
from typing import Any, Literal

from fm.errors import FMError
from fm.files import write_atomic
from pretrain.config import RunConfig
from pretrain.runs.folder import RunFolder

ID = "wandb-id"
"""File in the run folder: a run that goes on is the same run there."""


class WandbLog:
    """Logs to one W&B run; only the first rank begins it.

    Args:
        config: of the run.
        folder: where `wandb/` lies.
        mode: `offline` writes there alone (`wandb sync` sends it later).

    Raises:
        FMError: the package is not installed.
    """

    def __init__(
        self, config: RunConfig, folder: RunFolder, mode: Literal["offline", "online"]
    ) -> None:
        self._config, self._folder, self._mode = config, folder, mode
        self._run: Any = None
        try:
            self._wandb: Any = import_module("wandb")
        except ImportError as error:
            raise FMError(
                f"monitor.wandb={mode} needs the package wandb ({error}); pip install "
                f"'eofm[wandb]', or set monitor.wandb=null"
            ) from None

    def begin(self) -> None:
        """Start the run, or go on with it."""
        path = self._folder.path / ID
        if not path.exists():
            write_atomic(path, secrets.token_hex(4) + "\n")
        self._run = self._wandb.init(
            id=path.read_text().strip(),
            resume="allow",
            mode=self._mode,
            dir=str(self._folder.path),
            name=self._config.name,
            config=self._config.model_dump(mode="json"),
            settings=self._wandb.Settings(console="off", silent=True),
        )

    def log(self, values: dict[str, float], step: int) -> None:
        """Log one line."""
        self._run.log(values, step=step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()
