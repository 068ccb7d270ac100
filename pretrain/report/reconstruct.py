"""Reconstructions: composites, error maps, and spectra of the pixels that were hidden."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fm.page.html import Markup, el, join, small_table
from pretrain.report.charts import Chart, Line, draw, grid
from pretrain.report.colours import Look, colours, heat, look, png
from pretrain.report.names import short
from pretrain.report.spectra import DENSE, broken
from pretrain.report.stored import Stored

_ENOUGH = 6
"""Bands from which single pixels are drawn as spectra."""


@dataclass(frozen=True)
class _Shown:
    """How the panels of one modality are drawn: alike in all samples."""

    look: Look
    worst: float


def section(panels: Sequence[Stored], budget: int) -> list[Markup]:
    """Draw reconstructions sample by sample.

    Args:
        panels: of a run.
        budget: bytes of pictures after which further samples are left out.
    """
    if not panels:
        return []
    shown = {m: _shown([p for p in panels if p.modality == m]) for m in _order(panels)}
    samples: dict[str, list[Stored]] = {}
    for panel in panels:
        samples.setdefault(panel.key, []).append(panel)
    made: list[Markup] = []
    spent = 0
    for key, own in samples.items():
        drawn = _sample(key, sorted(own, key=lambda p: list(shown).index(p.modality)), shown)
        spent += len(drawn)
        if made and spent > budget:
            left = len(samples) - len(made)
            made.append(
                el("p", f"{left} more samples are in pictures/ of the run folder.", class_="facts")
            )
            break
        made.append(drawn)
    scales = [
        el("li", _ramp(), f"{modality}: 0 to {short(how.worst)}") for modality, how in shown.items()
    ]
    legend = el(
        "div",
        el(
            "p",
            "Error: root mean square over the hidden bands of a pixel, in the units in which the "
            "model sees values (standard deviations of a band under zscore). Hatched: hidden from "
            "the encoder, or nothing to compare.",
            class_="facts",
        ),
        el("ul", *scales, class_="ramps"),
    )
    return [legend, *made, _table(panels, shown)]


def _order(panels: Sequence[Stored]) -> list[str]:
    """List the modalities, the finest grid first."""
    first: dict[str, Stored] = {}
    for panel in panels:
        first.setdefault(panel.modality, panel)
    return sorted(first, key=lambda m: (first[m].bands[0].gsd_m, m))


def _shown(panels: Sequence[Stored]) -> _Shown:
    made = look(panels[0].modality, panels[0].bands, [p.image for p in panels])
    errors = np.concatenate([_error(p).ravel() for p in panels])
    known = errors[np.isfinite(errors)]
    worst = float(np.percentile(known, 98)) if len(known) else 1.0
    return _Shown(made, max(worst, 1e-6))


def _hidden(panel: Stored) -> np.ndarray:
    """Values that were hidden and are known, `[C, H, W]`: what predictions are compared with."""
    return np.asarray(~panel.shown & np.isfinite(panel.image))


def _error(panel: Stored) -> np.ndarray:
    """Root mean square over hidden bands in units of the model, `[H, W]`; NaN where none is."""
    hidden = _hidden(panel)
    away = np.where(hidden, panel.predicted - panel.image, 0.0) / panel.scale[:, None, None]
    count = hidden.sum(axis=0)
    return np.where(count > 0, np.sqrt(np.square(away).sum(axis=0) / np.maximum(count, 1)), np.nan)


def _sample(key: str, panels: Sequence[Stored], shown: dict[str, _Shown]) -> Markup:
    telling = [p for p in panels if shown[p.modality].look.telling]
    others = [p for p in panels if not shown[p.modality].look.telling]
    rows = [row for p in telling or others for row in _rows(key, p, shown[p.modality])]
    parts = [el("h3", key), *rows]
    if telling and others:
        more = [row for p in others for row in _rows(key, p, shown[p.modality])]
        names = ", ".join(p.modality for p in others)
        parts.append(el("details", el("summary", f"Other bands: {names}"), *more))
    charts = [draw(chart) for chart in _spectra(panels)]
    if charts:
        parts.append(grid(charts))
    return el("article", join(parts), class_="sample")


def _rows(key: str, panel: Stored, how: _Shown) -> list[Markup]:
    rows = []
    seen = np.where(panel.shown, panel.image, np.nan)
    error = png(
        heat(_error(panel), how.worst),
        f"{key}, {panel.modality}: error of the prediction, brighter is larger",
    )
    for panel_look in how.look.panels:
        what = f"{panel.modality}, {panel_look.title}"
        cells = []
        for word, image in (("input", panel.image), ("seen", seen), ("predicted", panel.predicted)):
            picture = png(colours(image, how.look, panel_look), f"{key}, {what}: {word}")
            cells.append(el("figure", picture, el("figcaption", word)))
        cells.append(el("figure", error, el("figcaption", "error")))
        rows.append(
            el("div", el("h4", what), el("div", *cells, class_="strip"), class_="strip-row")
        )
    return rows


def _spectra(panels: Sequence[Stored]) -> list[Chart]:
    """Draw true and predicted values by wavelength, the grids of one sensor in one chart."""
    sensors: dict[tuple[str, str], list[Stored]] = {}
    for panel in panels:
        if all(band.wavelength_nm for band in panel.bands):
            family = panel.modality.rpartition("_")[0] or panel.modality
            sensors.setdefault((family, panel.bands[0].unit), []).append(panel)
    charts = []
    for (family, unit), own in sensors.items():
        if sum(len(p.bands) for p in own) < 3:
            continue
        charts.append(_mean_spectrum(family, unit, own))
        widest = max(own, key=lambda p: len(p.bands))
        if len(widest.bands) >= _ENOUGH and (pixels := _pixels(widest)):
            charts.append(_pixel_spectra(widest, unit, pixels))
    return charts


def _mean_spectrum(family: str, unit: str, panels: Sequence[Stored]) -> Chart:
    x, columns = [], []
    for panel in panels:
        known = _hidden(panel)
        for channel, band in enumerate(panel.bands):
            hidden = known[channel]
            true, made = panel.image[channel][hidden], panel.predicted[channel][hidden]
            if len(true):
                x.append(float(band.wavelength_nm or 0))
                low, high = np.percentile(true, (10, 90))
                columns.append((float(true.mean()), float(made.mean()), float(low), float(high)))
    places = np.array(x)
    x_, true_, made_, low_, high_ = broken(places, *np.array(columns).reshape(-1, 4).T)
    few = len(places) < DENSE
    return Chart(
        f"{family}: hidden pixels, mean by wavelength",
        [
            Line("true", x_, true_, low_, high_, points=few),
            Line("predicted", x_, made_, colour=1, dashed=True, points=few),
        ],
        _span(places),
        "wavelength (nm)",
        "The interval of a true value holds the middle 80 % of the hidden pixels.",
        unit=unit,
        linear=True,
    )


def _span(places: np.ndarray) -> tuple[float, float]:
    if not len(places):
        return 0.0, 1.0
    edge = 0.02 * max(float(np.ptp(places)), 1.0)
    return float(places.min()) - edge, float(places.max()) + edge


def _pixels(panel: Stored) -> list[tuple[int, int]]:
    """Choose a dark, a middle and a bright pixel of those hidden in all bands."""
    rows, columns = np.nonzero(_hidden(panel).all(axis=0))
    if len(rows) < 3:
        return []
    order = np.argsort(panel.image[:, rows, columns].mean(axis=0), kind="stable")
    chosen = [order[int(share * (len(order) - 1))] for share in (0.1, 0.5, 0.9)]
    return [(int(rows[k]), int(columns[k])) for k in chosen]


def _pixel_spectra(panel: Stored, unit: str, pixels: Sequence[tuple[int, int]]) -> Chart:
    places = np.array([float(band.wavelength_nm or 0) for band in panel.bands])
    lines = []
    for colour, (word, (row, column)) in enumerate(
        zip(("dark", "middle", "bright"), pixels, strict=True)
    ):
        x, true, made = broken(places, panel.image[:, row, column], panel.predicted[:, row, column])
        few = len(places) < DENSE
        lines.append(Line(f"{word}, true", x, true, colour=colour, points=few))
        lines.append(Line(f"{word}, predicted", x, made, colour=colour, dashed=True, points=few))
    at = "; ".join(f"row {row}, column {column}" for row, column in pixels)
    return Chart(
        f"{panel.modality}: three hidden pixels",
        lines,
        _span(places),
        "wavelength (nm)",
        f"At the 10th, 50th and 90th percentile of brightness: {at}.",
        unit=unit,
        linear=True,
    )


def _table(panels: Sequence[Stored], shown: dict[str, _Shown]) -> Markup:
    """Write the error of each band over the hidden pixels of all stored samples."""
    rows = []
    for modality in shown:
        own = [p for p in panels if p.modality == modality]
        known = [_hidden(p) for p in own]
        for channel, band in enumerate(own[0].bands):
            hidden = [k[channel] for k in known]
            true = np.concatenate([p.image[channel][h] for p, h in zip(own, hidden, strict=True)])
            made = np.concatenate(
                [p.predicted[channel][h] for p, h in zip(own, hidden, strict=True)]
            )
            if not len(true):
                continue
            square = float(np.square(made - true, dtype=np.float64).mean())
            spread = float(np.square(true - true.mean(), dtype=np.float64).mean())
            wavelength = "–" if band.wavelength_nm is None else f"{band.wavelength_nm:g} nm"
            rows.append(
                (
                    f"{modality} {band.name}",
                    wavelength,
                    f"{short(square**0.5)} {band.unit}",
                    short(square**0.5 / float(own[0].scale[channel])),
                    short(1 - square / spread) if spread > 0 else "–",
                )
            )
    head = ("band", "wavelength", "error (RMS)", "error, model units", "variance explained")
    caption = "Errors over the hidden pixels of all samples above"
    return el(
        "details", el("summary", el("span", "Errors by band")), small_table(head, rows, caption)
    )


def _ramp() -> Markup:
    values = np.linspace(0, 1, 64)[None].repeat(4, axis=0)
    return png(heat(values, 1.0), "", class_="ramp")
