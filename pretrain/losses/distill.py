"""Self-distillation: a student tells what its teacher says (DINO: Caron et al., arXiv 2104.14294).

Sinkhorn-Knopp as in SwAV (arXiv 2006.09882) and DINOv2 (arXiv 2304.07193).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fm.hardware import full_precision
from pretrain.after_step import AfterStep
from pretrain.losses.precision import wide


def distillation(student: Tensor, targets: Tensor, *, temperature: float) -> Tensor:
    """Cross-entropy of a student's softmax against a teacher's shares.

    Args:
        student: `[n, K]` outputs.
        targets: `[n, K]` shares, from `Centre` or `sinkhorn`; no gradient.
        temperature: of the student.

    Returns:
        `[n]` float32.
    """
    with full_precision(student.device):
        shares = torch.log_softmax(wide(student) / temperature, dim=1)
        return -(wide(targets).detach() * shares).sum(dim=1)


class Centre(AfterStep):
    """The running mean of a teacher's outputs, taken off before its softmax.

    It keeps one output from winning everywhere. What a step's passes show is taken in after the
    step, from all ranks and passes: they all see the same centre, whatever the split. It is part
    of the module's state, in float32.

    Args:
        width: outputs.
        momentum: share of the centre that stays in each step.
    """

    centre: Tensor

    def __init__(self, width: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(width))
        self._sum: Tensor | None = None

    @torch.no_grad()
    def forward(self, outputs: Tensor, *, temperature: float) -> Tensor:
        """Return the shares `[n, K]` of a teacher's outputs, without gradient.

        Args:
            outputs: `[n, K]`.
            temperature: of the teacher.
        """
        with full_precision(outputs.device):
            return torch.softmax((wide(outputs) - self.centre) / temperature, dim=1)

    @torch.no_grad()
    def add(self, outputs: Tensor, keep: Tensor) -> None:
        """Note outputs of this pass, to be taken in when the step is done.

        Args:
            outputs: `[n, K]`.
            keep: `[n]` bool; samples that could not be read are passed over.
        """
        with full_precision(outputs.device):
            kept = torch.where(keep[:, None], outputs.float(), 0.0)
            row = torch.cat([kept.sum(dim=0), keep.float().sum().reshape(1)])
        self._sum = row if self._sum is None else self._sum + row

    def drop(self) -> None:
        """Forget what was added since the last step."""
        self._sum = None

    @torch.no_grad()
    def take(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Move towards the mean of what was added; see `AfterStep.take`."""
        if self._sum is None:
            return
        *_, number = total = gather(self._sum[None]).sum(dim=0)
        self.drop()
        if number > 0:
            self.centre.lerp_(total[:-1] / number, 1.0 - self.momentum)


def _alone(x: Tensor) -> Tensor:
    return x


@torch.no_grad()
def sinkhorn(
    outputs: Tensor,
    *,
    temperature: float,
    keep: Tensor | None = None,
    iterations: int = 3,
    reduce: Callable[[Tensor], Tensor] = _alone,
    largest: Callable[[Tensor], Tensor] = _alone,
) -> Tensor:
    """Spread the samples of the global batch evenly over the outputs.

    Outputs and samples are scaled in turn, so that each output gets the same mass and then each
    sample a mass of 1.

    Args:
        outputs: `[n, K]` of this process's samples.
        temperature: of the teacher.
        keep: `[n]` bool; other samples take no mass, and their shares are 0.
        iterations: times both are scaled.
        reduce: sums a tensor over processes.
        largest: the largest over processes, likewise.

    Returns:
        `[n, K]` float32 shares, without gradient; each row that counts sums to 1.
    """
    with full_precision(outputs.device):
        logits = wide(outputs) / temperature
        counts = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        counts = (counts if keep is None else keep)[:, None]
        logits = torch.where(counts, logits, float("-inf"))
        # one shift for all changes nothing, and nothing overflows; a process may have no sample
        top = logits.amax() if len(logits) else logits.new_full((), float("-inf"))
        shares = torch.exp(logits - largest(top.reshape(1)))
        for _ in range(iterations):
            mass = reduce(shares.sum(dim=0))
            shares = shares / mass.clamp(min=torch.finfo(shares.dtype).tiny)
            own = shares.sum(dim=1, keepdim=True)
            shares = shares / own.clamp(min=torch.finfo(shares.dtype).tiny)
        return torch.where(counts, shares, 0.0)
