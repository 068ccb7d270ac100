"""The whole table: encoders, tasks, splits and seeds."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from fm.console import progress
from probes.location.encoders import Encoder
from probes.location.judge import Cell, by_family, ridge
from probes.location.points import Places
from probes.location.splits import Split, divide
from probes.location.tasks import TASKS, Task
from probes.protocols import Protocol, get_protocol
from probes.statistics.aggregate import complete, ranks

ANSWERABLE = 0.5
"""A task of classes is asked where train has the class of at least half of the test places."""


@dataclass
class Table:
    """Cells of a suite.

    Attributes:
        cells: encoder to its cells, in one order for all.
    """

    cells: dict[str, list[Cell]] = field(default_factory=dict)

    def runs(self, split: str) -> dict[str, dict[str, list[float]]]:
        """Encoder to task to the scores of its seeds, of tasks that can be answered there."""
        return {
            name: {
                task: [c.value for c in cells if (c.task.name, c.split) == (task, split)]
                for task in self.answerable(split)
            }
            for name, cells in self.cells.items()
        }

    def answerable(self, split: str) -> list[str]:
        """Tasks of a split that have an answer: not countries of a continent never seen."""
        first = next(iter(self.cells.values()))
        found: dict[str, list[float]] = {}
        for cell in first:
            if cell.split == split:
                ceiling = 1.0 if cell.ceiling is None else cell.ceiling
                found.setdefault(cell.task.name, []).append(ceiling)
        return [name for name, values in found.items() if np.mean(values) >= ANSWERABLE]

    def mean_ranks(self, split: str) -> tuple[dict[str, float], dict[str, str]]:
        """Mean rank of each encoder over the tasks, 1 the best; rows with a gap are left out.

        Returns:
            encoder to mean rank of its mean over the seeds, and what was left out with the reason.
        """
        runs = self.runs(split)
        rows, columns, left = complete(runs, self.answerable(split), "rows")
        means = np.array([[np.mean(runs[r][c]) for c in columns] for r in rows])
        placed = ranks(means).mean(-1)
        return dict(zip(rows, placed.tolist(), strict=True)), left


def run(
    encoders: Sequence[Encoder],
    places: dict[str, Places],
    *,
    tasks: Sequence[Task] = TASKS,
    splits: Sequence[str],
    seeds: Sequence[int],
    protocol: Protocol | None = None,
    workers: int = 1,
) -> Table:
    """Judge every encoder on every task, split and seed.

    Args:
        encoders: of different names; a worker holds the features of one of them on one set.
        places: sets by name.
        tasks: what is asked.
        splits: names.
        seeds: of the splits.
        protocol: None is `ridge@1`.
        workers: threads; set OMP_NUM_THREADS so that workers times threads are the cores.

    Returns:
        the table; no number depends on the workers.
    """
    recipe = protocol or get_protocol("ridge")
    sets = list(dict.fromkeys(task.places for task in tasks))
    divided = {
        (name, split, seed): divide(split, places[name].lonlat, seed)
        for name in sets
        for split in splits
        for seed in seeds
    }
    jobs = [(encoder, name) for encoder in encoders for name in sets]

    def one(job: tuple[Encoder, str]) -> list[Cell]:
        encoder, name = job
        asked = [task for task in tasks if task.places == name]
        features = encoder(places[name].lonlat)
        found: list[Cell] = []
        for split in splits:
            for seed in seeds:
                parts: Split = divided[name, split, seed]
                if recipe.settings.family == "ridge":
                    cells = ridge(
                        *(features, places[name], asked, parts, recipe), split=split, seed=seed
                    )
                else:
                    cells = [
                        by_family(
                            *(features, places[name], task, parts, recipe),
                            split=split,
                            seed=seed,
                            label=encoder.name,
                        )
                        for task in asked
                    ]
                found += cells
        return found

    # the widest first, so that no worker ends with it alone
    order = sorted(range(len(jobs)), key=lambda i: -_width(jobs[i][0]))
    results: dict[int, list[Cell]] = {}
    with ThreadPoolExecutor(workers) as pool, progress("location probes", len(jobs)) as bar:
        for i, found in zip(order, pool.map(lambda i: one(jobs[i]), order), strict=True):
            results[i] = found
            bar.advance()
    table = Table({encoder.name: [] for encoder in encoders})
    for i, (encoder, _) in enumerate(jobs):
        table.cells[encoder.name] += results[i]
    place = {task.name: number for number, task in enumerate(tasks)}
    for cells in table.cells.values():
        cells.sort(key=lambda c: (place[c.task.name], splits.index(c.split), c.seed))
    return table


def _width(encoder: Encoder) -> int:
    return int(encoder(np.zeros((1, 2))).shape[1])
