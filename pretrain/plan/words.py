"""A plan for a person to read."""

from collections.abc import Sequence
from typing import Any

from pretrain.plan.dryrun import text as described


def text(found: dict[str, Any]) -> str:
    """Write `plan`'s values."""
    flops, disk = found["flops"], found["disk"]
    lines = [
        described(found),
        f"FLOPs       {_si(flops['forward'])} forward and {_si(flops['backward'])} backward a "
        f"sample, {_si(flops['step'])} a step",
        f"data        {_bytes(found['sample_bytes'])} a sample as read",
        f"disk        {_bytes(disk['checkpoint'])} a checkpoint, {_bytes(disk['kept'])} for those "
        f"that stay, {_bytes(disk['peak'])} while one is written; export {_bytes(disk['export'])}",
    ]
    for row in found["on"]:
        lines.append("")
        lines += _on(found, row)
    if found["assumed"]:
        lines += ["", *(f"assumed: {line}" for line in found["assumed"])]
    return "\n".join(lines)


def _on(found: dict[str, Any], row: dict[str, Any]) -> Sequence[str]:
    head = f"{row['ranks']} ranks" if row["ranks"] > 1 else "1 rank"
    if "refused" in row:
        return [f"{head}: {row['refused']}"]
    kept = row["activations"]
    lines = [
        f"{head}: {row['accumulate']} x {row['micro_batch']} samples on each",
        f"  activations   {_bytes(kept['whole'])}, {_bytes(kept['checkpointed'])} with "
        f"engine.activation_checkpointing",
        "  on a device   "
        + ", ".join(f"ZeRO {stage} {_bytes(m['device'])}" for stage, m in row["memory"].items()),
    ]
    here = row["memory"][found["stage"]]
    parts = ("weights", "gradients", "master", "moments", "buckets", "activations", "host")
    told = ", ".join(f"{name} {_bytes(here[name])}" for name in parts if here[name])
    lines.append(f"  ZeRO {found['stage']} is     {told}")
    if row["largest_micro"]:
        fitting = ", ".join(f"ZeRO {stage} {n}" for stage, n in row["largest_micro"].items())
        lines.append(f"  micro-batch   at most {fitting} fit, without working space")
    time = row["time"]
    if time is not None:
        lines += [
            f"  step          {time['seconds']:.3g} s: {time['compute']:.3g} computing, "
            f"{time['optimizer']:.2g} optimiser, {time['exposed']:.2g} waiting for the network "
            f"({_bytes(time['sent'])} sent by a rank)",
            f"  run           {time['days']:.3g} days, {time['samples_per_second']:.4g} samples/s, "
            f"{100 * time['efficiency']:.0f} % of it computing; data "
            f"{_bytes(time['data_bytes_per_second'])}/s",
        ]
    return lines


def _bytes(size: float) -> str:
    return f"{_scaled(size)}B"


def _si(number: float) -> str:
    return f"{_scaled(number)}FLOP"


def _scaled(number: float) -> str:
    for power, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {letter}"
    return f"{number:.3g} "
