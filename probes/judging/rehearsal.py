"""A benchmark without its test split, for looks at a model that is still being trained."""

from dataclasses import replace

import numpy as np

from fm.errors import FMError, UsageError
from probes.benchmarks import Benchmark, Data
from probes.benchmarks.holdout import deal

VAL = 0.2
"""Share of the training samples that choose, where val itself is scored."""
LEFT_OUT = "unused"


def rehearsal(benchmark: Benchmark, data: Data, seed: int) -> Data:
    """Put val into the place of test, and whole units of train into the place of val.

    So a run can be watched, and stopped, by scores that have seen nothing of the test split.

    Args:
        benchmark: what it is.
        data: opened.
        seed: of the units that leave train.

    Raises:
        UsageError: there is no val split, or train is one unit.
    """
    where = f"{benchmark.full_name}: the val split cannot be scored in the place of test"
    val, train = data.of("val"), data.of("train")
    if not len(val) or benchmark.fixed_c is not None:
        raise UsageError(f"{where}, there is none; take another benchmark")
    units = [str(unit) for unit in data.unit[train].tolist()]
    try:
        parts = deal(units, {"train": 1 - VAL, "val": VAL}, seed)
    except FMError:
        raise UsageError(f"{where}, all training samples are one unit") from None
    split = data.split.astype(f"U{len(LEFT_OUT)}")
    split[data.of("test")] = LEFT_OUT
    split[val] = "test"
    split[train] = np.array(parts)
    note = f"the val split was scored, {VAL:.0%} of train chose, test was not read"
    return replace(data, split=split, notes=(*data.notes, note))
