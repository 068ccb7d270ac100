"""Which layer of a backbone a parameter belongs to: for learning rates that fall by layer."""

import re
from collections.abc import Sequence

from fm.errors import UsageError

_BLOCK = re.compile(r"^(.*?)(?:(?:blocks|layers|stages)\.(\d+)|layer(\d+))\.")


def in_block(name: str) -> bool:
    """Say whether a parameter or module of this name lies inside a numbered block."""
    return _BLOCK.match(name) is not None


def layer_numbers(names: Sequence[str], what: str, remedy: str) -> tuple[list[int], int]:
    """Number the layers that parameters belong to, from 0 before the first block.

    Blocks count from 1. What is registered before the first block (tokenizer, class token, stem)
    is layer 0; what comes after the last (the final norm) belongs to the head's side and gets
    the number behind it. This is the rule of BEiT's and MAE's fine-tuning code.

    Args:
        names: of the backbone's parameters, in the order in which they are registered.
        what: name of the model, for the error.
        remedy: what a user can do instead, for the error.

    Returns:
        one number a name, and the head's: one above the largest block's.

    Raises:
        UsageError: no numbered blocks, or several stacks of them.
    """
    found = [_BLOCK.match(name) for name in names]
    stacks = {m[1] for m in found if m}
    if len(stacks) != 1:
        have = "none" if not stacks else f"several ({', '.join(sorted(stacks))})"
        raise UsageError(
            f"layer_decay needs one stack of numbered blocks, {what} has {have}; {remedy}"
        )
    own = [None if m is None else int(m[2]) + 1 if m[2] else int(m[3]) for m in found]
    first = next(i for i, n in enumerate(own) if n is not None)
    top = max(n for n in own if n is not None) + 1
    return [n if n is not None else 0 if i < first else top for i, n in enumerate(own)], top
