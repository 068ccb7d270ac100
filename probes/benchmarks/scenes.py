"""Scene classes of aerial and Google Earth pictures: UC Merced and RESISC45.

UC Merced (Yang and Newsam, doi 10.1145/1869790.1869829): 21 classes of 100 pictures. A few of the
published tiles are a pixel or some smaller than 256; they are brought to 256 by bilinear
interpolation (Pillow), as every loader does. RESISC45 (Cheng et al., arXiv 1703.00121): 45 classes
of 700 pictures, whose pixels are 0.2 to 30 m, so metres mean little there.
"""

from functools import partial
from pathlib import Path

import numpy as np

from fm.errors import FMError
from probes.benchmarks import signatures
from probes.benchmarks.declare import Array, Declaration, Listing, Window
from probes.benchmarks.files import Files, all_there, names_in, read_image, read_lines

UCM_CLASSES = (
    *("agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral"),
    *("denseresidential", "forest", "freeway", "golfcourse", "harbor", "intersection"),
    *("mediumresidential", "mobilehomepark", "overpass", "parkinglot", "river", "runway"),
    *("sparseresidential", "storagetanks", "tenniscourt"),
)
RESISC_CLASSES = (
    *("airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge"),
    *("chaparral", "church", "circular_farmland", "cloud", "commercial_area"),
    *("dense_residential", "desert", "forest", "freeway", "golf_course", "ground_track_field"),
    *("harbor", "industrial_area", "intersection", "island", "lake", "meadow"),
    *("medium_residential", "mobile_home_park", "mountain", "overpass", "palace", "parking_lot"),
    *("railway", "railway_station", "rectangular_farmland", "river", "roundabout", "runway"),
    *("sea_ice", "ship", "snowberg", "sparse_residential", "stadium", "storage_tank"),
    *("tennis_court", "terrace", "thermal_power_station", "wetland"),
)
SIDE = 256
MOST_OFF = 16
"""Pixels by which a picture may differ from 256 and still be one of the set."""


class _Sized(Files):
    """Pictures brought to 256 pixels where they are not."""

    def image(self, place: int, array: Array, date: int, window: Window | None) -> np.ndarray:
        found = self.paths(place, array, date)
        assert isinstance(found, Path)
        data = read_image(found, window)
        if data.shape == (3, SIDE, SIDE) or len(data) != 3:
            return data
        if max(abs(side - SIDE) for side in data.shape[1:]) > MOST_OFF:
            return data  # not of this set: refused by its size
        from PIL import Image

        picture = Image.fromarray(np.moveaxis(data, 0, -1))
        resized = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.ascontiguousarray(np.moveaxis(np.array(resized), -1, 0))


def scan(folder: Path, images: str, lists: str, suffix: str, classes: tuple[str, ...]) -> Listing:
    """List the pictures of three lists; a picture's class is the folder it lies in."""
    root = folder / images
    home = {name: label for label in classes for name in names_in(root / label, suffix)}
    strange = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name not in classes)
    if strange:
        raise FMError(f"{root}: {strange[0]} is no class of this dataset")
    ids: list[str] = []
    split: list[str] = []
    for part in ("train", "val", "test"):
        lines = read_lines(folder / lists.format(part))
        ids += lines
        split += [part] * len(lines)
    all_there(root, ids, home)
    return Listing(
        ids=ids,
        split=split,
        source=_Sized(lambda i, array, date: root / home[ids[i]] / ids[i]),
        targets=np.array([classes.index(home[name]) for name in ids], np.int64),
    )


def _array(gsd_m: float) -> Array:
    return Array("rgb_0", "rgb", ("R", "G", "B"), "uint8", (SIDE, SIDE), gsd_m)


DECLARATIONS = (
    Declaration(
        name="ucmerced",
        version=1,
        help="21 scene classes, colour pictures of 0.3 m, 256 px",
        task="class",
        primary="oa",
        classes=UCM_CLASSES,
        arrays=(_array(0.3),),
        scan=partial(
            scan,
            images="UCMerced_LandUse/Images",
            lists="uc_merced-{}.txt",
            suffix=".tif",
            classes=UCM_CLASSES,
        ),
        published={"train": 1260, "val": 420, "test": 420},
        split="train, val and test of Neumann et al. (arXiv 1911.06721)",
        layout="UCMerced_LandUse/Images/CLASS/CLASSNN.tif and uc_merced-{train,val,test}.txt",
        paper="Yang and Newsam, doi 10.1145/1869790.1869829",
        witness="UCMerced",
        checks=(signatures.eight_bits,),
    ),
    Declaration(
        name="resisc45",
        version=1,
        help="45 scene classes, Google Earth pictures of 0.2 to 30 m, 256 px",
        task="class",
        primary="oa",
        classes=RESISC_CLASSES,
        arrays=(_array(0.5),),
        scan=partial(
            scan,
            images="NWPU-RESISC45",
            lists="resisc45-{}.txt",
            suffix=".jpg",
            classes=RESISC_CLASSES,
        ),
        published={"train": 18900, "val": 6300, "test": 6300},
        split="train, val and test of Neumann et al. (arXiv 1911.06721)",
        layout="NWPU-RESISC45/CLASS/CLASS_NNN.jpg and resisc45-{train,val,test}.txt",
        paper="Cheng et al., arXiv 1703.00121",
        witness="RESISC45",
        leaks="pixels are 0.2 to 30 m and each picture's own size is not published; 0.5 m is given",
        checks=(signatures.eight_bits,),
    ),
)
