"""State that moves between steps: what passes show is taken in when their step is done."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn


class AfterStep(nn.Module, ABC):
    """A module of an objective whose state follows the global batch: a queue, a centre.

    What is noted during a step is taken in after it, from all ranks and micro-batches: so all
    passes of a step see the same state, whatever the split. A step that is not taken changes
    nothing. The state is the module's buffers: float32 in every precision, and in checkpoints.
    """

    @abstractmethod
    def drop(self) -> None:
        """Forget what was noted since the last step; called by the engine before each step."""

    @abstractmethod
    def take(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Take in what was noted; called by the engine on every rank, after the step.

        Args:
            gather: joins the rows of all ranks, in their order; all must have as many.
        """
