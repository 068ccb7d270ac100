"""`guard`: what becomes of a step whose loss or gradient is not sound."""

from typing import Literal

from pydantic import Field

from fm.config import Config
from pretrain.settings.kinds import Positive


class GuardConfig(Config):
    """Steps whose loss or gradient norm is not finite, or leaps; judged before weights change.

    It may be changed when a run goes on: nothing that was learned depends on it.

    Attributes:
        policy: `stop` ends the run; `skip` leaves the weights as they are and goes on with the next
            batch; `rollback` goes on with the next batch from the weights of the last checkpoint,
            without what was learned since (PaLM, Chowdhery et al., arXiv 2204.02311, section 5.1).
        spike: how many times its running level the loss or the gradient norm may be; null looks
            only for what is not finite.
        window: taken steps whose median is the level, for each part of a mixture its own.
        in_row: unsound batches in a row at which the run stops whatever the policy.
        in_all: the same of all unsound batches.
    """

    policy: Literal["stop", "skip", "rollback"] = "stop"
    spike: float | None = Field(None, gt=1)
    window: int = Field(64, ge=16)
    in_row: Positive = 5
    in_all: Positive = 100
