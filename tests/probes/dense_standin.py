"""Small scenes with a class a pixel, and models for them."""

from pathlib import Path

import numpy as np
import torch

import fm
from fm.normalize import Normalisation
from probes.benchmarks.base import Benchmark, Data, Inputs
from probes.families.job import Job
from probes.protocols import get_protocol, list_protocols
from shards.building.writer import Declared, Sample, write_dataset
from shards.format import LabelInfo

MODALITY = "l7gls_28"
SENSOR = fm.sensor("landsat7-etm-gls")
BANDS = tuple(band.name for band in SENSOR.modalities[MODALITY])
CLASSES = ("unlabelled", *(f"cover-{k}" for k in range(1, 8)))
SPLIT_OF = ("train", "val", "test")


def scene(side: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Spectra that tell classes apart [6, side, side] uint8 (0 no data), labels (0 none)."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 5, (side // 4, side // 4)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    base = rng.uniform(30, 220, (8, len(BANDS)))
    pixels = np.moveaxis(base[label], -1, 0) + rng.normal(0, 3, (len(BANDS), side, side))
    pixels = np.clip(pixels, 1, 255).astype(np.uint8)
    pixels[:, :5, :7] = 0
    return pixels, label


def write(out: Path, pixels: np.ndarray, label: np.ndarray, block: int = 16) -> Path:
    """Write a scene as the blocks of `nc-landcover`; splits go round."""
    samples = []
    side = label.shape[0] // block
    for n in range(side * side):
        row, col = n // side * block, n % side * block
        box = (slice(row, row + block), slice(col, col + block))
        samples.append(
            Sample(
                key=f"r{row:03d}c{col:03d}",
                arrays={
                    MODALITY: np.ascontiguousarray(pixels[:, *box]),
                    "label": np.ascontiguousarray(label[box]),
                },
                split=SPLIT_OF[(n + n // side) % 3],
                window=(row, col, block, block),
            )
        )
    write_dataset(
        out,
        samples,
        name="scene",
        modalities={
            MODALITY: Declared("landsat7-etm-gls", BANDS, 1.0, 0.0, nodata=(0,) * len(BANDS))
        },
        labels={"cover": LabelInfo("cover", "mask", CLASSES, 0, "label")},
        provenance={},
        licence="CC0-1.0",
    )
    return out


def model(token_px: int = 1, name: str = "vit_nano", seed: int = 3, **options):
    """An untrained backbone for the scene."""
    sizes = {"width": 32, "depth": 2, "heads": 2} if name == "vit_nano" else {}
    count = len(BANDS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return fm.create_model(
            name,
            bands={MODALITY: SENSOR.modalities[MODALITY]},
            token_m=28.5 * token_px,
            normalisation={
                MODALITY: Normalisation.fit(
                    "zscore", {"mean": [120.0] * count, "std": [60.0] * count}
                )
            },
            scaling={MODALITY: (1.0, 0.0)},
            **(sizes | options),
        ).eval()


def eight(task: str, side: int = 12, classes: int = 3) -> Data:
    """Eight samples that are train, val and test alike."""
    rng = np.random.default_rng(5)
    base = rng.uniform(30, 220, (classes, len(BANDS)))

    def image(label: np.ndarray) -> np.ndarray:
        made = np.moveaxis(base[label], -1, -3) + rng.normal(0, 2, (len(label), 6, side, side))
        return np.clip(made, 1, 255).astype(np.uint8)

    label = rng.integers(0, classes, (8, side, side))
    label[:, 0, 0] = np.arange(8) % classes
    other = np.where(rng.random(label.shape) < 0.3, rng.integers(0, classes, label.shape), label)
    first, second = image(label), image(other)
    truth = label.copy() if task == "segmentation" else (label != other).astype(np.int64)
    truth[:, -1, -1] = -1
    whole = np.arange(24) % 8

    def read(index: np.ndarray) -> Inputs:
        after = Inputs({MODALITY: second[whole[index]]}) if task == "change" else None
        return Inputs({MODALITY: first[whole[index]]}, None, after)

    names = tuple(f"cover-{k}" for k in range(classes)) if task == "segmentation" else ("no", "yes")
    return Data(
        read=read,
        targets=np.zeros(24, np.int64),
        split=np.repeat(SPLIT_OF, 8),
        unit=np.arange(24),
        shards=np.array([f"s{n}" for n in range(24)]),
        classes=names,
        bands={MODALITY: BANDS},
        scaling={MODALITY: (1.0, 0.0)},
        dataset="eight",
        manifest_hash="0",
        folder=Path("eight"),
        maps=lambda index: truth[whole[index]],
    )


def shipped(family: str) -> list[str]:
    """Names of the shipped protocols of a family."""
    found = map(get_protocol, list_protocols())
    return sorted({one.name for one in found if one.settings.family == family})


def longer(name: str, rate: float, epochs: int):
    """Settings of a shipped protocol with one rate and more epochs, eight samples a step."""
    how = {"learning_rates": (rate,), "epochs": epochs, "batch_size": 8}
    return get_protocol(name).settings.model_copy(update=how)


def job(settings, data: Data, backbone, task: str, cache: Path | None = None) -> Job:
    """A job on given data."""
    benchmark = Benchmark(
        name="eight",
        version=1,
        help="",
        source="",
        task=task,
        primary={"segmentation": "miou", "change": "f1_positive"}.get(task, "oa"),
        unit="image",
        split="",
        verified="fixtures only",
        load=lambda folder: data,
    )
    return Job(settings, benchmark, data, backbone, 0, cache, "test")
