"""Graphs that take any bands, told by their wavelengths."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fm.card import Card
from fm.errors import UsageError
from fm.export.graph import METADATA
from fm.export.task import ModelTask, Task
from fm.export.written import Settings
from fm.models import Backbone, VisionTransformer
from fm.models.embed import GeneratedEmbed
from fm.models.embed.open_bands import OpenBands
from fm.models.inputs import REACH_NM, Inputs
from fm.normalize import CLIPPED, Normalisation
from fm.sensors import Band, wavelengths

BEHIND = "_wavelength_nm"
"""What stands behind a modality in the name of the input with its wavelengths."""


class _Interpolated:
    """The model's normalisation between its bands, as `fm.models.inputs.normalisation_at`."""

    def __init__(self, own: Normalisation, at: Tensor, wanted: Tensor) -> None:
        order = at.argsort()
        known = at[order]
        numbers = torch.tensor([own.shift, own.scale], dtype=torch.float64)[:, order]
        last = known.shape[0] - 1
        below = ((known <= wanted[:, None]).sum(dim=1) - 1).clamp(min=0)
        above = (known < wanted[:, None]).sum(dim=1).clamp(max=last)
        gap = known[above] - known[below]
        share = torch.where(gap > 0, (wanted - known[below]) / gap.clamp(min=1e-9), 0.0)
        self.kind = own.kind
        self.shift, self.scale = (
            ((1 - share) * row[below] + share * row[above]).float() for row in numbers
        )

    def __call__(self, x: Tensor, band_axis: int) -> Tensor:
        shape = [1] * x.ndim
        shape[band_axis] = -1
        values = (x - self.shift.view(shape)) / self.scale.view(shape)
        return values.clamp(0.0, 1.0) if self.kind in CLIPPED else values


class _Graph(nn.Module):
    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        self.model = model
        for name, bands in model.bands.items():
            at = torch.tensor(wavelengths(bands), dtype=torch.float64)
            self.register_buffer(f"at_{name}", at, persistent=False)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        pixels = {name: inputs[name] for name in self.model.bands if name in inputs}
        centres = {name: inputs[name + BEHIND] for name in pixels}
        normalisation: Any = {
            name: _Interpolated(
                self.model.normalisation[name], self.get_buffer(f"at_{name}"), centres[name]
            )
            for name in pixels
        }
        given = Inputs(
            pixels=pixels,
            bands={name: OpenBands.at(centres[name]) for name in pixels},
            scaling={name: self.model.scaling[name] for name in pixels},
            normalisation=normalisation,
            lonlat=inputs.get("lonlat"),
            time=inputs.get("time"),
        )
        features = self.model._encode(given, False)
        return {"pooled": features.pooled, "tokens": features.tokens}


class OpenBandsTask(ModelTask):
    """A ViT whose tokenizers are functions of wavelengths; see `fm.export.task.Task`."""

    def __init__(self, model: Backbone, card: Card, settings: Settings) -> None:
        super().__init__(model, card, settings)
        if not isinstance(model, VisionTransformer) or model.bases():
            raise UsageError(_REFUSED.format(model.architecture.get("name")))
        for name in self.signature.modalities:
            if not model.takes_other_bands(name):
                raise UsageError(f"{name}: the model is tied to its bands; leave --any-bands out")
            if any(band.wavelength_nm is None for band in model.bands[name]):
                raise UsageError(f"{name}: has bands without a wavelength; leave --any-bands out")
        for part in model.modules():
            if isinstance(part, GeneratedEmbed) and part.bandwidth is not None:
                raise UsageError(
                    "the model reads the widths of bands too, which the graph is not told; leave "
                    "--any-bands out"
                )
        self.model = model
        self.graph = _Graph(model).eval()

    def names(self) -> list[str]:
        """See `Task`."""
        behind = [m + BEHIND for m in self.signature.modalities]
        return [*self.signature.modalities, *behind, *self.signature.metadata()]

    def dims(self) -> dict[str, dict[int, Any]]:
        """See `Task`."""
        made = super().dims()
        for name in self.signature.modalities:
            bands = torch.export.Dim(f"bands_{name}")
            made[name][1] = bands
            made[name + BEHIND] = {0: bands}
        return {name: made[name] for name in self.names()}

    def _with(self, inputs: dict[str, Tensor], counts: int | None) -> dict[str, Tensor]:
        """Give inputs wavelengths: the model's own, or `counts` others between them."""
        made = dict(inputs)
        for name in self.signature.modalities:
            own = wavelengths(self.model.bands[name])
            centres = torch.tensor(own, dtype=torch.float64)
            if counts is not None:
                low, high = min(own) - REACH_NM / 2, max(own) + REACH_NM / 2
                centres = torch.linspace(low, high, counts, dtype=torch.float64)
                picked = torch.arange(counts) % len(own)
                made[name] = made[name][:, picked]
            made[name + BEHIND] = centres
        return {name: made[name] for name in self.names()}

    def traced(self) -> dict[str, Tensor]:
        """See `Task`."""
        return self._with(super().traced(), 7)

    def trials(self) -> Mapping[str, dict[str, Tensor]]:
        """Return the model's own bands and other numbers of others."""
        made = {}
        for number, (words, inputs) in enumerate(super().trials().items()):
            made[f"{words}, the model's bands"] = self._with(inputs, None)
            made[f"{words}, {2 + 3 * number} other bands"] = self._with(inputs, 2 + 3 * number)
        return made

    def wanted(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what `encode` says when it is given `Band`s."""
        pixels, bands = {}, {}
        for name in self.signature.modalities:
            own = self.model.bands[name]
            at = inputs[name + BEHIND].tolist()
            pixels[name] = inputs[name]
            if at != list(wavelengths(own)):
                first = own[0]
                bands[name] = [Band(f"at {nm:g}", nm, None, first.gsd_m, first.unit) for nm in at]
        told: dict[str, Any] = {name: inputs[name] for name in METADATA if name in inputs}
        with torch.no_grad():
            features = self.model.encode(pixels, bands=bands, **told)
        return {"pooled": features.pooled, "tokens": features.tokens}

    def example(self) -> dict[str, Tensor]:
        """See `Task`."""
        return self._with(super().example(), None)

    def about(self) -> dict[str, Any]:
        """See `Task`."""
        made = super().about()
        for name in self.signature.modalities:
            made["inputs"][name]["shape"][1] = "bands"
            made["inputs"][name + BEHIND] = {
                "dtype": "float64",
                "shape": ["bands"],
                "unit": "nanometres",
            }
        return made

    def words(self) -> list[str]:
        """See `Task`."""
        return [
            *super().words(),
            f"Any number of bands in any order: `MODALITY{BEHIND}` [bands] float64 says where they "
            f"lie; the lists above are those of training. Normalisation is interpolated in "
            f"wavelength, and beyond {REACH_NM:g} nm outside theirs nothing refuses.",
        ]


_REFUSED = (
    "{}: any bands are exported of ViTs whose tokenizer is generator, tied or channel_attention, "
    "without a spectral basis; leave --any-bands out"
)


def task_of(model: Backbone, card: Card, settings: Settings) -> Task:
    """Return the task that was asked for."""
    kind = OpenBandsTask if settings.any_bands else ModelTask
    return kind(model, card, settings)
