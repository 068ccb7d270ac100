"""Sound results with seeded fake values, all named as fixtures."""

import json
import random
from pathlib import Path

CLASSES = ["fixture-corn", "fixture-grass", "fixture-woods", "fixture-stone"]
SCORES = {"fixture-mae": 0.81, "fixture-random": 0.76, "fixture-stats": 0.62, "fixture-cnn": 0.84}
KINDS = {
    "fixture-mae": "pretrained",
    "fixture-random": "random-init",
    "fixture-stats": "floor",
    "fixture-cnn": "supervised",
}


def fixture_result(name="fixture-mae", benchmark="fixture-fields", protocol="linear", **changes):
    """One sound Result with seeded fake values; `changes` replace top-level keys."""
    draw = random.Random(f"{name} {benchmark} {protocol}")
    score = SCORES[name] + draw.uniform(-0.02, 0.02)
    value = {
        "format_version": 1,
        "id": f"{benchmark}--{protocol}--{name}--s0",
        "created": "2024-01-02T03:04:05Z",
        "command": f"fm probe runs/{name}/export --benchmark {benchmark} --protocol {protocol}",
        "model": {
            "name": name,
            "kind": KINDS[name],
            "path": f"runs/{name}/export",
            "weights_sha256": "0f" * 32 if KINDS[name] == "pretrained" else None,
            "parameters": 5_526_720,
            "architecture": "vit_tiny",
            "adapted": None,
        },
        "benchmark": {
            "name": benchmark,
            "version": "1",
            "dataset": "fixture-dataset",
            "manifest_hash": "ab" * 16,
            "task": "class",
            "n_train": 512,
            "n_val": 128,
            "n_test": 1024,
            "classes": CLASSES,
            "verified": "fixtures only",
            "split": "checkerboard of 16 px, three ways",
        },
        "protocol": {"name": protocol, "version": "1", "settings": {"pool": "mean", "l2": 0.1}},
        "seed": 0,
        "metrics": {
            "oa": {"value": score, "low": score - 0.03, "high": score + 0.03},
            "aa": {"value": score - 0.08, "low": score - 0.13, "high": score - 0.02},
            "kappa": {"value": score - 0.05, "low": score - 0.09, "high": score - 0.01},
        },
        "primary": "oa",
        "interval": {
            "kind": "percentile bootstrap",
            "unit": "block",
            "resamples": 1000,
            "level": 0.95,
        },
        "selection": {
            "split": "val",
            "name": "C",
            "grid": [0.01, 0.1, 1.0, 10.0],
            "scores": [0.61, 0.7, 0.74, 0.755],
            "chosen": 10.0,
            "on_edge": True,
        },
        "versus": [],
        "overlap": {
            "statement": "Pretraining saw the pixels of the whole scene, without labels.",
            "shared_samples": 1024,
            "transductive": True,
        },
        "environment": {"eofm": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu"},
        "seconds": 12.25,
        "per_class": [draw.uniform(0.4, 1) for _ in CLASSES],
        "confusion": [[draw.randrange(90) for _ in CLASSES] for _ in CLASSES],
    }
    if KINDS[name] == "pretrained":
        value["versus"] = [versus(0.052, 0.011, 0.094), versus(0.19, 0.15, 0.23, "floor")]
    else:
        statement = f"none: {name} was not pretrained"
        value["overlap"] = {"statement": statement, "shared_samples": 0, "transductive": False}
    return value | changes


def versus(difference, low, high, kind="random-init", metric="oa", name=None):
    return {
        "name": name or f"fixture-{kind}",
        "kind": kind,
        "metric": metric,
        "difference": difference,
        "low": low,
        "high": high,
        "paired": "block bootstrap",
    }


def full_result(name="fixture-mae", benchmark="fixture-fields", protocol="linear", **changes):
    """A result of format 2 that says all it can."""
    value = fixture_result(name, benchmark, protocol)
    score = value["metrics"]["oa"]["value"]
    value |= {
        "format_version": 2,
        "axes": {
            "resize": 224,
            "interpolation": "bilinear",
            "normaliser": "zscore",
            "bands": {"names": ["red", "green"], "missing": "refused"},
        },
        "cost": {"parameters": 5_526_720, "flops": 1.26e9, "samples_per_second": 412.5},
        "diagnostics": {"ece": 0.042, "effective_rank": 61.2, "uniformity": -2.31},
        "robustness": [
            {
                "name": "gain +20 %",
                "metric": "oa",
                "value": score - 0.02,
                "low": score - 0.05,
                "high": score + 0.01,
                "drop": 0.02,
            },
            {"name": "without red", "metric": "oa", "value": score - 0.2, "drop": 0.2},
        ],
        "contamination": {"radius_km": 5, "near": 17, "of": 1024, "rule": "within 5 km"},
        "examples": [
            {"key": "a-1", "truth": CLASSES[0], "prediction": CLASSES[0], "score": 0.91},
            {"key": "a-2", "truth": CLASSES[1], "prediction": CLASSES[2], "score": 0.48},
        ],
        "per_class": [
            {"class": c, "support": 256, "recall": 0.9 - 0.1 * i, "f1": 0.95 - 0.2 * i}
            for i, c in enumerate(CLASSES)
        ],
    }
    value["model"]["card"] = {
        "objective": {"name": "mae", "mask_ratio": 0.75},
        "training": {"steps": 2000, "loss_end": 0.45},
        "licence": "fixture-licence",
        "parent": None,
    }
    return value | changes


def save(folder: Path, *results) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        (folder / f"{result['id']}.json").write_text(json.dumps(result))
    return folder


def sample_folder(folder: Path) -> Path:
    """Two benchmarks, three groups, four kinds; one verdict of each sort."""
    outcomes = {
        ("fixture-fields", "linear"): versus(0.052, 0.011, 0.094),
        ("fixture-fields", "knn"): versus(0.008, -0.02, 0.035),
        ("fixture-radar", "linear"): versus(-0.061, -0.104, -0.02),
    }
    for (benchmark, protocol), against in outcomes.items():
        for name in SCORES:
            own = "image-statistics" if KINDS[name] == "floor" else protocol
            result = fixture_result(name, benchmark, own)
            if name == "fixture-mae":
                result["versus"] = [against, versus(0.19, 0.15, 0.23, "floor")]
            save(folder, result)
    return folder


# name, kind, level, parameters, FLOPs, samples a second
_MODELS = (
    ("fixture-mae-base", "pretrained", 0.79, 86_400_000, 17.6e9, 95.0),
    ("fixture-mae-small", "pretrained", 0.77, 22_050_000, 4.6e9, 310.0),
    ("fixture-moco-rn50", "pretrained", 0.74, 23_510_000, 4.1e9, 280.0),
    ("fixture-location", "pretrained", 0.66, 1_900_000, 4.0e6, 21_000.0),
    ("fixture-unet-scratch", "supervised", 0.76, 31_000_000, 9.9e9, 160.0),
    ("fixture-mae-base-random-init", "random-init", 0.68, 86_400_000, 17.6e9, 95.0),
    ("fixture-moco-rn50-random-init", "random-init", 0.64, 23_510_000, 4.1e9, 280.0),
)
_BENCHMARKS = (
    # name, task, primary, offset, split unit, verified
    ("fixture-fields", "class", "oa", 0.06, "block", "real files (fixture 1.0)"),
    ("fixture-labels", "multilabel", "map", -0.12, "image", "samples"),
    ("fixture-cover", "segmentation", "miou", -0.18, "scene", "fixtures only"),
    ("fixture-biomass", "regression", "rmse", 0.0, "image", "fixtures only"),
)


def _number(primary, level, draw, width=0.02):
    value = level + draw.uniform(-0.012, 0.012)
    if primary == "rmse":
        value, width = 90 * (1 - value), 3.0
    return {"value": value, "low": value - width, "high": value + width * 0.9}


def board_folder(folder: Path) -> Path:
    """A board of several models, tasks and protocols with gaps, seeds and every optional key."""
    for benchmark, task, primary, offset, unit, verified in _BENCHMARKS:
        for protocol in ("linear", "knn"):
            for name, kind, level, size, flops, speed in _MODELS:
                if name == "fixture-location" and benchmark != "fixture-biomass":
                    continue
                if name == "fixture-unet-scratch" and protocol == "knn":
                    continue
                if name == "fixture-mae-small" and benchmark == "fixture-cover":
                    continue
                for seed in (0, 1) if name == "fixture-mae-base" else (0,):
                    _save_one(
                        folder, benchmark, task, primary, unit, verified, protocol, seed,
                        (name, kind, level + offset, size, flops, speed),
                    )  # fmt: skip
        for name, level in (("image-statistics", 0.62), ("random-conv", 0.66)):
            _save_one(
                folder, benchmark, task, primary, unit, verified, name, 0,
                (name, "floor", level + offset, None, None, None),
            )  # fmt: skip
    return folder


def _save_one(folder, benchmark, task, primary, unit, verified, protocol, seed, model):
    name, kind, level, size, flops, speed = model
    draw = random.Random(f"{benchmark} {protocol} {name} {seed}")
    level -= 0.03 if protocol == "knn" else 0
    pretrained = kind == "pretrained"
    result = full_result("fixture-mae" if pretrained else "fixture-random")
    held = _number(primary, level, draw)
    result |= {
        "id": f"{benchmark}--{protocol}--{name}--s{seed}",
        "command": f"fm probe runs/{name}/export --benchmark {benchmark} --seed {seed}",
        "seed": seed,
        "primary": primary,
        "metrics": {primary: held},
        "versus": [],
        "cost": None
        if size is None
        else {"parameters": size, "flops": flops, "samples_per_second": speed},
    }
    if task == "class":
        result["metrics"]["kappa"] = {k: v - 0.05 for k, v in held.items()}
    else:
        result["confusion"] = None
    if task == "regression":
        result["per_class"] = None
    if pretrained:
        fresh = draw.uniform(-0.02, 0.09) * (-60 if primary == "rmse" else 1)
        half = 1.5 if primary == "rmse" else 0.03
        rival = "moco-rn50" if "moco" in name else "mae-base"
        result["versus"] = [
            versus(fresh, fresh - half, fresh + half, "random-init", primary,
                   f"fixture-{rival}-random-init"),
            versus(2 * fresh, fresh, 3 * fresh, "floor", primary, "image-statistics")
            if fresh > 0
            else versus(fresh, 2 * fresh, 0.0, "floor", primary, "image-statistics"),
        ]  # fmt: skip
        if benchmark != "fixture-fields":
            result["overlap"] = {
                "statement": "pretrained on another dataset; 17 test samples within 5 km",
                "shared_samples": 0,
                "transductive": False,
            }
    result["model"] |= {
        "name": name,
        "kind": kind,
        "parameters": size,
        "architecture": None if size is None else name.removeprefix("fixture-"),
        "weights_sha256": f"{len(name):02x}" * 32 if pretrained else None,
        "card": result["model"]["card"] if pretrained else None,
    }
    result["benchmark"] |= {
        "name": benchmark,
        "dataset": f"{benchmark}-data",
        "task": task,
        "verified": verified,
        "classes": None if task == "regression" else CLASSES,
    }
    result["interval"] |= {"unit": unit}
    result["protocol"] |= {"name": protocol}
    save(folder, result)
