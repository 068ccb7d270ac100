"""The learning rates of a run whose weights do not all learn equally fast."""

from pretrain.loop import Loop, Moment, Watcher


class Rates(Watcher):
    """Tells `lr/SCALE`, the rate of weights that learn at SCALE of `lr`, where scales differ."""

    def begin(self, loop: Loop) -> None:
        """Look which scales there are."""
        self._every = loop.config.monitor.every
        self._groups = {
            f"lr/{group.get('lr_scale', 1.0):.3g}": group
            for group in loop.engine.engine.optimizer.param_groups
        }

    def after_step(self, moment: Moment) -> None:
        """Tell the rates where the step is logged."""
        if len(self._groups) > 1 and (moment.step % self._every == 0 or moment.last):
            moment.events |= {name: float(group["lr"]) for name, group in self._groups.items()}
