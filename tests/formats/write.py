"""Writes small files of each format with the code of an earlier commit; README.md says which.

    PYTHONPATH=OLD_TREE OMP_NUM_THREADS=1 python write.py FOLDER PART ...

It must run under every commit that it is used with, so it keeps to what all of them have.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch

torch.set_num_threads(1)
HERE = Path(__file__).parent
FORMAT1 = HERE.parent / "shards" / "data" / "format1"
BANDS = ("B02", "B03", "B04", "B08")


def _declared():
    try:
        from shards.building.writer import Declared
    except ImportError:
        from shards.writer import Declared
    return Declared


def dataset(out: Path, *, images: bool) -> None:
    """Two places, one of them partly no data; with `images` series of two, labelled each."""
    import shards
    from shards.format import LabelInfo

    rng = np.random.default_rng(2)
    shape = (2, 4, 12, 12) if images else (4, 12, 12)
    samples, told = [], {}
    for i in range(4):
        pixels = rng.integers(200, 4000, shape).astype(np.uint16)
        if i == 1:
            pixels[..., :3, :] = 0
        labels = (
            {"cover": [i % 2, 1 - i % 2], "share": [0.25, 0.75]} if images else {"cover": i % 2}
        )
        times = [f"2020-0{1 + i}-01T10:00:00Z", f"2020-0{5 + i}-01T10:00:00Z"]
        samples.append(
            shards.Sample(
                key=f"place_{i}",
                arrays={"s2l1c_10": pixels},
                lonlat=(7.0 + i, 50.0),
                split=("train", "val")[i % 2],
                labels=labels,
                crs="EPSG:32632",
                transform=(10.0, 0.0, 500000.0 + 120 * i, 0.0, -10.0, 5500000.0),
                **({"times": times} if images else {"time": times[0]}),
            )
        )
    labels = {
        "cover": LabelInfo(
            "cover", "class", ("dark", "bright"), **({"images": 2} if images else {})
        )
    }
    if images:
        labels["share"] = LabelInfo("share", "fractions", ("water", "land"))
    shards.write_dataset(
        out,
        samples,
        name="old",
        modalities={"s2l1c_10": _declared()("sentinel2-l1c", BANDS, nodata=0)},
        labels=labels,
        provenance={"source": "random numbers"},
        licence="CC0-1.0",
    )
    ds = shards.open(out)
    for i in range(len(ds)):
        told[ds[i].key] = int(ds[i].arrays["s2l1c_10"].astype(np.int64).sum())
    _tell(out.parent, out.name, {"manifest_hash": ds.manifest_hash, "sums": told})


def words(out: Path, data: Path, spell: str) -> list[str]:
    """Overrides of the recipe for a model of a few kB."""
    width = "model.options={width: 12, depth: 1, heads: 2}"
    if spell == "early":  # before options had a key of their own
        width = "model.width=12 model.depth=1 model.heads=2"
    return [
        *([width] if spell != "early" else width.split()),
        *(f"data.path={data}", "data.modalities=[s2l1c_10]", "data.batch_size=2", f"out={out}"),
        *("data.threads=1", "model.name=vit_nano", "model.token_m=40", "monitor.pictures=0"),
        "objective.decoder={kind: cross, width: 8, depth: 1, heads: 2}",
        *(
            "schedule.steps=4",
            "schedule.warmup=1",
            "checkpoint.every=2",
            "monitor.tensorboard=false",
        ),
        *(["data.crop=12"] if spell != "early" else []),
    ]


def run(out: Path, data: Path, spell: str) -> None:
    """A run of four steps, and the same killed after its checkpoint of the second."""
    import fm
    import pretrain
    import shards

    pretrain.run("mae_s2_tiny", overrides=words(out / "whole", data, spell))
    lines = (out / "whole" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    model = fm.load(out / "whole" / "export")
    pixels = {
        "s2l1c_10": torch.from_numpy(shards.open(data)[0].arrays["s2l1c_10"].astype("int32"))[None]
    }
    with torch.no_grad():
        pooled = model.eval().encode(pixels).pooled[0]
    _tell(out, "run", {"losses": losses, "pooled": pooled.tolist()})
    again = [sys.executable, __file__, str(out), f"killed-{spell}"]
    assert subprocess.run(again, check=False).returncode == -signal.SIGKILL


def killed(out: Path, data: Path, spell: str) -> None:
    """The same run, slowly, until its first checkpoint is there."""
    import pretrain

    backward = torch.Tensor.backward

    def slowly(self, *args, **kwargs):
        time.sleep(0.3)
        return backward(self, *args, **kwargs)

    def kill() -> None:
        while not (out / "killed" / "latest").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    torch.Tensor.backward = slowly
    threading.Thread(target=kill, daemon=True).start()
    pretrain.run("mae_s2_tiny", overrides=words(out / "killed", data, spell))


def embeddings(out: Path, data: Path) -> None:
    """Features of the run's model over its own dataset."""
    import probes

    del probes
    try:
        from probes.embed.table import embed
    except ImportError:
        from probes.embed import embed
    embed(str(out / "whole" / "export"), data, out / "features.parquet")


def result(out: Path, tree: Path) -> None:
    """One row of a benchmark over that tree's own stand-in for it."""
    sys.path.insert(0, str(tree))
    import fm
    import probes
    from tests.probes import standin

    bands = {m: fm.sensor("sentinel2-l2a").select(names) for m, names in standin.S2L2A.items()}
    model = fm.create_model("vit_nano", bands=bands, token_m=120)
    pairs = standin.write_pairs(out / "pairs")
    probes.evaluate(model, "bigearthnet-s2", "knn", data=pairs, out=out / "results")


def place(out: Path, data: Path | None) -> None:
    """A location encoder: alone, or beside the image encoder it was trained with."""
    import pretrain
    from fm import location

    if data is None:
        torch.manual_seed(0)
        location.save(
            out / "location", location.create("sh", L=5, width=16, dim=8), {"name": "old"}
        )
    else:
        chosen = [
            *(f"data.path={data}", f"out={out / 'pair'}", "data.batch_size=2", "data.crop=12"),
            *(
                "data.threads=1",
                "model.token_m=40",
                "model.options={width: 12, depth: 1, heads: 2}",
            ),
            *("objective.width=8", "objective.view.size=12", "monitor.tensorboard=false"),
            "objective.location={encoding: theory, head: mlp, width: 16, "
            "options: {min_radius: 0.01, max_radius: 1.0, scales: 4}}",
            *("schedule.steps=2", "schedule.warmup=1", "monitor.pictures=0"),
        ]
        pretrain.run("satclip_tiny", overrides=chosen)
    made = location.load(out / ("location" if data is None else "pair/location"))
    with torch.no_grad():
        told = made(torch.tensor([[7.0, 50.0], [-179.5, -33.0]], dtype=torch.float64))
    _tell(out, "location", {"embeddings": told.tolist()})


def _tell(out: Path, part: str, values: dict) -> None:
    path = out / "expected.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, part: values}, indent=1) + "\n")


def main() -> None:
    """Write the parts that are named."""
    import fm

    out, tree = Path(sys.argv[1]), Path(fm.__file__).parents[1]
    out.mkdir(parents=True, exist_ok=True)
    made = {
        "dataset2": lambda: dataset(out / "dataset", images=False),
        "dataset3": lambda: dataset(out / "dataset", images=True),
        "run1": lambda: run(out, FORMAT1, "early"),
        "run2": lambda: run(out, out / "dataset", "late"),
        "killed-early": lambda: killed(out, FORMAT1, "early"),
        "killed-late": lambda: killed(out, out / "dataset", "late"),
        "embeddings1": lambda: embeddings(out, FORMAT1),
        "embeddings2": lambda: embeddings(out, out / "dataset"),
        "result": lambda: result(out, tree),
        "location1": lambda: place(out, None),
        "location2": lambda: place(out, out / "dataset"),
    }
    for part in sys.argv[2:]:
        made[part]()


if __name__ == "__main__":
    main()
