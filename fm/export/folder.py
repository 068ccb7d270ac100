"""The folder of an export: written whole, or not at all when it does not say what ours says."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fm import checkpoint, weights
from fm.card import Card
from fm.errors import UsageError, suggest
from fm.export import (
    onnx_file,
    ours,
    places,
    single_file,
    timm_folder,
    torch_export,
    torchgeo_folder,
)
from fm.export.readme import readme
from fm.export.written import REPORT, Settings, Written
from fm.files import atomic_folder, refuse_within, write_json
from fm.models import Backbone
from fm.version import __version__

FORMAT_VERSION = 1

Writer = Callable[[Path, Backbone, Card, Settings], Written]


@dataclass(frozen=True)
class Format:
    """One way to write a model.

    Attributes:
        write: fills a folder and compares.
        help: one line.
        settings: names of the `Settings` that it has a use for.
        packages: whose versions matter.
    """

    write: Writer
    help: str
    settings: tuple[str, ...] = ()
    packages: tuple[str, ...] = ("torch",)


_GRAPH = ("values", "tokens", "modalities", "any_bands")

FORMATS: Mapping[str, Format] = {
    "safetensors": Format(ours.write, "our own folder, loaded again and compared to the bit"),
    "single-file": Format(
        single_file.write,
        "weights with one Python file that loads them by torch and safetensors",
        packages=("torch", "safetensors"),
    ),
    "torch-export": Format(torch_export.write, "a .pt2 file that needs torch alone", _GRAPH),
    "onnx": Format(
        onnx_file.write,
        "an ONNX file, checked with onnxruntime",
        _GRAPH,
        ("torch", *onnx_file.PACKAGES),
    ),
    "timm": Format(
        timm_folder.write,
        "a folder for timm.create_model('local-dir:...')",
        ("tokens",),
        ("torch", "timm"),
    ),
    "torchgeo": Format(
        torchgeo_folder.write,
        "weights, transforms and meta as torchgeo's enums have them",
        ("values",),
        ("torch", "timm", "torchvision", "torchgeo"),
    ),
}


def export(
    folder: str | os.PathLike[str],
    *,
    to: str,
    out: str | os.PathLike[str],
    settings: Settings | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a checkpoint in another format, compared with ours on the same inputs.

    Args:
        folder: a checkpoint folder or `eofm/NAME`, or a folder of `fm.location.save`.
        to: one of `FORMATS`.
        out: folder to write.
        settings: what the format asks.
        overwrite: replace what is there.

    Returns:
        what `export.json` says: format, inputs, versions and every comparison.

    Raises:
        UsageError: an unknown format, a setting that it lacks or has no use for, a model that it
            cannot express, or `out` holds `folder`.
        FMError: the exported model says something else; then nothing is written.
    """
    folder = weights.place(folder)
    refuse_within(folder, out)
    if to not in FORMATS:
        raise UsageError(f"there is no format {to!r}; {suggest(to, FORMATS)}")
    chosen, settings = FORMATS[to], settings or Settings()
    of_places = places.is_encoder(folder)
    taken = () if of_places else chosen.settings
    if unused := [name for name in settings.given() if name not in taken]:
        what = "a location encoder" if of_places else to
        raise UsageError(f"{what} has no use for {', '.join(unused)}; leave it out")
    model = None if of_places else checkpoint.load(folder)
    with atomic_folder(out, overwrite=overwrite, ours=(REPORT, checkpoint.CARD)) as aside:
        if model is None:
            written, told = places.write(aside, folder, to, settings.tolerance)
        else:
            assert model.card is not None
            written, told = chosen.write(aside, model, model.card, settings), model.card.to_dict()
            if not (aside / checkpoint.CARD).exists():
                write_json(aside / checkpoint.CARD, told)
        name = str(told.get("name") or Path(folder).name)
        report = {
            "format_version": FORMAT_VERSION,
            "format": to,
            "model": name,
            "weights_sha256": told["weights_sha256"],
            "versions": {
                "eofm": __version__,
                **{name: _version(name) for name in chosen.packages},
            },
            **written.about,
            "verification": [row.to_dict() for row in written.agreements],
        }
        write_json(aside / REPORT, report)
        licence = (
            f"Licence: {told.get('licence', 'unknown')}. Parent: {told.get('parent') or 'none'}."
        )
        page = readme(f"{name} as {to}", written, licence)
        (aside / checkpoint.README).write_text(page, encoding="utf-8")
    return report


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
