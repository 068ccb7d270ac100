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
            "weights_sha256": "0f" * 32,
            "parameters": 5_526_720,
            "architecture": "vit_tiny",
            "adapted": None,
        },
        "benchmark": {
            "name": benchmark,
            "version": "1",
            "dataset": "fixture-dataset",
            "manifest_hash": "ab" * 16,
            "task": "classification of land cover",
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
        "environment": {"python": "3.11.7", "torch": "2.13.0+cpu", "cpu": "fixture cpu"},
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
