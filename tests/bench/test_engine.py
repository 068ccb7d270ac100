"""What `bench engine` says of checkpoints, and that its sides would do the same work."""

import numpy as np
import pytest

from bench import engine
from bench.chips import write_chips
from fm.errors import FMError


def test_a_stall_is_what_goes_beyond_calm_steps():
    seconds = np.full((3, 10), 0.5)
    seconds[:, 0] += 1.0  # the checkpoint itself
    seconds[:, 1:4] *= 1.2  # steps beside its writing
    assert engine.stall(seconds) == pytest.approx(2.0 + 3 * 0.2)
    seconds[1, 7] = 60.0  # a disturbance of one period moves the median little
    assert engine.stall(seconds) == pytest.approx(2.6)
    even = np.full((3, 10), 0.5)
    even[:, ::5] *= 3.0  # a slow step now and then, before and after
    assert engine.stall(even) == pytest.approx(0.0)


def test_sides_with_other_losses_are_not_compared(monkeypatch):
    monkeypatch.setattr(engine, "_losses", {"bare loop": [1.0, 0.5], "ours": [1.0, 0.5002]})
    engine.same_work()
    monkeypatch.setattr(engine, "_losses", {"bare loop": [1.0, 0.5], "ours": [1.0, 0.51]})
    with pytest.raises(FMError, match=r"at step 1 ours has loss 0\.51"):
        engine.same_work()


def test_the_sides_read_what_a_run_reads(tmp_path):
    """The hand-written loop is not spared any work on its batches."""
    import torch

    import pretrain
    from bench import engine_sides
    from pretrain.data import open_data

    data = write_chips(tmp_path / "chips", 10, 96)
    config = engine_sides.config(data, tmp_path / "run", quick=True)
    config = config.model_copy(update={"schedule": config.schedule.model_copy(update={"steps": 2})})
    seen = []

    class Keep(pretrain.loop.Watcher):
        def after_step(self, moment):
            seen.append((moment.work, moment.figures["lr"]))

    pretrain.run(config, watchers=[Keep()])
    stream = engine_sides._batches(config, open_data(config), torch.device("cpu"))
    for (work, rate), batch in zip(seen, stream, strict=False):
        assert rate == config.optimizer.lr
        assert all(torch.equal(x, batch.pixels[name]) for name, x in work.pixels.items())
        assert torch.equal(work.rng.bits("mask", 4), batch.rng.bits("mask", 4))
    assert len(seen) == 2
