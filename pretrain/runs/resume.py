"""Going on from a checkpoint, also on other ranks than wrote it."""

import shutil
from pathlib import Path

from fm.errors import UsageError
from pretrain.engine.engine import Engine
from pretrain.ranks import collective
from pretrain.runs.folder import TAG, Position, RunFolder
from pretrain.runs.universal import convert

SPLIT_KEYS = frozenset({"engine.deepspeed"})
"""Keys of how a run is split over ranks: whether a change can be followed is judged here."""


def must_convert(path: Path, position: Position, stage: int, ranks: int) -> bool:
    """Say whether a checkpoint has to be converted before this many ranks can read it.

    Stage 0 has the whole state on each rank. Stages 1 and 2 split it the same way. DeepSpeed reads
    neither of the three kinds (0; 1 and 2; 3) into another.

    Args:
        path: of the checkpoint, for the message.
        position: of the checkpoint.
        stage: ZeRO's, of this run.
        ranks: of this run.

    Raises:
        UsageError: it cannot be read under this stage.
    """
    then = position.zero_stage
    kind = {0: 0, 1: 1, 2: 1, 3: 3}
    if kind[then] != kind[stage]:
        others = {0: "zero0", 1: "zero1 or zero2", 3: "zero3"}[kind[then]]
        raise UsageError(
            f"{path} was written under ZeRO stage {then}, which DeepSpeed cannot read as stage "
            f"{stage}: set engine.deepspeed to {others} on any number of ranks, or begin a new run "
            f"with its weights (fm pretrain {path} --export FOLDER, then init_from=FOLDER)"
        )
    return stage != 0 and (then, position.world_size) != (stage, ranks)


def load_latest(folder: RunFolder, engine: Engine) -> tuple[Position, str] | None:
    """Load the newest checkpoint; call on every rank.

    Returns:
        where it stands and what it is in words, or None when there is none.

    Raises:
        UsageError: it cannot be read under this ZeRO stage.
        FMError: it is damaged.
    """
    found = collective.on_first(folder.latest)
    if found is None:
        return None
    path, position = found
    ranks = collective.world_size()
    if not must_convert(path, position, engine.zero_stage, ranks):
        engine.load(str(path), TAG)
        return position, str(path)
    _load_converted(folder, path, engine)
    return position, (
        f"{path}; written by {position.world_size} ranks under ZeRO {position.zero_stage}, "
        f"read by {ranks} under ZeRO {engine.zero_stage}"
    )


def _load_converted(folder: RunFolder, path: Path, engine: Engine) -> None:
    """Convert aside, load on all ranks, and leave the checkpoint as it was."""
    aside = folder.checkpoints / f".{path.name}-universal.partial"

    def make() -> None:
        shutil.rmtree(aside, ignore_errors=True)
        convert(path / TAG, aside / TAG)

    try:
        collective.on_first(make)
        engine.load(str(aside), TAG, universal=True)
        collective.barrier()
    finally:
        if collective.rank() == 0:
            shutil.rmtree(aside, ignore_errors=True)
