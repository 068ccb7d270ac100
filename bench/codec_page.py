"""`docs/codecs-table.md`, from what `bench/codecs.py` measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

STORAGES = ((1.0, "1 GB/s"), (0.1, "0.1 GB/s"))


@dataclass
class Row:
    """One codec on one kind of pixels.

    Attributes:
        kind: of pixels.
        name: of the codec.
        settings: in words.
        ratio: times smaller than the raw pixels.
        encode: MB/s a core.
        default: it is what `auto` picks.
        decode: GB/s a core, of decoded pixels.
    """

    kind: str
    name: str
    settings: str
    ratio: float
    encode: float
    default: bool
    decode: float = 0.0


@dataclass(frozen=True)
class Lossy:
    """One setting of the archive tier on one cube; `psnr` of its worst and its median band."""

    kind: str
    asked: str
    coder: str
    ratio: float
    bits: float
    worst: float
    psnr: tuple[float, float] | None
    decode: float


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def render(
    rows: Sequence[Row],
    swept: Mapping[str, Sequence[tuple[str, float, float, float]]],
    lossy: Sequence[Lossy],
    native: tuple[float, float],
    where: str,
) -> str:
    """Write the page.

    Args:
        rows: of all kinds.
        swept: the best settings of each kind: words, ratio, decode, delivered.
        lossy: of the archive tier.
        native: how much smaller native grids are, raw and packed.
        where: the machine in words.
    """
    out = [
        "# Codecs, measured",
        "",
        "Made by `python -m bench codecs`; do not edit. What it means: [codecs.md](codecs.md).",
        f"Machine: {where}; everything on one core, in its CPU time.",
        "",
        "*Delivered*: decoded GB/s of one core that reads from storage of the given speed and "
        "decodes, one after the other. **Bold**: what `auto` picks.",
        "",
    ]
    for kind in dict.fromkeys(row.kind for row in rows):
        out += [f"## {kind}", ""]
        cells = []
        for row in (row for row in rows if row.kind == kind):
            got = [
                f"{1.0 / (1.0 / (storage * row.ratio) + 1.0 / row.decode):.3g}"
                for storage, _ in STORAGES
            ]
            cells.append(
                [
                    f"**{row.name}**" if row.default else row.name,
                    row.settings,
                    f"{row.ratio:.2f}",
                    f"{row.decode:.1f}",
                    f"{row.encode:.0f}",
                    *got,
                ]
            )
        named = [f"delivered from {words}" for _, words in STORAGES]
        out += _table(["codec", "settings", "ratio", "decode GB/s", "encode MB/s", *named], cells)
        if kind in swept:
            out += ["Best of the sweep (compressor level, shuffle, block):", ""]
            out += _table(
                ["settings", "ratio", "decode GB/s", "delivered from 1 GB/s"],
                [[words, *(f"{n:.2f}" for n in numbers)] for words, *numbers in swept[kind]],
            )
    out += ["## Native grids", ""]
    out += [
        "Thirteen Sentinel-2 bands copied onto one 10 m grid, as TerraMesh ships them, against the "
        f"same on their native grids: {native[0]:.2f} times as many raw bytes, {native[1]:.2f} "
        "times as many when both are packed by `auto`.",
        "",
        "## Archive tier",
        "",
        "One cube each as video. Errors in stored numbers; PSNR of the worst and the "
        "median band, each against the range of its own values.",
        "",
    ]
    out += _table(
        ["pixels", "asked", "kept by", "ratio", "bits a pixel", "max error", "PSNR dB",
         "decode MB/s"],
        [
            [
                one.kind,
                one.asked,
                one.coder,
                f"{one.ratio:.1f}",
                f"{one.bits:.2f}",
                f"{one.worst:g}",
                "–" if one.psnr is None else "{:.1f} and {:.1f}".format(*one.psnr),
                f"{one.decode:.0f}",
            ]
            for one in lossy
        ],
    )  # fmt: skip
    return "\n".join(out)
