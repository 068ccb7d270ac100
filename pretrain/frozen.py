"""Models that learn nothing and that a run reads again when it goes on."""

from typing import TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def frozen(model: M) -> M:
    """Make the weights of a model buffers that no checkpoint holds; in place.

    So nothing trains them, rounds them to bfloat16 or cuts them under ZeRO 3, and neither the
    checkpoints of a run nor its export carry them.

    Returns:
        the model, in `eval()`.
    """
    buffers: dict[int, Tensor] = {}
    for part in model.modules():
        for key, parameter in list(part._parameters.items()):
            if parameter is None:
                continue
            del part._parameters[key]
            part.register_buffer(key, buffers.setdefault(id(parameter), parameter.detach()))
        part._non_persistent_buffers_set.update(part._buffers)
    return model.eval()
