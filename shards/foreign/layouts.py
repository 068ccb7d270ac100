"""Declared layouts of two published data sets; `docs/tars.md` says where each fact comes from.

Both keep one series of tars a modality, in folders named after it, and one Zarr v2 zip a sample
(`KEY.zarr.zip`) with the array `bands` [T, C, H, W] on one 10 m grid of 264 x 264 pixels, the band
names in `band`, and `center_lon`, `center_lat`, `time` beside it. What the files and their
documentation leave open (the offset of Sentinel-2 in TerraMesh, no-data numbers) is left open
here too.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from fm import sensors
from fm.errors import UsageError, suggest
from fm.sensors import Band
from shards.foreign.declare import ArrayMember, Declaration, Member
from shards.format import LabelInfo

GRID_M = 10.0
CLOUDS = ("land", "water", "snow", "thin_cloud", "thick_cloud", "cloud_shadow", "no_data")
PLACES = {
    "lonlat": ["center_lon", "center_lat"],
    "time": "time",
    "time_unit": "ns",
    "crs": ["crs", "spatial_ref"],
    "x": "x",
    "y": "y",
    "bands": "band",
}
_MIXED = (
    "the published statistics of TerraMesh (mean 506, deviation 512 in band B10) show patches with "
    "and without the offset of 1000, and the files do not say which"
)


def _optical(name: str, sensor: str, unsaid: str = "") -> ArrayMember:
    known = sensors.sensor(sensor)
    return ArrayMember(
        name=name,
        codec="zarr.zip:bands",
        axes="TCHW",
        sensor=sensor,
        table=known.bands,
        scale=known.scale,
        offset=None if unsaid else known.offset,
        nodata=None,
        gsd_m=GRID_M,
        places=PLACES,
        unsaid=unsaid,
    )


def _plain(
    name: str, sensor: str, bands: tuple[Band, ...], *aliases: tuple[str, ...]
) -> ArrayMember:
    return ArrayMember(
        name=name,
        codec="zarr.zip:bands",
        axes="TCHW",
        sensor=sensor,
        table=bands,
        scale=1.0,
        offset=0.0,
        nodata=None,
        gsd_m=GRID_M,
        places=PLACES,
        aliases=aliases,
    )


def _band(name: str, unit: str, polarisation: str | None = None) -> Band:
    return Band(name, None, None, GRID_M, unit, polarisation)


_GRD = replace(
    _plain("s1grd", "sentinel1-grd", sensors.sensor("sentinel1-grd").bands), scale=1.0, offset=0.0
)
_RTC = _plain("s1rtc", "sentinel1-rtc", tuple(_band(name, "dB", name) for name in ("VV", "VH")))
_RGB = _plain(
    "s2rgb",
    "sentinel2-rgb",
    tuple(_band(name, "dn") for name in ("B04", "B03", "B02")),
    ("R", "G", "B"),
    ("RED", "GREEN", "BLUE"),
)
_DEM = _plain("dem", "copernicus-dem", (_band("DEM", "m"),))
_NDVI = _plain("ndvi", "sentinel2-ndvi", (_band("NDVI", "ndvi"),))
_LULC = _plain("lulc", "esri-lulc", (_band("LULC", "class"),))
_CLOUD_SERIES = ArrayMember(
    name="cloud",
    codec="zarr.zip:cloud_mask",
    axes="THW",
    sensor="sensei-cloud",
    table=(_band("CLOUD", "class"),),
    scale=1.0,
    offset=0.0,
    gsd_m=GRID_M,
    optional=True,
)
_CLOUD_MASK = ArrayMember(
    name="cloud_mask",
    codec="zarr.zip:cloud_mask",
    axes="THW",
    label=LabelInfo("cloud", "mask", CLOUDS, None, "cloud_mask"),
    optional=True,
)


def _series(**members: tuple[Member, ...]) -> Mapping[str, tuple[Member, ...]]:
    return {f"{folder}/zarr.zip": found for folder, found in members.items()}


LAYOUTS = {
    "ssl4eo-s12-v1.1": Declaration(
        name="ssl4eo-s12-v1-1",
        licence="CC-BY-4.0",
        source="SSL4EO-S12 v1.1 (Blumenstiel et al. 2025, arXiv 2503.00168), WebDataset release",
        members=_series(
            S2L2A=(_optical("s2l2a", "sentinel2-l2a"), _CLOUD_SERIES),
            S2L1C=(_optical("s2l1c", "sentinel2-l1c"),),
            S1GRD=(_GRD,),
            S2RGB=(_RGB,),
            NDVI=(_NDVI,),
            DEM=(_DEM,),
            LULC=(_LULC,),
        ),
    ),
    "terramesh": Declaration(
        name="terramesh",
        licence="CC-BY-SA-4.0",
        source="TerraMesh (Blumenstiel et al. 2025, arXiv 2504.11172)",
        members=_series(
            S2L2A=(_optical("s2l2a", "sentinel2-l2a", _MIXED), _CLOUD_MASK),
            S2L1C=(_optical("s2l1c", "sentinel2-l1c", _MIXED),),
            S1GRD=(_GRD,),
            S1RTC=(_RTC,),
            S2RGB=(_RGB,),
            NDVI=(_NDVI,),
            DEM=(_DEM,),
            LULC=(_LULC,),
        ),
    ),
}


def layout(name: str) -> Declaration:
    """Return a declared layout.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in LAYOUTS:
        raise UsageError(f"there is no layout {name!r}; {suggest(name, LAYOUTS)}")
    return LAYOUTS[name]


def with_offsets(declared: Declaration, offsets: Mapping[str, float]) -> Declaration:
    """Say offsets that a layout leaves open, or others than it says.

    Args:
        declared: a layout or a declaration.
        offsets: by modality; physical = stored * scale + offset.

    Raises:
        UsageError: a modality that is not declared.
    """
    names = [m.name for m in declared.all() if isinstance(m, ArrayMember) and m.label is None]
    for name in offsets:
        if name not in names:
            raise UsageError(f"--offset {name}: no such modality; {suggest(name, names)}")
    members = {
        pattern: tuple(
            replace(member, offset=offsets[member.name])
            if isinstance(member, ArrayMember) and member.name in offsets
            else member
            for member in found
        )
        for pattern, found in declared.members.items()
    }
    return replace(declared, members=members)


def with_names(declared: Declaration, names: Mapping[str, str]) -> Declaration:
    """Call modalities otherwise, such as `s2l2a_10` where a benchmark has those bands on 10 m.

    Args:
        declared: a layout or a declaration.
        names: modality to what it is called instead.

    Raises:
        UsageError: a modality that is not declared, or a name that another has.
    """
    known = [m.name for m in declared.all() if isinstance(m, ArrayMember) and m.label is None]
    for old, new in names.items():
        if old not in known:
            raise UsageError(f"--rename {old}: no such modality; {suggest(old, known)}")
        if not re.fullmatch(r"[a-z0-9_]+", new) or new in known:
            raise UsageError(f"--rename {old}={new}: the name is taken, or not of a-z, 0-9 and _")
    members = {
        pattern: tuple(
            replace(member, name=names[member.name])
            if isinstance(member, ArrayMember) and member.label is None and member.name in names
            else member
            for member in found
        )
        for pattern, found in declared.members.items()
    }
    return replace(declared, members=members)
