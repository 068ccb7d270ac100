"""Captions of samples, from their labels: the same words in the same order for the same labels."""

from collections.abc import Sequence

from torch import Tensor


def caption(words: Sequence[str]) -> str:
    """Write the lower-cased words of a sample's classes, each once, in alphabetical order.

    The published code joins a Python set, whose order is another one in every process.
    """
    return ". ".join(sorted({word.lower() for word in words}))


def captions(present: Tensor, classes: Sequence[str]) -> list[str]:
    """Write the caption of each row.

    Args:
        present: `[n, C]` bool, which classes a sample has.
        classes: their names.
    """
    return [
        caption([classes[k] for k, there in enumerate(row) if there]) for row in present.tolist()
    ]
