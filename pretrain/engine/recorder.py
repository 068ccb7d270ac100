"""Between DeepSpeed and its files: what it would write now is kept, to be written later."""

import os
from collections.abc import Callable
from typing import Any

from pretrain.engine.snapshot import HostBuffers

UNIVERSAL = {"universal_checkpoint_info": {"universal_checkpoint_version": 0.4}}
"""Client state that DeepSpeed's converter to other numbers of ranks asks for."""


class Recorder:
    """Stands in for DeepSpeed's checkpoint engine, which goes on doing the reading and writing.

    Args:
        engine: DeepSpeed's; its `checkpoint_engine` is replaced.
    """

    def __init__(self, engine: Any) -> None:
        self._files = engine.checkpoint_engine
        self._engine, self._buffers = engine, HostBuffers()
        self._kept: list[tuple[Any, str]] = []
        self._copy = True
        engine.checkpoint_engine = self
        # it copies scripts of its own into each checkpoint, on rank 0 alone: a full disk there
        # would leave the other ranks waiting
        engine._copy_recovery_script = lambda folder: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def save(self, state_dict: Any, path: str) -> None:
        """Keep what DeepSpeed wants written; it calls this."""
        name = os.path.basename(path)
        kept = self._buffers.take(name, state_dict) if self._copy else state_dict
        self._kept.append((kept, path))

    def record(
        self, folder: str, tag: str, client_state: dict[str, Any], *, aside: bool
    ) -> Callable[[], None]:
        """Let DeepSpeed save into (folder, tag), and keep what it saves; call on every rank.

        Args:
            folder: the checkpoint's.
            tag: of the folder in it.
            client_state: what goes into the file of the model.
            aside: copy the state to host memory, because training goes on before it is written.

        Returns:
            writes this rank's files and makes them durable; calls nothing of other ranks.
        """
        self._kept, self._copy = [], aside
        try:
            self._engine.save_checkpoint(
                folder, tag=tag, client_state=client_state, save_latest=False
            )
        finally:
            kept, self._kept = self._kept, []

        def write() -> None:
            while kept:
                state, path = kept.pop(0)
                self._files.save(state, path)
                del state
                with open(path, "rb") as stream:
                    os.fsync(stream.fileno())

        return write
