"""Momentum teachers: copies of modules that follow them slowly, in float32.

A teacher's parameters become float32 buffers. So DeepSpeed neither trains them, nor rounds them to
bfloat16, nor cuts them under ZeRO 3, and writes and reads them with the state of the model under
every stage. The price is one float32 copy on each rank; under ZeRO 3 the student is gathered once
a step to be averaged, and the teacher's own passes gather nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from pretrain.objective import MomentumPair
from pretrain.ranks import collective
from pretrain.schedule import Clock
from pretrain.settings.ramp import Ramp

PIECE = 2**25
"""Elements that are averaged at once: 128 MB in float32."""

Place = tuple[nn.Module, str]
"""A buffer by its module and name; the tensor there may be replaced, as by `module.to`."""


class Teachers:
    """The teachers of an objective; made before DeepSpeed is given the module.

    Each teacher begins as its student is, also where the student's weights come from a checkpoint.

    Args:
        pairs: of `Objective.momentum_pairs`.

    Raises:
        ValueError: a teacher is not of its student's making, or still wants gradients.
    """

    def __init__(self, pairs: Sequence[MomentumPair]) -> None:
        self._pairs = [_Pair(*pair) for pair in pairs]

    @torch.no_grad()
    def update(self, clock: Clock) -> None:
        """Take every teacher a step nearer to its student; call on every rank.

        Args:
            clock: of the step that the students have just taken.
        """
        for pair in self._pairs:
            momentum = pair.momentum.at(clock) if isinstance(pair.momentum, Ramp) else pair.momentum
            pair.update(momentum)


class _Pair:
    """One student and its teacher."""

    def __init__(self, student: nn.Module, teacher: nn.Module, momentum: "float | Ramp") -> None:
        self.momentum = momentum
        ours = {name: x.shape for name, x in teacher.state_dict().items()}
        theirs = {name: x.shape for name, x in student.state_dict().items()}
        if ours != theirs:
            wrong = sorted(n for n in {*ours, *theirs} if ours.get(n) != theirs.get(n))
            raise ValueError(f"{wrong[0]} differs: a teacher is a deep copy of its student")
        if any(parameter.requires_grad for parameter in teacher.parameters()):
            raise ValueError("a teacher learns nothing itself: teacher.requires_grad_(False)")
        own_buffers = list(_places(student))
        parameters = dict(student.named_parameters(remove_duplicate=False))
        made: dict[int, Tensor] = {}
        self._followed: list[tuple[nn.Parameter, Place]] = []
        for prefix, module in list(teacher.named_modules()):
            for key, parameter in list(module._parameters.items()):
                if parameter is None:
                    continue
                source = parameters[f"{prefix}.{key}" if prefix else key]
                del module._parameters[key]
                if id(source) not in made:
                    made[id(source)] = source.detach().float().clone()
                    self._followed.append((source, (module, key)))
                module.register_buffer(key, made[id(source)])
        self._statistics: list[tuple[Place, Place]] = []
        for name, (module, key) in own_buffers:
            owner = teacher.get_submodule(name.rpartition(".")[0])
            self._statistics.append(((module, key), (owner, key)))
            getattr(owner, key).copy_(getattr(module, key))

    def update(self, momentum: float) -> None:
        for piece in _pieces(self._followed):
            with _whole([source for source, _ in piece]):
                torch._foreach_lerp_(
                    [getattr(*place) for _, place in piece],
                    [source.detach().float() for source, _ in piece],
                    1.0 - momentum,
                )
        for own, place in self._statistics:
            now, kept = getattr(*own), getattr(*place)
            if not now.is_floating_point():
                kept.copy_(now)
                continue
            if isinstance(own[0], nn.modules.batchnorm._BatchNorm) and collective.world_size() > 1:
                # each rank has seen its own samples
                now = collective.all_reduce_sum(now.clone()) / collective.world_size()
            kept.lerp_(now.to(kept.dtype), 1.0 - momentum)


def _places(module: nn.Module) -> Iterator[tuple[str, Place]]:
    """Name the buffers that are part of a module's state."""
    kept = set(module.state_dict())
    for prefix, part in module.named_modules():
        for key, buffer in part._buffers.items():
            name = f"{prefix}.{key}" if prefix else key
            if buffer is not None and name in kept:
                yield name, (part, key)


def _pieces(
    followed: Sequence[tuple[nn.Parameter, Place]],
) -> Iterator[list[tuple[nn.Parameter, Place]]]:
    piece: list[tuple[nn.Parameter, Place]] = []
    size = 0
    for source, place in followed:
        number = getattr(*place).numel()
        if piece and size + number > PIECE:
            yield piece
            piece, size = [], 0
        piece.append((source, place))
        size += number
    if piece:
        yield piece


def _whole(parameters: list[nn.Parameter]) -> "nullcontext[None]":
    """Gather parameters that ZeRO 3 has cut, while the block runs."""
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters)
