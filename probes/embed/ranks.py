"""Several processes of a launcher that share one result: each makes its part of the pieces.

The first of them holds the work folder and puts the result together; the others write their pieces
into the same file and journal (`probes.embed.stage`). They must see the same folder. What they tell
each other is little (when all may begin, how much was made), so gloo serves for every device.
"""

import contextlib
import datetime
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from fm.errors import FMError, UsageError
from probes.embed.stage import Stage, opened, show, shown, work_folder

_LONG = datetime.timedelta(days=30)
"""Ranks wait for the slowest, however long; one that ends tells the others at once."""
PATIENCE = 60.0
"""Seconds until what one machine wrote is seen by another: NFS keeps names so long (acdirmax)."""
Piece = TypeVar("Piece")


class Ended(NamedTuple):
    """What all processes made, and the seconds of the slowest."""

    made: int
    seconds: float

    @property
    def rate(self) -> float:
        """Made in a second."""
        return self.made / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Ranks:
    """This process among those of the launcher.

    Attributes:
        rank: from 0.
        count: of processes.
        local: number of this process on its machine.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def of_launcher(cls) -> "Ranks":
        """Read what `torchrun` says; one process where nothing is said.

        Raises:
            UsageError: no whole numbers, or a rank that is none of theirs.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        told = [os.environ.get(name, default) for name, default in zip(names, "010", strict=True)]
        try:
            rank, count, local = map(int, told)
        except ValueError:
            rank, count, local = -1, 0, 0
        if not 0 <= rank < count:
            raise UsageError(f"{', '.join(names)} are {', '.join(told)}; start ranks by torchrun")
        return cls(rank, count, local)

    @property
    def first(self) -> bool:
        """Whether this process puts the result together."""
        return self.rank == 0

    def device(self, workers: int) -> torch.device:
        """Return where this process computes: the CUDA device of its number, or the CPU.

        Raises:
            UsageError: several workers, which are forked, and a CUDA device.
        """
        devices = torch.cuda.device_count()
        if not devices:
            return torch.device("cpu")
        if workers > 1:
            raise UsageError(
                "--workers forks processes, which CUDA does not survive; start a process a device: "
                "torchrun --nproc-per-node N -m fm embed ..."
            )
        return torch.device("cuda", self.local % devices)

    def part(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        """Return this process's share."""
        return pieces[self.rank :: self.count]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Hold the connections between the processes.

        Raises:
            FMError: they do not find each other.
        """
        if self.count == 1:
            yield
            return
        try:
            torch.distributed.init_process_group("gloo", timeout=_LONG)
        except (RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())[:160]
            raise FMError(f"rank {self.rank} does not find the others ({why})") from None
        try:
            yield
        finally:
            torch.distributed.destroy_process_group()

    @contextlib.contextmanager
    def opened(
        self,
        out: Path,
        job: Mapping[str, Any],
        shape: Sequence[int],
        bounds: Sequence[int],
        **how: Any,
    ) -> Iterator[Stage]:
        """Open the work of a result on all processes; see `probes.embed.stage.opened`.

        No process writes a piece before all have read which are there.

        Raises:
            FMError: some do not see the folder of the first, and all say so.
        """
        if self.first:
            with opened(out, job, **how) as folder:
                stage = Stage(folder, shape, bounds)  # before the others: it mends a torn journal
                if self.count > 1:
                    self._see(out, show(folder))
                self.meet()
                yield stage
        else:
            self._see(out, 0)
            stage = Stage(work_folder(out), shape, bounds)
            self.meet()
            yield stage

    def _see(self, out: Path, number: int) -> None:
        """Compare what the first process wrote into the work folder with what lies there here."""
        number, until = self._sum(number), time.monotonic() + PATIENCE
        while (here := shown(work_folder(out))) != number and time.monotonic() < until:
            time.sleep(0.1)
        if blind := self._sum(int(here != number)):
            raise FMError(
                f"{work_folder(out)}: {blind} of {self.count} ranks do not see what the first "
                f"wrote there; give an --out on a disk that all machines share"
            )

    def finished(self, stage: Stage, made: int, begun: float) -> Ended | None:
        """Wait until all processes have made their part.

        Args:
            stage: of the work.
            made: steps of this process.
            begun: when it began, of `time.perf_counter`.

        Returns:
            on the first process what all made; None on the others, which are done.

        Raises:
            FMError: a process ended, or a piece is not there.
        """
        spent = time.perf_counter() - begun
        if self.count == 1:
            return Ended(made, spent)
        total = self._sum(made)
        slowest = self._largest(spent)
        if not self.first:
            return None
        if left := Stage(stage.folder, stage.shape, stage.bounds).left:
            raise FMError(
                f"{stage.folder}: {len(left)} pieces of other ranks are not there; all must see "
                f"the same folder; run it again"
            )
        return Ended(total, slowest)

    def meet(self) -> None:
        """Wait for all processes.

        Raises:
            FMError: one of them ended.
        """
        self._sum(0)

    def _sum(self, number: int) -> int:
        return int(self._reduce(torch.tensor(number), torch.distributed.ReduceOp.SUM))

    def _largest(self, number: float) -> float:
        told = torch.tensor(number, dtype=torch.float64)
        return float(self._reduce(told, torch.distributed.ReduceOp.MAX))

    def _reduce(self, number: torch.Tensor, how: Any) -> torch.Tensor:
        if self.count > 1:
            try:
                torch.distributed.all_reduce(number, how)
            except RuntimeError:
                raise FMError(
                    f"rank {self.rank}: another rank ended; what is done is kept, the same command "
                    f"goes on"
                ) from None
        return number
