"""Is a location encoder that learned the climate worth carrying?

Harmonics of L = 40 and a SIREN learn ERA5's twelve mean temperatures and twelve logarithms of
precipitation at every cell of 0.25 degrees, the whole Earth: what the encoder knows of a test place
is its climate. So three tasks of the suite say nothing here: temperature and precipitation, which
it learned, and the Koppen-Geiger class, by definition a function of those twelve and twelve. Ridge
judges the encoder alone, and beside raw SH-40; the same network untrained stands for what more
features alone give.

`OMP_NUM_THREADS=1 python -m bench.studies climate`.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fm.location
from bench.studies.kept import once, part
from bench.studies.location import WORKERS, rows
from bench.studies.location_page import clipped
from bench.studies.retrieval import Beside
from bench.studies.scoring import only_test
from fm.console import progress
from fm.location.checkpoint import describe
from probes.location import fields
from probes.location.encoders import Encoder, get_encoder, of_module
from probes.location.points import open_places
from probes.location.splits import NAMES
from probes.location.suite import run as judged
from probes.location.tasks import TASKS

SPLIT = "test"
SEEDS = (0, 1, 2)
METHODS = ("sh40", "climate", "untrained", "sh40, climate", "sh40, untrained")
SIZES: dict[str, Any] = {"L": 40, "head": "siren", "width": 256, "depth": 2, "dim": 128}
LEARNED = ("air-temperature", "precipitation", "koppen")
"""Tasks whose labels the encoder was told at test places too, or what they are computed from."""
SHOWN = ("random", "blocks")
STEPS, BATCH, RATE = 1200, 4096, 1e-3


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> dict[str, Any]:
    """Train, unless it is trained, and judge; see `bench.studies`.

    Raises:
        UsageError: another split than `test`; nothing is chosen here.
    """
    only_test(split)
    folder = trained(work / "encoder", cache)
    told, places = describe(folder), open_places(cache)
    found = {
        "sh40": get_encoder("sh40", cache),
        "climate": of_module("climate", fm.location.load(folder)),
        "untrained": of_module("untrained", fresh(), "random-init"),
    }
    for name in ("climate", "untrained"):
        raw, own = found["sh40"].module, found[name].module
        assert isinstance(raw, nn.Module)
        assert isinstance(own, nn.Module)
        module = Beside(raw, own, SIZES["dim"])
        found[f"sh40, {name}"] = of_module(f"sh40, {name}", module, found[name].kind)
    encoders: list[Encoder] = [found[name] for name in methods]
    about = {
        "weights": told["weights_sha256"],
        "methods": list(methods),
        "seeds": list(seeds),
        "places": {name: own.sha256 for name, own in places.items()},
    }

    def make() -> list[dict[str, Any]]:
        return rows(judged(encoders, places, splits=NAMES, seeds=seeds, workers=WORKERS))

    made = part(work / "parts", about, make)
    return {
        "seeds": list(seeds),
        "training": told["training"],
        "bytes": (folder / "model.safetensors").stat().st_size,
        "seconds": made.seconds,
        "cpu": made.cpu,
        "rows": made.value,
    }


def fresh() -> fm.location.LocationEncoder:
    """Make the network with fresh weights, the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: fm.location.LocationEncoder = fm.location.create("sh", **SIZES)
    return made.eval()


def trained(folder: Path, cache: Path) -> Path:
    """Train the encoder unless that was done with the same settings; return its folder."""
    about = {"sizes": SIZES, "steps": STEPS, "batch": BATCH, "rate": RATE}
    return once(folder, about, lambda: train(folder, cache))


def train(folder: Path, cache: Path) -> None:
    """Learn the climate and save the encoder."""
    begun = time.perf_counter()
    temperature, rain = fields.months(cache)
    lat = 90 - np.arange(temperature.shape[1]) * 0.25
    area = np.cos(np.radians(lat)).clip(0)
    area /= area.sum()
    target = np.concatenate([temperature, np.log1p(np.maximum(rain, 0))])
    mean = (target.mean(-1) @ area)[:, None, None]
    spread = np.sqrt(((target - mean) ** 2).mean(-1) @ area)[:, None, None]
    target = np.moveaxis((target - mean) / spread, 0, -1).astype(np.float32)
    encoder, (_, columns, width) = fresh().train(), target.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = nn.Linear(SIZES["dim"], width)
    weights = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=STEPS, pct_start=0.05
    )
    rng = np.random.Generator(np.random.PCG64(0))
    losses: list[float] = []
    with progress("climate", STEPS) as bar:
        for _ in range(STEPS):
            row, column = rng.choice(len(lat), BATCH, p=area), rng.integers(0, columns, BATCH)
            lon = (column * 360 / columns + 180) % 360 - 180
            made = head(encoder(torch.tensor(np.stack([lon, lat[row]], 1))))
            loss = (made - torch.from_numpy(target[row, column])).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            bar.advance()
    seconds = round(time.perf_counter() - begun, 1)
    loss_end = round(float(np.mean(losses[-50:])), 5)
    training = {"steps": STEPS, "batch": BATCH, "seconds": seconds, "loss": loss_end}
    fm.location.save(folder, encoder, {"name": "climate", "training": training})


def table(found: dict[str, Any]) -> str:
    """Lay out the tasks that were not learned, means over the seeds, as in docs/weights.md."""
    tasks = [t.name for t in TASKS if t.name not in LEARNED]
    lines = [
        "| split | row | " + " | ".join(tasks) + " |",
        "| --- | --- |" + " --- |" * len(tasks),
    ]
    for split in SHOWN:
        for name in dict.fromkeys(row["encoder"] for row in found["rows"]):
            shown = [f"{clipped(found, name, task, split).mean():.3f}" for task in tasks]
            lines.append(f"| {split} | {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def summary(found: dict[str, Any], work: Path) -> str:
    """Return what is printed at the end."""
    del work
    return f"{table(found)}\n\nridge: {found['seconds']} s; training: {found['training']}"
