"""The page of a model on the Hugging Face hub: fields that a program reads, words for people."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from fm.card import Card
from fm.errors import FMError
from fm.files import read_json
from fm.sensors import sensor_of_modality


def parts_of(card: Card) -> list[Mapping[str, Any]]:
    """Return what the card says of each dataset: one, or the parts of a mixture."""
    parts = card.data.get("parts")
    if isinstance(parts, Mapping):
        return [part for part in parts.values() if isinstance(part, Mapping)]
    return [card.data] if card.data else []


def results_in(folder: str | os.PathLike[str], card: Card) -> list[dict[str, Any]]:
    """Read the probe results of these very weights.

    Args:
        folder: with the JSON documents that `fm probe` writes.
        card: whose `weights_sha256` a result must name.

    Raises:
        FMError: none is of these weights, or a document is no result.
    """
    found = []
    if not Path(folder).is_dir():
        raise FMError(f"{folder}: no such folder of results")
    paths = sorted(Path(folder).rglob("*.json"))
    for path in paths:
        values = read_json(path, "result")
        try:
            if values["model"]["weights_sha256"] != card.weights_sha256:
                continue
            best = values["metrics"][values["primary"]]
            found.append(
                {
                    "benchmark": f"{values['benchmark']['name']}@{values['benchmark']['version']}",
                    "task": values["benchmark"]["task"],
                    "protocol": f"{values['protocol']['name']}@{values['protocol']['version']}",
                    "metric": values["primary"],
                    "value": best["value"],
                    "low": best["low"],
                    "high": best["high"],
                    "seed": values["seed"],
                }
            )
        except (KeyError, TypeError):
            raise FMError(f"{path}: not a result of fm probe; give the folder of results") from None
    if not found:
        raise FMError(
            f"{folder}: none of {len(paths)} results is of these weights; probe this checkpoint"
        )
    return found


def fields(card: Card, results: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the front matter.

    `geo_embedding` says what somebody who compares embeddings of places asks: bands with
    wavelengths and units, sampling distances, product levels, what was seen in training.

    Args:
        card: of the model.
        results: what `results_in` read.
    """
    sensors = {sensor.name: sensor for sensor in map(sensor_of_modality, card.bands)}
    parts = parts_of(card)
    options = card.architecture
    geo: dict[str, Any] = {
        "dimension": options.get("width"),
        "outputs": ["pooled", "tokens"],
        "token_m": options.get("token_m"),
        "gsd_m": {m: bands[0].gsd_m for m, bands in card.bands.items()},
        "products": [
            {"sensor": s.name, "platform": s.platform, "level": s.level} for s in sensors.values()
        ],
        "bands": {
            m: [
                {
                    "name": band.name,
                    "wavelength_nm": band.wavelength_nm,
                    "fwhm_nm": band.fwhm_nm,
                    "unit": band.unit,
                    "polarisation": band.polarisation,
                }
                for band in bands
            ]
            for m, bands in card.bands.items()
        },
        "normalisation": {m: normal.kind for m, normal in card.normalisation.items()},
        "objective": card.objective.get("kind"),
        "training_data": [
            {
                "name": part.get("name"),
                "manifest_hash": part.get("manifest_hash"),
                "samples": part.get("samples"),
                "cells": len(part.get("cells") or ()),
                "cell_km": part.get("cell_km"),
                "months": list(part.get("months") or ()),
            }
            for part in parts
        ],
        "weights_sha256": card.weights_sha256,
    }
    if card.adapted_from is not None:
        geo["adapted_from"] = {
            key: card.adapted_from[key] for key in ("name", "weights_sha256", "bands")
        }
    made: dict[str, Any] = {
        "library_name": "eofm",
        "pipeline_tag": "image-feature-extraction",
        **_licence(card.licence),
        "tags": ["earth-observation", "remote-sensing", "geo-embeddings", *sorted(sensors)],
        "geo_embedding": geo,
    }
    if results:
        made["model-index"] = [
            {
                "name": card.name,
                "results": [
                    {
                        "task": {"type": str(row["task"])},
                        "dataset": {"name": row["benchmark"], "type": row["benchmark"]},
                        "metrics": [
                            {
                                "type": row["metric"],
                                "name": f"{row['metric']}, {row['protocol']}, seed {row['seed']}",
                                "value": row["value"],
                            }
                        ],
                    }
                    for row in results
                ],
            }
        ]
    return made


_LICENCES = (
    *("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0"),
    *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "odbl", "unknown"),
)
"""Names that the hub knows, lower case as there; any other text is given as it is."""


def _licence(text: str) -> dict[str, str]:
    if text.lower() in _LICENCES:
        return {"license": text.lower()}
    return {"license": "other", "license_name": text}


def page(card: Card, results: Sequence[Mapping[str, Any]], body: str) -> str:
    """Write the page: front matter, then what the folder's own page says, then scores.

    Args:
        card: of the model.
        results: what `results_in` read.
        body: Markdown without front matter.
    """
    front = yaml.safe_dump(fields(card, results), sort_keys=False, allow_unicode=True, width=100)
    lines = ["---", front.rstrip(), "---", "", body.rstrip(), ""]
    if results:
        lines += ["## Probes", ""]
        lines += ["| benchmark | protocol | metric | value | interval | seed |"]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        lines += [
            f"| {row['benchmark']} | {row['protocol']} | {row['metric']} | {_number(row['value'])} "
            f"| {_number(row['low'])} to {_number(row['high'])} | {row['seed']} |"
            for row in results
        ]
        lines.append("")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
