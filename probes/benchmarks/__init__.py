"""The registry of benchmarks."""

from fm.errors import UsageError, suggest
from probes.benchmarks import (
    aerial_cover,
    bigearthnet,
    bigearthnet_folders,
    biomassters,
    cloudtracks,
    copernicus_bench,
    copernicus_flood,
    copernicus_s3,
    copernicus_s3_maps,
    crisislandmark,
    eurosat,
    fusu,
    geobench_v1,
    geobench_v2,
    geolocation,
    hyperview,
    indian_pines,
    isprs,
    labelled,
    landsat_clouds,
    landsat_cover,
    marida,
    nc_change,
    nc_landcover,
    nc_landcover_seg,
    neon_trees,
    pairs,
    pastis,
    scenes,
    sen12ms,
    so2sat,
    spectral_earth,
    tree_cover,
    tree_cover_series,
    treesatai,
)
from probes.benchmarks.base import Benchmark, Data, Inputs
from probes.benchmarks.declare import Declaration

DECLARATIONS: tuple[Declaration, ...] = (
    *eurosat.DECLARATIONS,
    *scenes.DECLARATIONS,
    *bigearthnet_folders.DECLARATIONS,
    *so2sat.DECLARATIONS,
    *sen12ms.DECLARATIONS,
    *treesatai.DECLARATIONS,
    *copernicus_bench.DECLARATIONS,
    *copernicus_s3.DECLARATIONS,
    *copernicus_s3_maps.DECLARATIONS,
    *copernicus_flood.DECLARATIONS,
    *aerial_cover.DECLARATIONS,
    *isprs.DECLARATIONS,
    *pairs.DECLARATIONS,
    *geobench_v1.DECLARATIONS,
    *geobench_v2.DECLARATIONS,
    *spectral_earth.DECLARATIONS,
    *hyperview.DECLARATIONS,
    *landsat_cover.DECLARATIONS,
    *landsat_clouds.DECLARATIONS,
    *crisislandmark.DECLARATIONS,
    *fusu.DECLARATIONS,
    *cloudtracks.DECLARATIONS,
    *marida.DECLARATIONS,
    *pastis.DECLARATIONS,
    *biomassters.DECLARATIONS,
)
"""Benchmarks that are read from the folders their authors publish."""

_ALL = {
    b.full_name: b
    for module in (
        indian_pines,
        nc_landcover,
        nc_landcover_seg,
        nc_change,
        neon_trees,
        tree_cover,
        tree_cover_series,
        bigearthnet,
        geolocation,
    )
    for b in module.BENCHMARKS
} | {d.full_name: d.benchmark() for d in DECLARATIONS}

__all__ = [
    "DECLARATIONS",
    "Benchmark",
    "Data",
    "Inputs",
    "get_benchmark",
    "list_benchmarks",
]


def list_benchmarks() -> list[str]:
    """List the benchmarks as `NAME@VERSION`."""
    return list(_ALL)


def get_benchmark(name: str) -> Benchmark:
    """Return a benchmark.

    Args:
        name: `NAME@VERSION`, or `NAME` for its newest version; or a label of a dataset of ours,
            `KIND:LABEL` or `KIND:LABEL:SPLIT.json` (`probes.benchmarks.labelled`).

    Raises:
        UsageError: there is none; names the nearest.
        FMError: the split file of a label cannot be read.
    """
    if ":" in name:
        return labelled.named(name)
    if name in _ALL:
        return _ALL[name]
    versions = [b for b in _ALL.values() if b.name == name]
    if versions:
        return max(versions, key=lambda b: b.version)
    raise UsageError(
        f"there is no benchmark {name!r}; {suggest(name, _ALL)} (a label of your own dataset is "
        f"{labelled.FORM})"
    )
