"""Sees a step that would spoil the weights before they are changed."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from fm.console import note
from fm.errors import FMError
from pretrain.engine.engine import Step
from pretrain.ranks import collective
from pretrain.runs.skipped import Skipped
from pretrain.settings.guard import GuardConfig

SETTLED = 16
"""Taken steps after which a level is one that a leap is told by."""
NAMED = 8
"""Samples named in a message; `skipped.jsonl` has all."""


@dataclass(frozen=True)
class Candidate:
    """A step that is about to be taken.

    Attributes:
        step: its number, from 1.
        part: of a mixture.
        keys: this rank's samples.
        micro: samples in each of this rank's micro-batches.
    """

    step: int
    part: str | None
    keys: Sequence[str]
    micro: int


class Guard:
    """Judges steps by numbers that all ranks share, so that all answer the same.

    Args:
        config: what becomes of unsound ones.
        skipped: where they are written down.
    """

    def __init__(self, config: GuardConfig, skipped: Skipped) -> None:
        self._config, self._skipped = config, skipped
        self._levels: dict[str, dict[str, deque[float]]] = {}
        self._row = self._all = 0

    def passes(self, candidate: Candidate, result: Step) -> bool:
        """Say whether a step may change the weights; call on every rank.

        Raises:
            FMError: it may not, and by the policy or its limits the run ends.
        """
        figures = {"loss": result.loss, "grad_norm": result.grad_norm}
        level = self._levels.setdefault(candidate.part or "", {})
        if all(math.isfinite(value) for value in figures.values()):
            wrong = {n: v for n, v in figures.items() if self._leaps(v, level.get(n, ()))}
        else:  # the parts of the loss say which of them it was
            every = {**figures, **result.metrics}
            wrong = {name: value for name, value in every.items() if not math.isfinite(value)}
        if not wrong:
            self._row = 0
            for name, value in figures.items():
                level.setdefault(name, deque(maxlen=self._config.window)).append(value)
            return True
        self._row, self._all = self._row + 1, self._all + 1
        self._refuse(candidate, result, wrong, level)
        return False

    def state(self) -> dict[str, Any]:
        """Return what `load` takes, to go on as if nothing had come between."""
        levels = {
            part: {name: list(values) for name, values in level.items()}
            for part, level in self._levels.items()
        }
        return {"levels": levels, "row": self._row, "all": self._all}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state; an empty one is that of a new run."""
        self._row, self._all = state.get("row", 0), state.get("all", 0)
        size = self._config.window
        self._levels = {
            part: {name: deque(values, maxlen=size) for name, values in level.items()}
            for part, level in state.get("levels", {}).items()
        }

    def _leaps(self, value: float, level: Sequence[float]) -> bool:
        if self._config.spike is None or len(level) < SETTLED:
            return False
        middle = median(level)
        return value > middle + (self._config.spike - 1) * abs(middle)

    def _refuse(
        self, candidate: Candidate, result: Step, wrong: dict[str, float], level: Any
    ) -> None:
        """Say what was wrong and write it down.

        Raises:
            FMError: the run ends.
        """
        config = self._config
        own = [not math.isfinite(float(loss)) for loss in result.own]
        suspects = [key for i, key in enumerate(candidate.keys) if own[i // candidate.micro]]
        found = collective.gather((suspects, list(candidate.keys)))
        if not any(mine for mine, _ in found):  # a leap, or only a gradient: all are suspects
            found = [(every, every) for _, every in found]
        ranks = [rank for rank, (mine, _) in enumerate(found) if mine]
        keys = [key for mine, _ in found for key in mine]
        limit = ""
        if self._row >= config.in_row:
            limit = f"{_nth(self._row)} in a row (guard.in_row)"
        elif self._all >= config.in_all:
            limit = f"{_nth(self._all)} in all (guard.in_all)"
        action = "stop" if limit else config.policy
        figures = {name: repr(value) for name, value in wrong.items()}
        levels = {n: median(level[n]) for n in wrong if level.get(n)}
        if collective.rank() == 0:
            self._skipped.add(
                {
                    "step": candidate.step,
                    **({} if candidate.part is None else {"part": candidate.part}),
                    "action": action,
                    "figures": figures,
                    "levels": levels,
                    "ranks": ranks,
                    "keys": keys,
                }
            )
        told = ", ".join(
            f"{name} is {value:.4g}" + (f" (level {levels[name]:.4g})" if name in levels else "")
            for name, value in wrong.items()
        )
        more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
        text = (
            f"step {candidate.step}: {told}; samples {', '.join(keys[:NAMED])}{more} "
            f"({self._skipped.path})"
        )
        if action == "stop":
            way = (
                f"{limit}: lower optimizer.lr" if limit else "lower optimizer.lr, set guard.policy"
            )
            raise FMError(f"{text}; {way}, or look at them with fm shards verify")
        if collective.rank() == 0:
            note(f"{text}; {'passed over' if action == 'skip' else 'going back'}")


def _nth(count: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(count % 10, "th")
    return f"the {count}{'th' if count % 100 in (11, 12, 13) else ending}"
