"""Teachers that follow modules of a student slowly."""

import copy

from torch import nn

from pretrain.objective import MomentumPair
from pretrain.settings.ramp import Ramp


def teacher_of(**followed: nn.Module) -> nn.ModuleDict:
    """Copy modules as they are, without gradients."""
    return nn.ModuleDict(copy.deepcopy(followed)).requires_grad_(False)


def pairs_of(
    student: nn.Module, teacher: nn.ModuleDict, momentum: float | Ramp
) -> list[MomentumPair]:
    """Return each module of a teacher beside the one of that name that it follows."""
    return [(student.get_submodule(name), part, momentum) for name, part in teacher.items()]
