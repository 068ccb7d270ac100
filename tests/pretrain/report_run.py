"""Run folders as training leaves them, written without training."""

import json
from pathlib import Path

import numpy as np
import yaml

import fm.sensors
from fm.normalize import Normalisation
from pretrain.objective import Panel
from pretrain.report import stored
from pretrain.trainer import load_config

STEPS = 120


def loss_at(step: int) -> float:
    return 0.5 + 1.5 / step


def write_run(folder: Path, data: Path, *, status: str = "finished", done: int = STEPS) -> Path:
    """Write a run of `mae_s2_tiny` with curves, probes, a resume, a skipped step and pictures."""
    words = [f"data.path={data}", f"out={folder}", f"schedule.steps={STEPS}", "data.batch_size=8"]
    config = load_config("mae_s2_tiny", [*words, "data.crop=24"])
    folder.mkdir(parents=True)
    values = config.model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    state = {"status": status, "step": done, "seconds": 75.0, "identity": config.identity()}
    (folder / "state.json").write_text(json.dumps(state))
    env = {
        "python": "3.11",
        "world_size": 1,
        "cuda": None,
        "command": ["fm", "pretrain", "mae_s2_tiny", "<script>alert(1)</script>"],
        "git": {"commit": "0123456789abcdef", "changed": True},
    }
    (folder / "env.json").write_text(json.dumps(env))
    rows = []
    for step in range(1, done + 1):
        row = {"step": step, "samples": 8 * step, "loss": loss_at(step), "lr": 1e-3}
        row |= {"grad_norm": 30.0 if step == 90 else 1.0, "weight": 8.0, "seconds": 0.5}
        row |= {"data_wait": 0.25, "mfu": 0.4, "samples_per_s": 16.0, "memory_peak_gib": 1.5}
        rows.append(row)
    lines(folder / "metrics.jsonl", rows)
    lines(
        folder / "probes.jsonl",
        [
            {
                "step": step,
                "benchmark": "indian-pines",
                "protocol": "knn@1",
                "metric": "accuracy",
                "value": 0.4 + step / 1000,
                "low": 0.35 + step / 1000,
                "high": 0.45 + step / 1000,
            }
            for step in (0, 60, done)
        ],
    )
    bands = {m: {b.name: 0.5 for b in bs} for m, bs in modalities().items()}
    lines(folder / "bands.jsonl", [{"step": s, "loss": {}, "bands": bands} for s in (20, 40)])
    lines(folder / "skipped.jsonl", [{"step": 70, "reason": "grad_norm", "keys": ["a", "b"]}])
    session = {"world_size": 1, "git": {"commit": "0123456789abcdef"}}
    lines(
        folder / "sessions.jsonl",
        [
            {"step": 0, "time": "2026-01-01T00:00:00Z", **session},
            {"step": 60, "time": "2026-01-02T00:00:00Z", **session},
        ],
    )
    return folder


def lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def modalities() -> dict:
    return dict(fm.sensors.sensor("sentinel2-l1c").modalities)


def normalisation() -> dict[str, Normalisation]:
    """Another shift and scale in each band, so that a mix-up shows."""
    return {
        name: Normalisation(
            "zscore",
            tuple(0.1 + 0.01 * k for k in range(len(bands))),
            tuple(0.05 + 0.01 * k for k in range(len(bands))),
        )
        for name, bands in modalities().items()
    }


def panel(modality: str, side: int, seed: int, channels: tuple[int, ...] = ()) -> Panel:
    """A panel whose hidden half is predicted one unit too high."""
    own = modalities()[modality]
    bands = tuple(own[k] for k in channels) or tuple(own)
    image = np.random.default_rng(seed).normal(size=(len(bands), side, side)).astype(np.float32)
    shown = np.zeros((side, side), bool)
    shown[:, : side // 2] = True
    predicted = np.where(shown, image, image + 1)
    label = f"part of {modality}" if channels else modality
    return Panel(label, image, shown, predicted, bands)


def write_pictures(folder: Path, samples: int = 2) -> None:
    made = [
        [panel("s2l1c_10", 24, s), panel("s2l1c_20", 12, s), panel("s2l1c_60", 4, s)]
        for s in range(samples)
    ]
    keys = [f"sample_{s}" for s in range(samples)]
    own = {name: tuple(bands) for name, bands in modalities().items()}
    stored.save(folder / "pictures", made, keys, bands=own, normalisation=normalisation())


def write_export(folder: Path) -> None:
    """Save an untrained model where a run leaves its own."""
    import torch

    import fm

    torch.manual_seed(0)
    own = {name: tuple(bands) for name, bands in modalities().items()}
    options = {"token_m": 60, "normalisation": normalisation()}
    model = fm.create_model("vit_nano", bands=own, depth=1, **options)
    fm.checkpoint.save(folder / "export", model)
