"""How long a step takes on n ranks: computing, the optimiser's memory traffic, the network.

    step = share of the batch / samples a second of one device
         + optimiser's bytes / memory bandwidth
         + bytes a rank sends / link speed

Bytes on the network are those of rings: reducing or gathering P parameters of b bytes over n ranks
sends (n-1)/n P b, both together 2 (n-1)/n P b. Stages 0 and 1 do both once a step. Stage 2 reduces
after every micro-batch. Stage 3 gathers the weights for the forward and for the backward pass and
scatters the gradients, three rings a micro-batch. What DeepSpeed does while it computes
(`overlap_comm`, at stage 3 by default) is hidden behind the backward pass, two thirds of the
computing. Latency is not in it, nor is waiting for data, for the slowest rank, or for disks.
"""

from dataclasses import dataclass

from pretrain.plan.memory import Sizes

ADAMW_BYTES = 28
"""AdamW reads weight, gradient and both moments and writes all but the gradient, 4 bytes each."""


@dataclass(frozen=True)
class Speeds:
    """What one device and its network do.

    Attributes:
        samples: forward and backward passes a second on one device.
        bandwidth: of the device's memory, bytes a second.
        link: to ranks of the same node, bytes a second each way.
        network: of one rank to another node, likewise.
        per_node: ranks in a node.
    """

    samples: float
    bandwidth: float
    link: float
    network: float
    per_node: int


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step.

    Attributes:
        compute: forward and backward passes.
        optimizer: the update.
        exposed: on the network and not hidden behind the computing.
        sent: bytes that a rank sends in it.
    """

    compute: float
    optimizer: float
    exposed: float
    sent: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.compute + self.optimizer + self.exposed


def bytes_sent(sizes: Sizes, stage: int, ranks: int, accumulate: int) -> float:
    """Return the bytes that a rank sends in one step."""
    ring = (ranks - 1) / ranks * sizes.trained
    if stage < 2:
        return ring * (sizes.gradient + (sizes.weight if stage else sizes.gradient))
    if stage == 2:
        return ring * (accumulate * sizes.gradient + sizes.weight)
    return ring * accumulate * (2 * sizes.weight + sizes.gradient)


def step_time(
    sizes: Sizes,
    speeds: Speeds,
    *,
    batch: int,
    stage: int,
    ranks: int,
    accumulate: int,
    overlap: bool = False,
) -> StepTime:
    """Predict one step.

    Args:
        sizes: of the model.
        speeds: of device and network.
        batch: samples of the global batch.
        stage: of ZeRO.
        ranks: that share the batch.
        accumulate: micro-batches of a rank.
        overlap: reduce while the backward pass computes.
    """
    compute = batch / ranks / speeds.samples
    updated = sizes.trained / (ranks if stage else 1)
    sent = bytes_sent(sizes, stage, ranks, accumulate)
    network = sent / (speeds.link if ranks <= speeds.per_node else speeds.network)
    hidden = min(network, compute * 2 / 3) if overlap else 0.0
    return StepTime(
        compute=compute,
        optimizer=updated * ADAMW_BYTES / speeds.bandwidth,
        exposed=network - hidden,
        sent=sent,
    )


def checkpoint_interval(write: float, between_failures: float) -> float:
    """Return the seconds between checkpoints that lose the least time.

    Daly's first-order term (Future Generation Computer Systems 22, 2006), after Young (CACM 17,
    1974): sqrt(2 w M) - w for w seconds of a stalled write and a mean of M seconds between
    failures, M itself where a write takes longer than half of it.

    Args:
        write: seconds that a checkpoint stops the run.
        between_failures: mean seconds between failures of the whole job.
    """
    if write >= between_failures / 2:
        return between_failures
    return (2 * write * between_failures) ** 0.5 - write
