"""The curves of a run: what was learned, how fast, and what benchmarks said on the way."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fm.errors import FMError
from fm.page.html import Markup
from fm.sensors import sensor_of_modality
from pretrain.report.charts import COLOURS, Chart, Line, draw
from pretrain.report.names import SAMPLES, Kind, families, kind
from pretrain.report.read import BAND, Record, Series, at
from pretrain.report.spectra import DENSE, broken
from pretrain.report.thin import ends, thin

FEW = COLOURS
"""Figures of one family that are lines of one chart; more are drawn by band."""


def curves(record: Record, section: str) -> list[Markup]:
    """Draw the figures of a section, the loss apart (`loss`), in the order of their names."""
    names = sorted({name for name, _ in record.figures} - {"loss", "weight"}, key=_rank)
    names = [n for n in names if not n.startswith(("probe/", f"{BAND}/"))]
    found = []
    for family, members in families(names).items():
        held = kind(family if len(members) > 1 else members[0])
        if held.section == section:
            many = len(members) > FEW
            found.append(
                by_band(record, members, held) if many else _drawn(record, family, members, held)
            )
    if section == "speed" and SAMPLES not in names:
        found.insert(0, _rate(record))
    return [draw(chart) for chart in found if chart.lines]


def loss(record: Record) -> Markup | None:
    """Draw the loss, of each part of a mixture; None before the first line."""
    named = record.named("loss")
    if not named:
        return None
    lines = [
        _line(name, series, Kind("Loss"), colour)
        for colour, (name, series) in enumerate(named.items())
    ]
    return draw(_chart(record, "Loss", lines, named.values(), height=300))


def bands(record: Record) -> list[Markup]:
    """Draw the losses of bands: by wavelength, the grids of one sensor in one chart."""
    sensors: dict[str, list[str]] = {}
    # in the order of the log, which is that of the channels
    for name in dict.fromkeys(name for name, _ in record.figures if name.startswith(f"{BAND}/")):
        modality = name.split("/")[1]
        sensors.setdefault(modality.rpartition("_")[0] or modality, []).append(name)
    charts = []
    for sensor, members in sensors.items():
        known = [_wavelength(*name.split("/")[1:3]) for name in members]
        optical = [n for n, nm in zip(members, known, strict=True) if nm is not None]
        others = [n for n in members if n not in optical]
        held = Kind(f"Loss of {sensor}", section="learning")
        if len(optical) > 1:
            charts.append(by_band(record, optical, held))
        alone = optical if len(optical) == 1 else []
        if len(others) > FEW:
            charts.append(by_band(record, others, held))
        elif others or alone:
            charts.append(_drawn(record, BAND, [*others, *alone], held))
    return [draw(chart) for chart in charts]


def by_band(record: Record, members: Sequence[str], held: Kind) -> Chart:
    """Draw the last and the first values of many figures, by wavelength where that is known."""
    first, last = [], []
    for name in members:
        series = record.whole(name)
        start, end = ends(series) if series is not None else (np.nan, np.nan)
        first.append(start * held.factor)
        last.append(end * held.factor)
    known = [_wavelength(*name.split("/")[-2:]) for name in members]
    if None in known:
        x, across = np.arange(1.0, len(members) + 1), "channel, from 1"
    else:
        x, across = np.array(known, np.float64), "wavelength (nm)"
    places, now, before = broken(x, np.array(last), np.array(first))
    few = len(members) < DENSE
    return Chart(
        f"{held.title} by band",
        [
            Line("last tenth", places, now, points=few),
            Line("first tenth", places, before, colour=1, dashed=True, points=few),
        ],
        (float(x.min()), float(max(x.max(), x.min() + 1))),
        across,
        unit=held.unit,
        note="Means over the first and the last tenth of the logged steps, at most ten each.",
    )


def marks(record: Record) -> list[tuple[float, str]]:
    """List what happened on the way: where a session went on, which steps were skipped."""
    found: list[tuple[float, str]] = []
    for row in record.events.get("sessions", []):
        if isinstance(row.get("step"), int) and row["step"]:
            found.append((row["step"], f"went on after step {row['step']}"))
    for row in record.events.get("skipped", []):
        if isinstance(row.get("step"), int):
            found.append((row["step"], f"step {row['step']} was not taken"))
    return found[:200]


def _rank(name: str) -> tuple[bool, bool, str]:
    """Order of the charts: what the loss is made of, what moves the weights, the rest."""
    return not name.startswith("loss"), name not in ("lr", "grad_norm"), name


def _drawn(record: Record, family: str, members: Sequence[str], held: Kind) -> Chart:
    lines, drawn, parts = [], [], record.parts
    for number, name in enumerate(members):
        named = record.named(name)
        # what is of a step and not of its samples is one curve, whatever the part
        if len(members) > 1 or not family.startswith("loss"):
            whole = record.whole(name)
            named = {"": whole} if whole is not None else {}
        for part, series in named.items():
            alone = len(members) == 1
            label = part if alone else name.rpartition("/")[2]
            colour = parts.index(part) if alone and part in parts else number
            lines.append(_line(label, series, held, colour))
            drawn.append(series)
    include = (0.0,) if held.section == "speed" else ()
    return _chart(record, held.title, lines, drawn, unit=held.unit, include=include)


def _rate(record: Record) -> Chart:
    size, series = at(record.config, "data.batch_size"), record.whole("seconds")
    if not isinstance(size, int) or series is None:
        return Chart("Samples", [], (0, 1), "step")
    kept = series.values > 0
    made = Series(series.steps[kept], size / series.values[kept])
    lines = [_line("", made, Kind("Samples"), 0)] if kept.any() else []
    return _chart(
        record, "Samples", lines, [made], unit="a second", include=(0.0,),
        more="The batch over the time of the logged step. ",
    )  # fmt: skip


def _line(name: str, series: Series, held: Kind, colour: int) -> Line:
    less = thin(series)
    return Line(
        name,
        less.steps.astype(np.float64),
        less.mean * held.factor,
        less.low * held.factor,
        less.high * held.factor,
        colour,
        points=len(less.steps) == 1,
    )


def _chart(
    record: Record,
    title: str,
    lines: Sequence[Line],
    drawn: Iterable[Series],
    *,
    more: str = "",
    **options: Any,
) -> Chart:
    each = max((thin(series).each for series in drawn), default=1)
    note = more
    if each > 1:
        note += f"Line: mean of {each} logged steps; band: their lowest and highest."
    return Chart(
        title,
        lines,
        (0.0, float(max(record.done, 1))),
        "step",
        note.strip(),
        marks(record),
        synced=True,
        **options,
    )


def _wavelength(modality: str, band: str) -> float | None:
    """Return the wavelength of a band of a modality in nm; None if that is not known."""
    try:
        return sensor_of_modality(modality).band(band).wavelength_nm
    except FMError:
        return None
