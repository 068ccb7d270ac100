"""One checkpoint on its way: each rank's files, then the move that makes them a checkpoint."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from fm.files import fsync_folder, fsync_tree, write_atomic, write_json
from pretrain.runs.folder import LATEST, Position, RunFolder
from pretrain.runs.retention import PREFIX, name_of, surplus

WRITTEN = ".written-"
"""Marks, in the folder aside, that a rank's files are whole and durable."""


def begin(folder: RunFolder, name: str) -> Path:
    """Make the folder aside of a checkpoint, and remove those of writes that did not end."""
    for old in folder.checkpoints.glob(".*.partial"):
        shutil.rmtree(old)
    aside = folder.checkpoints / f".{name}.partial"
    aside.mkdir(parents=True)
    return aside


class Flight:
    """A thread that writes a rank's files; on rank 0 also moves the checkpoint in.

    It calls no collectives: those of the training go on meanwhile, and a second thread that spoke
    over the same group would mix with them, while a group of its own would wait for ever for a
    rank that died. What ranks must know of each other here is one mark a rank in the folder aside,
    which all of them see or they could not resume from it.

    Args:
        folder: of the run.
        aside: where the files go.
        position: where the checkpoint stands.
        write: writes this rank's files and makes them durable.
        rank: of this process.
        keep: newest checkpoints that stay.
        milestones: steps between those that stay for ever.
    """

    def __init__(
        self,
        folder: RunFolder,
        aside: Path,
        position: Position,
        write: Callable[[], None],
        *,
        rank: int,
        keep: int,
        milestones: int | None,
    ) -> None:
        self.aside, self.position = aside, position
        self.error: Exception | None = None
        self._done = False
        self._folder, self._write, self._rank = folder, write, rank
        self._keep, self._milestones = keep, milestones
        self._cancelled, self._wrote = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        """This rank has done all of its part."""
        return self._done

    def wait_written(self) -> None:
        """Wait until this rank's files are written, or cannot be."""
        self._wrote.wait()

    def join(self, seconds: float | None = None) -> None:
        """Wait until this rank has nothing to do any more."""
        self._thread.join(seconds)

    def cancel(self) -> None:
        """Stop waiting for other ranks: one of them cannot write."""
        self._cancelled.set()

    def _run(self) -> None:
        try:
            self._write()
            write_atomic(self.aside / f"{WRITTEN}{self._rank}", "")
            self._wrote.set()
            if self._rank == 0 and self._all_wrote():
                self._land()
            self._done = True
        except Exception as error:  # of the disk, or of torch's writer; told at the next step
            self.error = error
        finally:
            self._wrote.set()

    def _all_wrote(self) -> bool:
        marks = {f"{WRITTEN}{rank}" for rank in range(self.position.world_size)}
        while not marks <= set(os.listdir(self.aside)):
            if self._cancelled.wait(0.02):
                return False
        return True

    def _land(self) -> None:
        """Move the checkpoint in, then point `latest` to it, then remove what need not stay."""
        name, checkpoints = name_of(self.position.step), self._folder.checkpoints
        for mark in self.aside.glob(f"{WRITTEN}*"):
            mark.unlink()
        write_json(self.aside / "position.json", self.position.__dict__)
        fsync_tree(self.aside)
        target = checkpoints / name
        if target.exists():  # the same step again, after a forced resume
            _remove(target)
        os.replace(self.aside, target)
        fsync_folder(checkpoints)
        write_atomic(self._folder.path / LATEST, name + "\n")
        there = [found.name for found in checkpoints.glob(f"{PREFIX}*")]
        for old in surplus(there, name, self._keep, self._milestones):
            _remove(checkpoints / old)


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint; a kill on the way leaves nothing that looks like one."""
    doomed = checkpoint.with_name(f".{checkpoint.name}-old.partial")
    os.replace(checkpoint, doomed)
    shutil.rmtree(doomed)
