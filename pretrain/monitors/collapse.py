"""Whether the features of a model fall together while it is trained."""

import math

import numpy as np
import torch

from fm.collapse import deviations, effective_rank
from fm.console import note
from pretrain.loop import Loop, Moment, Watcher
from pretrain.monitors.looking import look
from pretrain.ranks import collective

MOST = 1024
"""Samples of a batch that are looked at, over all ranks."""
LEAST_RANK, LEAST_STD = 2.0, 0.01
"""Below either, features count as collapsed."""


class Collapse(Watcher):
    """Adds `effective_rank` and `feature_std` of the batch, and warns when they say collapse.

    Pooled features of up to `MOST` readable samples as the backbone gives them of whole images;
    formulas in `fm.collapse`. The rank is at most the number of samples less one, so that batches
    of another size have other ranks.
    """

    def begin(self, loop: Loop) -> None:
        """Remember the engine."""
        self._loop, self._every = loop, loop.config.monitor.features_every
        self._told = False

    def after_step(self, moment: Moment) -> None:
        """Look at the features every so many steps."""
        if moment.step % self._every:
            return
        features = self._features(moment)
        if len(features) < 3:  # two samples have one direction whatever the model
            return
        rank, std = effective_rank(features), float(deviations(features).mean())
        if math.isfinite(rank):
            moment.events["effective_rank"] = round(rank, 4)
        moment.events["feature_std"] = float(f"{std:.6g}")
        fallen = not rank >= LEAST_RANK or std < LEAST_STD
        if fallen and not self._told and collective.rank() == 0:
            note(
                f"step {moment.step}: the features of {len(features)} samples have collapsed "
                f"(effective rank {rank:.3g}, spread {std:.2g} of 1); lower optimizer.lr, or look "
                f"at the objective"
            )
        self._told = fallen

    def _features(self, moment: Moment) -> np.ndarray:
        """Return pooled features of the readable samples of all ranks: `[N, D]` float64."""
        micro = self._loop.micro
        whole = max(MOST // collective.world_size() // micro, 1) * micro
        count = min(whole, len(moment.work.weight))
        own = [
            look(self._loop.engine, batch, lambda objective, batch: objective.features(batch))
            for batch in moment.work.select(slice(0, count)).split(micro)
        ]
        features = torch.cat(own).double()
        rows = torch.cat([features, moment.work.weight[:count, None].double()], dim=1)
        found = rows.new_zeros((collective.world_size(), *rows.shape))
        found[collective.rank()] = rows
        gathered = collective.all_reduce_sum(found).flatten(0, 1).cpu().numpy()
        return np.ascontiguousarray(gathered[gathered[:, -1] > 0, :-1])
