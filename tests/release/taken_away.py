"""Run by the Python of an installed wheel: shards, a run, embeddings and a search, on 32 pixels."""

import sys
from pathlib import Path

import numpy as np
import torch

import fm
import shards
from fm import weights
from fm.cli import main
from fm.config import list_recipes

assert Path(fm.__file__).is_relative_to(sys.prefix), fm.__file__
assert "mae_s2_tiny" in list_recipes("pretrain")

bands = fm.sensor("sentinel2-l1c").modalities["s2l1c_10"]
model = fm.create_model("vit_nano", bands=bands, token_m=80)
pixels = {"s2l1c_10": torch.zeros(2, len(bands), 32, 32, dtype=torch.int16)}
assert model.eval().encode(pixels).pooled.shape[0] == 2
assert [fm.load(f"eofm/{name}").card.name for name in weights.names()]  # offline, out of the wheel

rng = np.random.default_rng(0)
shards.write_dataset(
    "data",
    (
        shards.Sample(
            key=f"s{i}",
            arrays={"s2l1c_10": rng.integers(500, 3000, (4, 32, 32)).astype(np.uint16)},
            lonlat=(float(i), 45.0),
            split="train",
        )
        for i in range(8)
    ),
    name="tiny",
    provenance={"source": "random numbers"},
    modalities={"s2l1c_10": shards.Declared("sentinel2-l1c", tuple(b.name for b in bands))},
    licence="CC0-1.0",
)
for line in (
    "pretrain mae_s2_tiny out=run data.path=data data.modalities=[s2l1c_10] data.crop=32 "
    "data.batch_size=4 model.name=vit_nano model.options={} model.token_m=80 schedule.steps=2 "
    "schedule.warmup=0 checkpoint.every=2",
    "embed run/export data --out features.parquet",
    "search features.parquet s3 --count 2",
):
    assert main(line.split()) == 0, line
