"""A model without memory: what it would take is known before it is made.

Cards and weight files may come from anybody, and what they say of a model's sizes decides how much
memory it takes. So it is made on torch's meta device first and held against the weights.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

M = TypeVar("M", bound=torch.nn.Module)


class TooManyError(Exception):
    """A model of more parameters than its weights can be."""


def likeness(make: Callable[[], M], weights: int) -> M:
    """Make a model on the meta device, where parameters have shapes and no values.

    Args:
        make: makes it.
        weights: how many there are for it.

    Raises:
        TooManyError: it has more than four times as many parameters, and some.
    """
    with _parameters(4 * weights + 64), torch.device("meta"):
        return make()


@contextlib.contextmanager
def _parameters(most: int) -> Iterator[None]:
    """Stop this thread from making more than `most` parameters: even empty ones take memory."""
    count, own = 0, threading.get_ident()

    def seen(*_: object) -> None:
        nonlocal count
        count += threading.get_ident() == own
        if count > most:
            raise TooManyError

    handle = register_module_parameter_registration_hook(seen)
    try:
        yield
    finally:
        handle.remove()
