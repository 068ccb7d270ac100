"""A class a pixel from the token maps of one image."""

from typing import Literal

from probes.settings.training import OnMaps


class Dense(OnMaps):
    """A head on token maps, its scores upsampled bilinearly to the pixels of the truth.

    `linear` is one linear layer on the last tokens (DINOv2, arXiv 2304.07193, section 7.4),
    `fcn` two 3x3 convolutions before it (arXiv 1411.4038), `upernet` pyramid pooling and a feature
    pyramid over four depths (arXiv 1807.10221).
    """

    family: Literal["dense"]
