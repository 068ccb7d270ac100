"""The card of a checkpoint: everything needed to use the weights, and where they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fm.errors import FMError
from fm.normalize import Normalisation
from fm.sensors import Band
from fm.version import WRITER, check_format

FORMAT_VERSION = 1


WORTH = "## What it is worth"
"""Heading of the last section of the page of carried weights."""


@dataclass(frozen=True)
class Card:
    """What `card.json` says.

    Attributes:
        name: the model's name, such as the run's.
        architecture: the arguments of `fm.create_model`.
        bands: modality to bands, in channel order.
        normalisation: modality to normalisation, physical units.
        scaling: modality to (scale, offset) of stored integers.
        objective: how it was trained, plain values; empty for an untrained model.
        data: datasets it saw: name, manifest hash, filter, samples, location cells, months.
        training: summary: steps, samples seen, loss at start and end, precision.
        licence: SPDX name, or what the data demands.
        parent: where its starting weights came from, None for fresh ones.
        weights_sha256: of `model.safetensors`.
        adapted_from: of a model made to fit other bands or sizes (`fm.adapt`): name, hash, bands
            and token size of the original, and how each thing came about; None for one that is as
            it was trained. Objective, data and training are then those of the original.
    """

    name: str
    architecture: Mapping[str, Any]
    bands: Mapping[str, tuple[Band, ...]]
    normalisation: Mapping[str, Normalisation]
    scaling: Mapping[str, tuple[float, float]]
    objective: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    parent: str | None = None
    weights_sha256: str = ""
    format_version: int = FORMAT_VERSION
    adapted_from: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "format_version": self.format_version,
            "written_by": WRITER,
            "name": self.name,
            "architecture": dict(self.architecture),
            "bands": {m: [asdict(b) for b in items] for m, items in self.bands.items()},
            "normalisation": {m: n.to_dict() for m, n in self.normalisation.items()},
            "scaling": {m: list(pair) for m, pair in self.scaling.items()},
            "objective": dict(self.objective),
            "data": dict(self.data),
            "training": dict(self.training),
            "licence": self.licence,
            "parent": self.parent,
            "weights_sha256": self.weights_sha256,
            **({} if self.adapted_from is None else {"adapted_from": dict(self.adapted_from)}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> "Card":
        """Read plain values.

        Args:
            values: what `to_dict` wrote.
            where: the file, for errors.

        Raises:
            FMError: a newer format, or a key is missing or malformed.
        """
        if values.get("format_version") is None:
            raise FMError(f"{where}: no format_version; this is not the card of an eofm checkpoint")
        version = check_format(values, FORMAT_VERSION, where)
        try:
            return cls(
                name=values["name"],
                architecture=dict(values["architecture"]),
                bands={m: tuple(Band(**b) for b in v) for m, v in values["bands"].items()},
                normalisation={
                    m: Normalisation.from_dict(v) for m, v in values["normalisation"].items()
                },
                scaling={m: (float(s), float(o)) for m, (s, o) in values["scaling"].items()},
                objective=values["objective"],
                data=values["data"],
                training=values["training"],
                licence=values["licence"],
                parent=values["parent"],
                weights_sha256=values["weights_sha256"],
                format_version=version,
                adapted_from=None
                if values.get("adapted_from") is None
                else dict(values["adapted_from"].items()),
            )
        except KeyError as error:
            raise FMError(f"{where}: the key {error} is missing; the card is damaged") from None
        except FMError as error:
            raise FMError(f"{where}: {error}; the card is damaged") from None
        except (TypeError, AttributeError, ValueError) as error:
            raise FMError(f"{where}: malformed card ({error})") from None

    def readme(self, given: str = "this-folder") -> str:
        """Write the model card a person reads (Markdown).

        Args:
            given: what `fm.load` takes for this model.
        """
        lines = [f"# {self.name}", "", f"Architecture: `{self.architecture.get('name')}`.", ""]
        lines += ["| modality | bands |", "| --- | --- |"]
        for modality, bands in self.bands.items():
            lines.append(_row(modality, [band.name for band in bands]))
        for title, values in (
            ("Objective", self.objective),
            ("Training", self.training),
            ("Data", {k: v for k, v in self.data.items() if k != "cells"}),
        ):
            lines += ["", f"## {title}", ""]
            lines += [f"- {key}: {value}" for key, value in values.items()] or ["none"]
        if self.adapted_from is not None:
            of = self.adapted_from
            lines += ["", "## Adapted", ""]
            lines += [f"Not as it was trained: made of {of['name']} by `fm models adapt`. What is"]
            lines += ["said above of objective, training and data is of the original.", ""]
            lines += ["| modality of the original | its bands |", "| --- | --- |"]
            lines += [_row(modality, names) for modality, names in of["bands"].items()]
        lines += ["", f"Licence: {self.licence}. Parent: {self.parent or 'none'}.", ""]
        lines += ["```python", "import fm", "", f'model = fm.load("{given}")']
        lines += ["features = model.encode(pixels)  # .tokens .pooled .grid", "```", ""]
        return "\n".join(lines)


def _row(modality: str, names: Sequence[str]) -> str:
    shown = names if len(names) <= 16 else [*names[:3], "...", names[-1]]
    return f"| {modality} | {len(names)}: {', '.join(shown)} |"
