"""RANGE on a database made by `fm embed`: does what pictures know help tasks of places?

A location encoder and a small image encoder are contrasted on all pictures of the Blue Marble
(`satclip_tiny` with the settings of docs/geolocation.md, one seed). `fm embed` makes the database:
keys are the pictures in the space of the places, values the image encoder's features. Ridge judges
the encoder, RANGE's two heads on it, and SH-40 with the same values beside it. No label was seen,
but pictures lie everywhere, at test places too, as in RANGE.

A head also adds smooth functions of the place, whatever its values know. So each stands beside the
same head whose values were dealt out anew among the pictures (`shuffled`): what is left of a gain
over that is what pictures know.

`OMP_NUM_THREADS=1 python -m bench.studies retrieval`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.studies.kept import once, part
from bench.studies.location import WORKERS, rows
from bench.studies.scoring import dataset, only_test, pretrained
from fm.files import read_json, sha256_file
from fm.location.checkpoint import describe
from probes.embed.table import embed
from probes.location.database import Database, open_database
from probes.location.encoders import Encoder, get_encoder
from probes.location.points import open_places
from probes.location.suite import run as judged

SPLIT = "test"
SEEDS = (0, 1, 2)
METHODS = ("satclip", "sh40")
"""Encoders that stand alone, with retrieval, and with shuffled retrieval."""
SPLITS = ("random", "blocks")
RECIPE = "satclip_tiny"
SETTINGS = (
    *("data.modalities=[bluemarble_7413]", "data.crop=null", "data.batch_size=256"),
    *("model.token_m=29652", "objective.view={size: 16, scale: [0.6, 1.0], flips: horizontal}"),
    "objective.location={encoding: sh, head: siren, width: 256, options: {L: 10}}",
    *("objective.jitter_degrees=0.1", "schedule={steps: 600, warmup: 50}", "name=satclip"),
    *("checkpoint.every=100", "monitor.pictures=0"),
)
"""Those of docs/geolocation.md, whose run sees the training blocks alone."""


class Beside(nn.Module):
    """One encoding, and what a head retrieves, beside each other.

    Args:
        first: of places.
        head: whose last columns are what it retrieves.
        width: of what it retrieves.
    """

    def __init__(self, first: nn.Module, head: nn.Module, width: int) -> None:
        super().__init__()
        self.first, self.head, self.width = first, head, width

    def forward(self, lonlat: Tensor) -> Tensor:
        """Embed `[N, 2]` degrees."""
        return torch.cat([self.first(lonlat).float(), self.head(lonlat)[:, -self.width :]], dim=1)


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> dict[str, Any]:
    """Pretrain, embed, judge; what is in `work` is used again. See `bench.studies`.

    Raises:
        UsageError: another split than `test`; nothing is chosen here.
    """
    only_test(split)
    folder = dataset("blue-marble", work / "blue-marble", cache)
    export, _ = pretrained(RECIPE, [f"data.path={folder}", "seed=0", *SETTINGS], work / "satclip")
    state = read_json(work / "satclip" / "state.json")
    place = export.parent / "location"
    database = open_database(embedded(place, export, folder, work))
    places = open_places(cache)
    encoders = beside_each_other(get_encoder(str(place), cache), database, cache, methods)
    about = {
        "encoders": list(encoders),
        "seeds": list(seeds),
        "database": database.sha256,
        "places": {name: own.sha256 for name, own in places.items()},
    }

    def make() -> list[dict[str, Any]]:
        table = judged(list(encoders.values()), places, splits=SPLITS, seeds=seeds, workers=WORKERS)
        return rows(table)

    made = part(work / "parts", about, make)
    return {
        "seeds": list(seeds),
        "images": len(database.keys),
        "database": database.about,
        "pretraining": {"steps": state["step"], "seconds": round(state["seconds"], 1)},
        "seconds": made.seconds,
        "cpu": made.cpu,
        "rows": made.value,
    }


def embedded(place: Path, export: Path, data: Path, work: Path) -> list[Path]:
    """Write the keys and the values of the pictures, unless the same run wrote them.

    Args:
        place: the run's location encoder, whose space the keys are in.
        export: the run's image encoder.
        data: the pictures.
        work: where both files lie.
    """
    about = {
        "place": describe(place)["weights_sha256"],
        "images": read_json(export / "card.json", "card")["weights_sha256"],
        "data": sha256_file(data / "dataset.json"),
    }
    return [
        once(path, about, lambda model=model, path=path: embed(model, data, path))
        for model, path in ((place, work / "keys.parquet"), (export, work / "values.parquet"))
    ]


def beside_each_other(
    own: Encoder, database: Database, cache: Path, methods: Sequence[str]
) -> dict[str, Encoder]:
    """Put retrieval on encoders, by name; `METHODS` says which."""
    dealt = np.random.Generator(np.random.PCG64(0)).permutation(len(database.values))
    shuffled = replace(database, values=database.values[dealt])
    heads = {
        head.name.removeprefix(f"{own.name}-") + mark: head
        for mark, one in (("", database), (", shuffled", shuffled))
        for head in one.on(own)
    }
    found: dict[str, Encoder] = {}
    width = database.values.shape[1]
    for name in methods:
        alone = own if name == "satclip" else get_encoder(name, cache)
        found[name] = replace(alone, name=name)
        for words, head in heads.items():
            if alone is own:
                found[f"{name}, {words}"] = replace(head, name=f"{name}, {words}")
            elif words.startswith("range-plus"):
                assert isinstance(alone.module, nn.Module)
                assert isinstance(head.module, nn.Module)
                module = Beside(alone.module, head.module, width)
                found[f"{name}, {words}"] = replace(alone, name=f"{name}, {words}", module=module)
    return found


def summary(found: dict[str, Any], work: Path) -> str:
    """Return what is printed at the end."""
    del work
    return f"{len(found['rows'])} rows on {found['images']} pictures in {found['seconds']} s"
