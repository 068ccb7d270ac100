"""Small datasets and a small encoder for the tests of this room."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

import fm
from probes.families.job import Job
from shards.building.writer import Declared, Sample, write_dataset
from shards.format import LabelInfo

BANDS = tuple(band.name for band in fm.sensor("aviris-indian-pines").bands)
CLASSES = ("unlabelled", *(f"crop-{k}" for k in range(1, 17)))
SPLIT_OF = ("train", "val", "test")


def scene(seed: int = 0, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A scene whose spectra tell its classes apart: [200, side, side] uint16, labels."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 5, (side // 4, side // 4)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    label[label == 1] = 11
    base = rng.uniform(1000, 4000, (17, len(BANDS)))
    pixels = np.moveaxis(base[label], -1, 0) + rng.normal(0, 400, (len(BANDS), side, side))
    return np.clip(pixels, 0, 65535).astype(np.uint16), label


def write_scene(out: Path, pixels: np.ndarray, label: np.ndarray, block: int = 16) -> Path:
    """Write a scene as blocks; splits go round by block."""
    samples = []
    count = 0
    for row in range(0, label.shape[0], block):
        for col in range(0, label.shape[1], block):
            box = (slice(row, row + block), slice(col, col + block))
            mask = np.ascontiguousarray(label[box])
            samples.append(
                Sample(
                    key=f"r{row:03d}c{col:03d}",
                    arrays={"aviris_20": np.ascontiguousarray(pixels[:, *box]), "label": mask},
                    split=SPLIT_OF[count % 3],
                    window=(row, col, *mask.shape),
                )
            )
            count += 1
        count += 1  # so that a column is not all one split
    write_dataset(
        out,
        samples,
        name="scene",
        modalities={"aviris_20": Declared("aviris-indian-pines", BANDS, 1.0, 0.0)},
        labels={"crop": LabelInfo("crop", "mask", CLASSES, 0, "label")},
        provenance={},
        licence="CC0-1.0",
    )
    return out


S2L2A = {
    "s2l2a_10": ("B02", "B03", "B04", "B08"),
    "s2l2a_20": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "s2l2a_60": ("B01", "B09"),
}


def write_pairs(out: Path, count: int = 18) -> Path:
    """Write pairs of Sentinel-2 L2A (36 px) and Sentinel-1 with 19 labels."""
    rng = np.random.default_rng(1)
    classes = tuple(f"cover-{k}" for k in range(19))
    samples = []
    for n in range(count):
        labels = sorted({n % 3, 3 + n % 2, 5 + int(rng.integers(0, 4))})
        arrays = {}
        for modality, names in S2L2A.items():
            side = 360 // int(modality[-2:])
            level = 500 + 400 * np.array(labels).sum()
            noise = rng.normal(level, 200, (len(names), side, side))
            arrays[modality] = np.clip(noise, 0, 65535).astype(np.uint16)
        arrays["s1grd_10"] = rng.normal(-12, 2, (2, 36, 36)).astype(np.float32)
        samples.append(
            Sample(
                key=f"pair{n:03d}",
                arrays=arrays,
                lonlat=(16.0 + 0.01 * n, 48.0),
                time="2017-06-13T10:00Z",
                split=SPLIT_OF[n * 3 // count],
                labels={"cover": labels},
            )
        )
    declared = {m: Declared("sentinel2-l2a", names, 1e-4, 0.0) for m, names in S2L2A.items()}
    declared["s1grd_10"] = Declared("sentinel1-grd", ("VV", "VH"), 1.0, 0.0)
    write_dataset(
        out,
        samples,
        name="pairs",
        modalities=declared,
        labels={"cover": LabelInfo("cover", "multilabel", classes)},
        provenance={},
        licence="CDLA-Permissive-1.0",
    )
    return out


class Given(Job):
    """A job whose features are given."""

    def features(self) -> np.ndarray:
        return self.model


def job(settings, benchmark, data, x=None, seed=0) -> Job:
    """A job on given features [N, D]."""
    return Given(settings, benchmark, data, x, seed, None, "test")


class Encoder(nn.Module):
    """Mean spectrum over the valid pixels through one linear layer."""

    def __init__(self, width: int = 8, seed: int = 0) -> None:
        super().__init__()
        self.bands = {"aviris_20": fm.sensor("aviris-indian-pines").bands}
        self.width = width
        self.card = None
        generator = torch.Generator().manual_seed(seed)
        self.project = nn.Parameter(torch.randn(len(BANDS), width, generator=generator))

    def encode(self, pixels, *, bands=None, valid=None, scaling=None, **_):
        x = pixels["aviris_20"].float() / 4000
        w = torch.ones_like(x[:, 0]) if valid is None else valid["aviris_20"].float()
        mean = (x * w[:, None]).sum((2, 3)) / w.sum((1, 2)).clamp(min=1)[:, None]
        return SimpleNamespace(pooled=mean @ self.project, tokens=None)
