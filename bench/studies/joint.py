"""The joint target: as good as an index-locked adapter, as robust to other bands as LESS.

Models are pretrained on 104 of the 200 bands of Indian Pines (80/101 of those below 993.5 nm,
40/101 of the others, evenly spread: the paper's C120_VNIR+ scaled to this sensor), training blocks
only. A linear probe is fitted on the same bands and tested, unchanged, on others: SWIR+ (the
reverse shares), the complement, all 200, and bands simulated with Gaussian responses of
PRISMA-, DESIS- and EnMAP-like sensors and of Sentinel-2.

A model that takes other bands gets their per-band mean and deviation over the training blocks
(`calibrated`: unlabelled pixels of the new sensor are known), or nothing (`strict`: interpolated in
wavelength from its own bands). The adapter is index-locked: it reads any 75 or more bands as if
they were its own, in the order in which they come.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fm
from bench.studies.kept import code_hash
from bench.studies.scoring import Probe, dataset, pretrained, with_interval
from fm.console import note, progress
from fm.errors import UsageError
from fm.files import read_json
from fm.normalize import Kind, Normalisation
from fm.sensors import Band, sensor
from fm.spectral import response, supported
from probes.benchmarks import get_benchmark
from probes.benchmarks.indian_pines import MODALITY, SOURCE, WINDOW
from probes.benchmarks.scene import SPLITS, read_scene
from probes.benchmarks.windows import Scene, cut
from probes.statistics.answers import ClassAnswers

VNIR_NM = 993.5
VERSION = 1
"""Raised when the same settings would give other predictions."""
STEPS = 400
EVERY = 3
"""Every third labelled window of each split is used: neighbours say the same."""
SHARED = (
    "data.modalities=[aviris_20]",
    "data.where=split == 'train' and height == 12 and width == 12",
    "data.crop=9",
    "data.random_crop=true",
    "data.statistics=samples",
    "data.batch_size=64",
    "model.token_m=60",
    f"schedule.steps={STEPS}",
    f"schedule.warmup={STEPS // 10}",
    "checkpoint.every=10000",
    "monitor.pictures=0",
    "monitor.every=20",
)
"""Of every run: the same crops, token size, steps and samples."""


@dataclass(frozen=True)
class Method:
    """What is pretrained.

    Attributes:
        recipe: the pretraining recipe.
        overrides: beside `SHARED`.
        locked: reads bands by their place.
        modes: how other bands are normalised, `calibrated` and `strict`.
    """

    recipe: str
    overrides: tuple[str, ...] = ()
    locked: bool = False
    modes: tuple[str, ...] = ("calibrated", "strict")


METHODS: dict[str, Method] = {
    "adapter": Method("spectralearth_mae_tiny", locked=True, modes=("calibrated",)),
    "adapter-same-recipe": Method(
        "mae_indian_pines_tiny",
        ("model.options={tokenizer: spectral_adapter}",),
        locked=True,
        modes=("calibrated",),
    ),
    "basis-without-views": Method("mae_indian_pines_tiny"),
    "basis": Method("mae_indian_pines_tiny", ("objective.spectral_views=96",)),
    "less": Method("less_tiny", modes=("calibrated",)),
}


@dataclass(frozen=True)
class BandSet:
    """Bands to test on.

    Attributes:
        bands: in channel order.
        rows: `[bands, 200]`, what they are of the scene's bands.
    """

    bands: tuple[Band, ...]
    rows: np.ndarray


def _even(count: int, number: int) -> np.ndarray:
    return np.floor((np.arange(number) + 0.5) * count / number).astype(int)


def band_sets(own: Sequence[Band]) -> dict[str, BandSet]:
    """Return the band sets; the first is the one that models are trained on."""
    below = sum(1 for band in own if (band.wavelength_nm or 0) <= VNIR_NM)
    above = len(own) - below

    def shares(first: float, second: float) -> np.ndarray:
        low = _even(below, round(below * first / 101))
        return np.concatenate([low, below + _even(above, round(above * second / 101))])

    vnir, swir = shares(80, 40), shares(40, 80)
    picks = {
        "vnir+": vnir,
        "swir+": swir,
        "complement": np.setdiff1d(np.arange(len(own)), vnir),
        "all": np.arange(len(own)),
    }
    found = {
        name: BandSet(tuple(own[i] for i in pick), np.eye(len(own))[pick])
        for name, pick in picks.items()
    }
    like = {
        "prisma-like": _sensor(np.arange(400.0, 2501.0, 12.0), 12.0),
        "desis-like": _sensor(402.0 + 2.55 * np.arange(235), 3.5),
        "enmap-like": tuple(b for b in sensor("enmap-l2a").bands if b.wavelength_nm),
        "s2-like": tuple(b for b in sensor("sentinel2-l1c").bands if b.wavelength_nm),
    }
    for name, bands in like.items():
        # simulated from this scene's pixels, so on its grid
        bands = tuple(replace(bands[i], gsd_m=own[0].gsd_m) for i in supported(own, bands))
        found[name] = BandSet(bands, response(own, bands))
    return found


def _sensor(centres: np.ndarray, width: float) -> tuple[Band, ...]:
    return tuple(Band(f"{c:.2f}", float(c), width, 20.0, "dn") for c in centres)


class Windows:
    """The labelled windows of the scene through any band set."""

    def __init__(self, folder: Path) -> None:
        self.scene, self.dataset, _ = read_scene(folder, MODALITY, SOURCE)
        self.data = get_benchmark("indian-pines").load(folder)
        label = self.scene.label
        classes = self.dataset.info.labels["land_cover"].classes
        kept = [classes.index(name) for name in self.data.classes]
        rows, cols = np.nonzero(np.isin(label, kept) & (self.scene.split >= 0))
        self.rows, self.cols = rows, cols
        self.train_pixels = self.scene.split == SPLITS.index("train")

    def cube(self, bands: BandSet) -> np.ndarray:
        """Return the scene in a band set, `[C, H, W]` float32."""
        made: np.ndarray = np.tensordot(bands.rows, self.scene.pixels.astype(np.float64), 1)
        return made.astype(np.float32)

    def normalisation(self, cube: np.ndarray, kind: Kind) -> Normalisation:
        """Return the model's kind of normalisation by the statistics of the training blocks."""
        pixels = cube[:, self.train_pixels].astype(np.float64)
        mean, std = pixels.mean(axis=1).tolist(), pixels.std(axis=1).tolist()
        return Normalisation.fit(kind, {"mean": mean, "std": std})

    def features(
        self, model: Any, bands: BandSet, index: np.ndarray, *, calibrated: bool, label: str
    ) -> np.ndarray:
        """Encode windows: `[N, D]`."""
        cube = self.cube(bands)
        scene = Scene(cube, self.scene.label, self.scene.split, self.scene.block)
        options: dict[str, Any] = {"bands": {MODALITY: bands.bands}}
        if calibrated:
            kind = model.normalisation[MODALITY].kind
            options["normalisation"] = {MODALITY: self.normalisation(cube, kind)}
        parts = []
        with torch.inference_mode(), progress(label, len(index)) as bar:
            for start in range(0, len(index), 256):
                part = index[start : start + 256]
                pixels, valid = cut(scene, self.rows[part], self.cols[part], WINDOW)
                made = model.encode(
                    {MODALITY: torch.from_numpy(np.ascontiguousarray(pixels))},
                    valid={MODALITY: torch.from_numpy(valid)},
                    **options,
                )
                parts.append(made.pooled.float().numpy())
                bar.advance(len(part))
        return np.concatenate(parts)


def index_locked(model: Any, count: int) -> Any:
    """Let an adapter read another number of bands by their place, as the original does.

    Raises:
        UsageError: fewer than its filters need.
    """
    own = model.bands[MODALITY]
    bands = tuple(replace(own[i % len(own)], name=f"place-{i}") for i in range(count))
    options = {k: v for k, v in model.architecture.items() if k != "name"}
    other = fm.create_model(
        model.architecture["name"],
        bands={MODALITY: bands},
        normalisation={MODALITY: _repeated(model.normalisation[MODALITY], count)},
        scaling=model.scaling,
        **options,
    )
    other.load_state_dict(model.state_dict())
    return other.eval()


def _repeated(own: Normalisation, count: int) -> Normalisation:
    """Return a normalisation of `count` bands of the same kind; its numbers are not used."""
    return own.select([i % len(own) for i in range(count)])


def adapter_through(model: Any, bands: BandSet) -> tuple[Any, BandSet]:
    """Return an index-locked model for a band set, and the set with the model's band names."""
    other = index_locked(model, len(bands.bands))
    return other, BandSet(other.bands[MODALITY], bands.rows)


def run(
    work: Path, cache: Path, *, split: str, seeds: Sequence[int], methods: Sequence[str]
) -> Any:
    """Pretrain, probe and test; everything that was done before is found in `work`.

    Args:
        work: folder for datasets, runs and features.
        cache: of downloaded packages.
        split: `val` while settings are chosen, `test` once they are frozen.
        seeds: of pretraining.
        methods: names of `METHODS`.

    Returns:
        plain values: one row a method, mode and band set, and the comparisons.
    """
    folder = dataset("indian-pines", work / "indian-pines", cache)
    windows = Windows(folder)
    own = windows.dataset.info.modalities[MODALITY].table
    sets = band_sets(own)
    names = [band.name for band in sets["vnir+"].bands]
    data = windows.data
    train, val, asked = (data.of(name)[::EVERY] for name in ("train", "val", split))
    rows = np.unique(np.concatenate([train, val, asked]))
    at = {int(row): i for i, row in enumerate(rows)}
    fitted, chosen, scored = (np.array([at[int(i)] for i in part]) for part in (train, val, asked))
    answers: dict[str, list[ClassAnswers]] = {}
    runs = []
    for method in methods:
        for seed in seeds:
            overrides = [
                *SHARED,
                *METHODS[method].overrides,
                f"data.path={folder}",
                f"data.bands={{{MODALITY}: [{', '.join(names)}]}}",
                f"seed={seed}",
            ]
            settings = [METHODS[method].recipe, overrides, EVERY, split, data.manifest_hash]
            digest = hashlib.sha256(json.dumps([*settings, VERSION]).encode()).hexdigest()[:12]
            out = work / f"{method}-{seed}-{digest}"
            export, told = pretrained(METHODS[method].recipe, overrides, out)
            weights = read_json(export / "card.json", "card")["weights_sha256"]
            made_of = hashlib.sha256(f"{digest} {weights} {code_hash()}".encode()).hexdigest()[:12]
            kept = work / f"{method}-{seed}-{split}-{made_of}.npz"
            if not kept.is_file():
                model = fm.load(export)
                about = {
                    "method": method,
                    "seed": seed,
                    "loss": [told["loss_start"], told["loss_end"]],
                    "parameters": sum(p.numel() for p in model.parameters()),
                    "probes": {},
                }
                found = {}
                for mode in METHODS[method].modes:
                    label = f"{method} {seed} vnir+ {mode}"
                    calibrated = mode == "calibrated"
                    inside = windows.features(
                        model, sets["vnir+"], rows, calibrated=calibrated, label=label
                    )
                    probe = Probe.of(
                        inside, data.targets[rows], fitted, chosen, classes=len(data.classes)
                    )
                    about["probes"][mode] = {
                        "c": probe.c,
                        "c_on_edge": probe.on_edge,
                        "val": probe.val,
                    }
                    for name, bands in sets.items():
                        made = (
                            probe.predict(inside[scored])
                            if name == "vnir+"
                            else _through(
                                windows, model, METHODS[method], bands, asked, probe, mode, name
                            )
                        )
                        if made is not None:
                            found[f"{mode}/{name}"] = made
                np.savez(kept, about=np.array(json.dumps(about)), **found)
            with np.load(kept, allow_pickle=False) as stored:
                runs.append(json.loads(str(stored["about"])))
                for key in stored.files:
                    if key != "about":
                        given = ClassAnswers.of(
                            data.targets[asked], stored[key], data.unit[asked], len(data.classes)
                        )
                        answers.setdefault(f"{method}/{key}", []).append(given)
    sizes = {name: len(found.bands) for name, found in sets.items()}
    return {"split": split, "runs": runs, "bands": sizes, **compare(answers)}


def _through(
    windows: Windows,
    model: Any,
    settings: Method,
    bands: BandSet,
    asked: np.ndarray,
    probe: Probe,
    mode: str,
    name: str,
) -> np.ndarray | None:
    """Return the classes of windows seen through other bands; None where a model refuses them."""
    try:
        if settings.locked:
            model, bands = adapter_through(model, bands)
        made = windows.features(
            model, bands, asked, calibrated=mode == "calibrated", label=f"  {name} {mode}"
        )
    except UsageError as error:
        note(f"{name}: {error}")
        return None
    return probe.predict(made)


def compare(answers: Mapping[str, Sequence[ClassAnswers]]) -> dict[str, Any]:
    """Return scores, relative drops and the differences that the target is about."""
    table, differences = [], []
    for key, given in answers.items():
        method, mode, name = key.split("/")
        home = f"{method}/{mode}/vnir+"
        both = {key: given, home: answers[home]}
        table.append(
            {
                "method": method,
                "mode": mode,
                "bands": name,
                "oa": with_interval(lambda s, k=key: s[k], both),
                "drop": with_interval(lambda s, k=key, h=home: 1.0 - s[k] / s[h], both),
            }
        )
    for mode in ("calibrated", "strict"):
        ours = f"basis/{mode}/vnir+"
        for other in ("adapter", "adapter-same-recipe", "basis-without-views", "less"):
            theirs = f"{other}/calibrated/vnir+"
            if ours in answers and theirs in answers:
                found = with_interval(
                    lambda s, a=ours, b=theirs: s[a] - s[b],
                    {ours: answers[ours], theirs: answers[theirs]},
                )
                differences.append({"what": f"in distribution: {ours} - {theirs}", **found})
        for key in answers:
            method, kind, name = key.split("/")
            rival = f"less/calibrated/{name}"
            if method != "basis" or kind != mode or name == "vnir+" or rival not in answers:
                continue
            home, away = f"basis/{mode}/vnir+", "less/calibrated/vnir+"
            found = with_interval(
                lambda s, k=key, h=home, r=rival, a=away: (1 - s[k] / s[h]) - (1 - s[r] / s[a]),
                {k: answers[k] for k in (key, home, rival, away)},
            )
            differences.append(
                {"what": f"relative drop on {name}: basis {mode} - less calibrated", **found}
            )
    return {"table": table, "differences": differences}
