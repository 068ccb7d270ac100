"""Splits that are made here: groups dealt out in the order of a hash."""

import hashlib
from collections.abc import Mapping, Sequence

from fm.errors import FMError


def deal(groups: Sequence[str], parts: Mapping[str, float], seed: int) -> list[str]:
    """Deal whole groups to parts.

    Groups are sorted by the SHA-256 of `SEED/GROUP`. Each part but the last takes groups until it
    holds its share of the samples, so it departs from the share by less than its last group; the
    last part gets the rest. Nothing depends on the order of the samples.

    Args:
        groups: group of each sample.
        parts: part to share, summing to 1.
        seed: any integer.

    Returns:
        the part of each sample.

    Raises:
        FMError: fewer groups than parts.
    """
    counts: dict[str, int] = {}
    for group in groups:
        counts[group] = counts.get(group, 0) + 1
    if len(counts) < len(parts):
        raise FMError(f"{len(counts)} groups cannot be dealt to {', '.join(parts)}")
    names, total = list(parts), len(groups)
    place, held = 0, 0
    part_of: dict[str, str] = {}
    ordered = sorted(counts, key=lambda g: hashlib.sha256(f"{seed}/{g}".encode()).digest())
    for number, group in enumerate(ordered):
        part_of[group] = names[place]
        held += counts[group]
        left = len(ordered) - number - 1
        full = held >= parts[names[place]] * total - 1e-9
        if place < len(names) - 1 and (full or left == len(names) - 1 - place):
            place, held = place + 1, 0
    return [part_of[group] for group in groups]
