from dataclasses import replace

import numpy as np
import pytest

from fm.errors import UsageError
from probes.benchmarks import get_benchmark
from probes.judging.evaluation import opened
from probes.judging.rehearsal import rehearsal


def test_val_is_scored_and_test_is_not_read(blocks):
    chosen = get_benchmark("indian-pines")
    data, made = chosen.load(blocks), opened("indian-pines", blocks, rehearse=True).data
    assert np.array_equal(made.of("test"), data.of("val"))
    used = np.concatenate([made.of(name) for name in ("train", "val", "test")])
    assert not set(used) & set(data.of("test"))
    # what is left of train, by whole blocks
    ours = np.concatenate([made.of("train"), made.of("val")])
    assert np.array_equal(np.sort(ours), data.of("train"))
    assert not set(made.unit[made.of("train")]) & set(made.unit[made.of("val")])
    assert len(made.of("val")) < len(made.of("train"))
    assert "test was not read" in made.notes[-1]
    again = opened("indian-pines", blocks, rehearse=True).data
    assert np.array_equal(again.split, made.split)


def test_what_has_no_val_split_or_one_unit_is_refused(blocks):
    chosen = get_benchmark("indian-pines")
    data = chosen.load(blocks)
    split = np.where(data.split == "val", "train", data.split)
    with pytest.raises(UsageError, match="there is none; take another benchmark"):
        rehearsal(chosen, replace(data, split=split), 0)
    with pytest.raises(UsageError, match="are one unit"):
        rehearsal(chosen, replace(data, unit=np.zeros_like(data.unit)), 0)
