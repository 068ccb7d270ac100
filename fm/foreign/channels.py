"""Channels of a file that its training never filled."""

from collections.abc import Mapping
from dataclasses import replace

from fm.errors import FMError
from fm.foreign.reading import Reading

FIRST = ("patch_embed.proj.weight", "conv1.weight")
"""Kernels `[out, C, H, W]` of the first convolution."""


def without_zero_channels(reading: Reading, channels: Mapping[str, str]) -> Reading:
    """Leave out the kernels of channels that were zero in every image.

    A kernel times zeros adds nothing, so that the model without it gives the very outputs of the
    one with it, and nobody has to make up a band that the product lacks.

    Args:
        reading: of one network.
        channels: place in the file's order to the reason.

    Raises:
        FMError: there is no plain first convolution, or not so many channels.
    """
    if not channels:
        return reading
    places = [int(place) for place in channels]
    key = next((k for k in FIRST if k in reading.state), None)
    if key is None or reading.state[key].shape[1] <= max(places):
        raise FMError(f"{reading.where}: no first convolution with a channel {max(places)}")
    weight = reading.state[key]
    kept = [i for i in range(weight.shape[1]) if i not in places]
    told = "; ".join(f"channel {place} ({why})" for place, why in channels.items())
    note = f"{key}: left out {told}, which changes no output"
    return replace(
        reading,
        state={**reading.state, key: weight[:, kept].contiguous()},
        notes=(*reading.notes, note),
    )
