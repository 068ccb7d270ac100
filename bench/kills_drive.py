"""When and how the run is killed: moments are aimed at by watching its folder, then drawn."""

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from bench.kills_life import STARTED, Life, Run
from fm.errors import FMError
from pretrain.monitors.online_probe import PROBES
from pretrain.runs.folder import CHECKPOINTS, LATEST, METRICS, STATE, read_lines

POLL = 0.0005
"""Seconds between looks at the run folder."""
PATIENCE = 120.0
"""Seconds until a life that does nothing is given up."""
LEAVE = 60.0
"""Seconds that the other processes have to end after one was killed."""

START, STEP, CHECKPOINT, PROBE = "start", "step", "checkpoint", "probe"
STOP, TERM, END = "stop", "term", "end"
"""Aims: while a life begins, in a step, in a checkpoint's writing, in an online probe, between
SIGTERM and its end, SIGTERM alone, and between the last step and the end of the run."""
MIDDLE = (CHECKPOINT, PROBE, STOP, TERM, STEP, CHECKPOINT, START, PROBE, STEP, CHECKPOINT, STOP)
"""Aims before the run's end, in turns."""
ENDED = "the run had ended"
AT_END = 6
"""One kill of so many is at the run's end."""
SPARE = 2
"""Kills more before the run's end, and as many at it, for those that come too late."""
COLD = 10
"""One life of so many starts in a new interpreter."""


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        aim: one of the above.
        steps: that its life takes first.
        share: where in the phase, 0 to 1, as long as the phase was in the run never killed.
        victims: names of the processes that get the signal.
        cold: its life starts in a new interpreter.
    """

    aim: str
    steps: int
    share: float
    victims: tuple[str, ...]
    cold: bool = False


def plan(count: int, *, every: int, ranks: int, seed: int, cold: bool) -> list[Kill]:
    """Draw the kills, and some to spare, of a run with a checkpoint `every` so many steps."""
    draw = random.Random(seed)
    everyone = tuple(f"rank {n}" for n in range(ranks)) + (("agent",) if ranks > 1 else ())
    single = [(name,) for name in everyone]
    kills = []
    last = -(-count // AT_END)
    # the earliest first: one that comes too late finds the run ended, and no more can come
    late = sorted(draw.random() for _ in range(last + SPARE))
    middle = count - last + SPARE
    for number in range(middle + len(late)):
        aim = MIDDLE[number % len(MIDDLE)] if number < middle else END
        # a scheduler asks the launcher to stop; a crash takes one process, a power cut all
        asked = (everyone[-1],) if aim in (TERM, STOP) else draw.choice([*single, everyone])
        kills.append(
            Kill(
                aim,
                draw.randint(1, 2 * every),
                late[number - middle] if aim == END else draw.random(),
                asked,
                cold and number % COLD == COLD - 1,
            )
        )
    return kills


@dataclass(frozen=True)
class Times:
    """Seconds of the phases of the run never killed.

    Attributes:
        start: from its birth to its first step.
        step: between two steps.
        checkpoint: a checkpoint's writing.
        probe: an online probe.
        end: from the last step to the end of the process.
        finish: the part of it behind the last checkpoint.
    """

    start: float
    step: float
    checkpoint: float
    probe: float
    end: float
    finish: float


@dataclass
class Outcome:
    """What came of a run's kills.

    Attributes:
        landed: phase to kills that the folder shows to have fallen into it.
        failures: lives that ended before they were killed, and how.
        unasked: SIGTERMs that no stopped state followed.
        left: processes that had not ended `LEAVE` seconds after a kill.
        slowest: seconds from a kill until all processes had ended, the longest.
    """

    landed: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    unasked: int = 0
    left: int = 0
    slowest: float = 0.0


class View:
    """What the folder of a run and its diary show of the life that goes on."""

    def __init__(self, run: Run, life: int) -> None:
        self._run, self._life = run, life
        self._diary = run.diaries / "0.jsonl"
        self._read = self._diary.stat().st_size if self._diary.exists() else 0
        self._older = set(self._partial())
        self.begun, self.step, self.taken = False, 0, 0

    def look(self) -> None:
        """Read what was written since the last look."""
        if not self._diary.exists() or self._diary.stat().st_size == self._read:
            return
        with open(self._diary, "rb") as stream:
            stream.seek(self._read)
            new = stream.read()
        new = new[: new.rfind(b"\n") + 1]
        self._read += len(new)
        for line in new.splitlines():
            row = json.loads(line)
            if row["life"] == self._life:
                if STARTED in row:
                    self.begun, self.step = True, row[STARTED]
                if "step" in row:
                    self.step, self.taken = row["step"], self.taken + 1

    def writing(self) -> bool:
        """Say whether this life is writing a checkpoint, or died while it did."""
        return any(found not in self._older for found in self._partial())

    def stands(self, step: int) -> bool:
        """Say whether the checkpoint of a step is there."""
        latest = self._run.folder / LATEST
        return latest.exists() and latest.read_text().strip() == f"step-{step:08d}"

    def _partial(self) -> Iterator[tuple[str, int]]:
        with (
            contextlib.suppress(FileNotFoundError),
            os.scandir(self._run.folder / CHECKPOINTS) as found,
        ):
            for entry in found:
                if entry.name.endswith(".partial"):
                    yield entry.name, entry.inode()


def whole(run: Run) -> Times:
    """Run without a kill and say how long its phases take.

    Raises:
        FMError: it did not end well, or not at all.
    """
    begun = time.monotonic()
    life = Life(run, 0)
    view, steps, writes = View(run, 0), [], []
    while life.alive():
        view.look()
        now = time.monotonic()
        if len(steps) < view.taken:
            steps += [now] * (view.taken - len(steps))
        writes.append((now, view.writing()))
        if now - begun > 5 * PATIENCE:
            life.end()
        time.sleep(POLL)
    ended = time.monotonic()
    if life.status:
        raise FMError(f"bench kills: the run without a kill failed; see {life.log}")
    spans = [
        [now for now, _ in span] for written, span in groupby(writes, itemgetter(1)) if written
    ]
    probes = [row["seconds"] for row in read_lines(run.folder / PROBES)]
    return Times(
        probe=sum(probes) / len(probes),
        start=steps[0] - begun,
        step=(steps[-1] - steps[0]) / (len(steps) - 1),
        checkpoint=sum(span[-1] - span[0] for span in spans) / max(len(spans), 1),
        end=ended - steps[-1],
        finish=ended - spans[-1][-1],
    )


def drive(
    run: Run,
    kills: list[Kill],
    times: Times,
    *,
    steps: int,
    probed: int,
    moved: Callable[[], None],
) -> Outcome:
    """Kill a run again and again, then let it end.

    Args:
        run: what is killed.
        kills: in turn.
        times: of the phases.
        steps: of the run.
        probed: steps between online probes.
        moved: called after each kill.

    Raises:
        FMError: it does not go on any more.
    """
    outcome = Outcome()
    number = 0
    for kill in kills:
        number += 1
        life = Life(run, number, cold=kill.cold)
        try:
            _one(life, View(run, number), kill, times, (steps, probed), outcome)
        finally:
            life.end()
            _wait(life.gone, LEAVE)
        if outcome.landed[ENDED]:
            break
        if len(outcome.failures) > 3:
            raise FMError(f"bench kills: it does not go on: {outcome.failures[-1]}")
        moved()
    last = Life(run, number + 1)
    try:
        _wait(lambda: not last.alive(), PATIENCE * 5)
    finally:
        last.end()
    if last.status:
        outcome.failures.append(f"life {last.number} ended with {last.status}; see {last.log}")
    return outcome


def _one(
    life: Life, view: View, kill: Kill, times: Times, run: tuple[int, int], outcome: Outcome
) -> None:
    asked = kill.aim in (TERM, STOP)
    _await(life, view, kill, times, *run)
    # a rank on a busy machine may not have begun when its kill is due
    _wait(lambda: not life.alive() or set(kill.victims) <= set(life.pids()), PATIENCE)
    if not life.alive():
        if life.status:
            outcome.failures.append(f"life {life.number} ended with {life.status}; see {life.log}")
        else:
            outcome.landed[ENDED] += 1
        return
    number = signal.SIGTERM if asked else signal.SIGKILL
    life.send(number, kill.victims)
    sent = time.monotonic()
    if kill.aim == STOP:
        time.sleep(kill.share * (times.step + 2 * times.checkpoint))
        life.send(signal.SIGKILL, list(life.pids()))
    gone = _wait(life.gone, LEAVE)
    outcome.slowest = max(outcome.slowest, time.monotonic() - sent)
    outcome.left += not gone
    view.look()
    if kill.aim == TERM and view.begun and _state(life.run) == "running":
        outcome.unasked += 1
    outcome.landed[_landed(life.run, view, kill, *run)] += 1


def _state(run: Run) -> str:
    return json.loads((run.folder / STATE).read_text())["status"]


def _await(life: Life, view: View, kill: Kill, times: Times, steps: int, probed: int) -> None:
    """Wait for the moment of a kill, or for the end of the life."""
    given_up = time.monotonic() + PATIENCE
    if kill.aim == START and not kill.cold:
        time.sleep(kill.share * times.start)
        return
    wrote = False
    while life.alive() and time.monotonic() < given_up:
        view.look()
        last = view.step == steps
        if kill.aim == END:
            reached = last and _ends(view, kill, steps)
        else:
            reached = view.taken >= kill.steps or last
        if reached and kill.aim == CHECKPOINT and not last and not wrote:
            wrote = view.writing()
            reached = wrote
        if reached and kill.aim == PROBE:
            reached = view.step % probed == 0
        if reached:
            break
        time.sleep(POLL)
    if kill.aim == END:
        # well before the end, which does not come after the same time in every life
        time.sleep(0.3 * (3 * kill.share % 1) * (times.end if 3 * kill.share < 1 else times.finish))
        return
    spans = {CHECKPOINT: times.checkpoint, PROBE: times.probe}
    time.sleep(kill.share * spans.get(kill.aim, 2 * times.step))


def _ends(view: View, kill: Kill, steps: int) -> bool:
    """Say whether the end is as far as a kill wants it.

    A third of the kills comes after the last step, a third when its checkpoint is being written, a
    third when that stands.
    """
    if 3 * kill.share < 1 or view.stands(steps):
        return True
    return 3 * kill.share < 2 and view.writing()


def _landed(run: Run, view: View, kill: Kill, steps: int, probed: int) -> str:
    if kill.aim == TERM:
        return "SIGTERM, then left alone"
    if view.writing():
        return "in a checkpoint's writing"
    if not view.taken and view.step < steps:
        return "before its life's first step"
    # a step is logged when the watchers before have looked at it
    logged = max((row["step"] for row in read_lines(run.folder / METRICS)), default=0)
    if view.step % probed == 0 and logged < view.step:
        return "in an online probe"
    return "after the last step" if view.step == steps else "between checkpoints"


def _wait(reached: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
