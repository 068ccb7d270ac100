"""`watchdog`: how long a run may stand still before its ranks end themselves."""

from typing import Annotated

from pydantic import Field

from fm.config import Config

Limit = Annotated[float, Field(gt=0)]


class WatchdogConfig(Config):
    """Seconds without progress, from the second step on; null never ends a run for it.

    The rank that is furthest behind is judged, so that nobody is blamed for waiting.

    Attributes:
        data: waiting for a batch.
        step: forward, backward, collectives and optimiser of one step.
        watchers: what looks at a step, such as probes.
        checkpoint: writing one; also the export at the end, and the last steps of a rank whose
            launcher has died.
        peers: a rank that gives no sign of life, on another machine; on the same it takes a second.
    """

    data: Limit | None = 900
    step: Limit | None = 1800
    watchers: Limit | None = 3600
    checkpoint: Limit | None = 3600
    peers: Limit = 60
