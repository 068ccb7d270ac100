"""The watchers that a run's config asks for."""

from pretrain.config import RunConfig
from pretrain.data import RunData
from pretrain.loop import Watcher
from pretrain.monitors.collapse import Collapse
from pretrain.monitors.details import Details
from pretrain.monitors.memory import Memory
from pretrain.monitors.monitor import Monitor
from pretrain.monitors.online_probe import OnlineProbe
from pretrain.monitors.rates import Rates
from pretrain.monitors.throughput import Throughput
from pretrain.monitors.trace import Trace
from pretrain.monitors.validation import Validation
from pretrain.runs.folder import RunFolder


def chosen(config: RunConfig, folder: RunFolder, data: RunData) -> list[Watcher]:
    """Make the watchers of a run, in the order in which they are called; nothing is written yet.

    Raises:
        FMError: something that is asked for cannot be had.
    """
    settings = config.monitor
    watchers: list[Watcher] = []
    if settings.profile is not None:
        watchers.append(Trace(folder, settings.profile))
    watchers += [Throughput(), Memory(), Rates()]
    if settings.detail_every:
        watchers.append(Details(folder))
    if settings.features_every:
        watchers.append(Collapse())
    if config.probe is not None:
        watchers.append(OnlineProbe(config.probe, folder))
    if config.validation is not None:
        watchers.append(Validation(config, folder, data))
    return [*watchers, Monitor(config, folder)]
