"""Windows cut from one scene without looking across the split.

A window around a training pixel may reach into a validation or test block. Those pixels are
marked invalid and set to zero here, before anything else sees them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fm.errors import FMError

NOWHERE = -1
"""Split code of pixels that belong to no block (and of everything outside the scene)."""


@dataclass(frozen=True)
class Scene:
    """One scene put together from its blocks.

    Attributes:
        pixels: [C, H, W], the stored type.
        label: [H, W] uint8 or wider; 0 is unlabelled.
        split: [H, W] int8 code of the split of each pixel, `NOWHERE` where there is none.
        block: [H, W] int32 number of the block of each pixel.
        known: [H, W] bool, False where a band has no data; None when all have.
    """

    pixels: np.ndarray
    label: np.ndarray
    split: NDArray[np.int8]
    block: NDArray[np.int32]
    known: NDArray[np.bool_] | None = None


def cut(
    scene: Scene, rows: NDArray[np.int64], cols: NDArray[np.int64], size: int
) -> tuple[np.ndarray, NDArray[np.bool_]]:
    """Cut windows centred on pixels.

    Args:
        scene: the scene.
        rows: [B] rows of the centres.
        cols: [B] columns of the centres.
        size: odd side length in pixels.

    Returns:
        pixels [B, C, size, size] of the stored type, zero where invalid, and valid
        [B, size, size]: inside the scene, with data, and in the split of the centre.

    Raises:
        FMError: `size` is even.
    """
    if size % 2 == 0:
        raise FMError(f"window size {size} is even and has no centre pixel; give an odd one")
    reach = np.arange(size) - size // 2
    r = rows[:, None, None] + reach[None, :, None]
    c = cols[:, None, None] + reach[None, None, :]
    height, width = scene.label.shape
    inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
    r, c = np.where(inside, r, 0), np.where(inside, c, 0)
    own = scene.split[rows, cols][:, None, None]
    valid = inside & (scene.split[r, c] == own)
    if scene.known is not None:
        valid &= scene.known[r, c]
    pixels = np.moveaxis(scene.pixels[:, r, c], 0, 1)
    return np.where(valid[:, None], pixels, np.zeros((), pixels.dtype)), valid
