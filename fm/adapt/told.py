"""The report of an adaptation in lines a person reads."""

from collections.abc import Mapping
from typing import Any


def told(report: Mapping[str, Any]) -> str:
    """Write what became of each band and of the tokens.

    Args:
        report: of `to_bands` or `to_size`.
    """
    lines: list[str] = []
    stands = report.get("groups") or report.get("modalities") or {}
    if stands:
        how = f"policy {report.get('policy', 'refuse')}"
        if "tolerance_nm" in report:
            how += f" within {report['tolerance_nm']:g} nm"
        if "values" in report:
            how += f", {report['values']} values"
        parts = ", ".join(f"{old} -> {new}" for new, old in stands.items())
        lines.append(f"{parts}: {how}")
    bands = report.get("bands", {})
    width = max((len(row["band"]) for rows in bands.values() for row in rows), default=0)
    for modality, rows in bands.items():
        lines.append(modality)
        for row in rows:
            sources = ", ".join(_source(s) for s in row["from"]) or "nothing of the model's"
            lines.append(f"  {row['band']:<{width}}  {sources}")
    for old, values in report.get("dropped_at", {}).items():
        named = ", ".join(f"{name} at {value:.4g}" for name, value in values.items())
        lines.append(f"not there of {old}, constant from now on: {named}")
    if report.get("absent"):
        lines.append(f"left out: {', '.join(report['absent'])}")
    for group, metres in report.get("token_m", {}).items():
        lines.append(_tokens(group, metres, report.get("token_px", {})))
    if "positions" in report:
        table = report["positions"].get("table")
        sides = "" if table is None else ", {0}x{0} to {1}x{1}".format(table["from"], table["to"])
        lines.append(f"positions: {report['positions']['kind']}{sides}")
    if "resize" in report:
        exact = "each token is that of its image at the old size"
        fewer = "tokens of fewer pixels, by least squares"
        lines.append(f"kernels by {report['resize']}: {exact if report['exact'] else fewer}")
    if "but" in report:
        limits = " and ".join(report["but"])
        lines.append(
            "the original on the estimate, " + (f"but for {limits}" if limits else "exactly")
        )
    return "\n".join(lines)


def _source(source: Mapping[str, Any]) -> str:
    about = []
    if "distance_nm" in source:
        about.append(f"{source['distance_nm']:+g} nm")
    if "overlap" in source:
        about.append(f"overlap {source['overlap']:.2f}")
    return f"{source['band']} {source['weight']:.3g}" + (f" ({', '.join(about)})" if about else "")


def _tokens(group: str, metres: Mapping[str, float], pixels: Mapping[str, Any]) -> str:
    line = f"tokens of {group}: {metres['from']:g} m to {metres['to']:g} m"
    if group not in pixels:
        return line
    sides = [", ".join(f"{m} {p}" for m, p in pixels[group][k].items()) for k in ("from", "to")]
    return f"{line} ({sides[0]} px to {sides[1]} px)"
