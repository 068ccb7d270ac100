"""Codecs: how small and how fast to decode, on one core, for each kind of pixels.

Competitors are the codecs as they are written by default, uncompressed `.npy`, and what eofm 0.1
wrote; each decodes the same members through `shards.codecs.codec.decode_into` on one thread, and
its CPU time counts. Then a sweep over compressors, levels, shuffles and block sizes of Blosc looks
for settings that are better than the defaults. A full run writes `docs/codecs-table.md`.

A codec is judged by what it delivers from storage of 1 GB/s a core, reading and decoding one after
the other: 1 / (1 / ratio + 1 / decode). Slower storage is in the table too.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from statistics import median
from timeit import timeit

import numpy as np
from numcodecs import blosc

from bench import machine
from bench.codec_page import Lossy, Row, render
from bench.codec_samples import KINDS, LARGE, multispectral, scene
from bench.runner import Bench, Fact, Ready, Target
from fm.console import note, progress
from fm.errors import FMError
from fm.files import write_atomic
from shards.codecs.codec import DEFAULTS, Blosc, choose, decode_into, encode, pack, settings
from shards.codecs.video import Video
from shards.codecs.video import encode as encode_video
from shards.format import CODECS

PAGE = machine.ROOT / "docs" / "codecs-table.md"
QUICK_PAGE = machine.ROOT / ".cache" / "bench" / "codecs-table.md"
ROUNDS = 40
BEFORE = "eofm 0.1"
CODEC_NAMES = ("npy", BEFORE, "blosc-lz4", "blosc-lz4hc", "blosc-zstd")
GRID = {
    "lz4": (1, 5, 9),
    "lz4hc": (3, 5, 7, 9),
    "zstd": (3, 5, 6, 7, 9),
}
"""Compressor to the levels that are swept."""
SHUFFLES = ("none", "byte", "bit")
BLOCKS = (0, 32_768, 262_144)
SWEPT_BYTES = 6_000_000
"""Of each kind: the sweep packs them some hundred times."""
LOSSY = (("exact", Video()), ("max_error 5", Video(max_error=5)), ("crf 12", Video(crf=12)))

_taken: dict[str, list[float]] = {}
_rows: dict[str, Row] = {}


def delivered(ratio: float, decode: float, storage: float = 1.0) -> float:
    """Decoded GB/s a core from storage of so many GB/s, one after the other."""
    return 1.0 / (1.0 / (storage * ratio) + 1.0 / decode)


@cache
def arrays(kind: str, quick: bool) -> list[np.ndarray] | None:
    """Return the pixels of a kind; None when its packages cannot be had."""
    try:
        return [np.ascontiguousarray(array) for array in KINDS[kind](quick)]
    except FMError as error:
        note(f"bench codecs: {error}")
        return None


def _encoder(name: str) -> Callable[[np.ndarray], bytes]:
    if name == BEFORE:
        return partial(pack, how=Blosc("lz4", "bit", 5))
    return partial(encode, codec=name)


def _said(name: str, dtype: str) -> str:
    if name == "npy":
        return "–"
    if name == BEFORE:
        return "lz4, bit shuffle, level 5"
    found = settings(name, dtype)
    return f"{found['compressor']}, {found['shuffle']} shuffle, level {found['level']}"


def prepare(kind: str, name: str, quick: bool) -> Ready | None:
    """Encode all arrays of a kind; a repetition decodes them."""
    pixels = arrays(kind, quick)
    if pixels is None:
        return None
    write = _encoder(name)
    start = time.thread_time()
    members = [write(array) for array in pixels]
    packing = time.thread_time() - start
    size = sum(array.nbytes for array in pixels)
    out = [np.empty_like(array) for array in pixels]
    ending = CODECS.get(name, "blosc")
    work = list(zip(members, out, strict=True))
    taken = _taken[f"{kind}, {name}"] = []

    def step() -> float:
        blosc.use_threads = False  # one thread, as in each thread of the reader
        begin = time.thread_time()  # of this core alone, whoever else is running
        for data, target in work:
            decode_into(data, ending, target)
        seconds = (time.thread_time() - begin) / (size / 1e9)
        taken.append(seconds)
        return seconds

    step()
    for array, target in zip(pixels, out, strict=True):
        if array.tobytes() != target.tobytes():
            raise FMError(f"bench codecs: {name} does not give the pixels of {kind} back")
    row = _rows[f"{kind}, {name}"] = Row(
        kind=kind,
        name=name,
        settings=_said(name, pixels[0].dtype.name),
        ratio=size / sum(map(len, members)),
        encode=size / max(packing, 1e-9) / 1e6,
        default=name == choose("auto", pixels[0].dtype.name),
    )
    about = {"settings": row.settings, "ratio": round(row.ratio, 3)}
    return Ready(step, {**about, "encode MB/s": round(row.encode, 1)})


@dataclass(frozen=True)
class Swept:
    """One setting of Blosc and what it gave."""

    how: Blosc
    ratio: float
    decode: float


def sweep(kind: str, quick: bool) -> list[Swept]:
    """Try settings on a kind; the best of several decodes counts, in CPU time."""
    pixels = _share(arrays(kind, quick) or [])
    grid = [(name, level) for name, levels in GRID.items() for level in levels]
    chosen = list(product(grid, SHUFFLES, BLOCKS))
    if quick:
        chosen = [(c, s, b) for c, s, b in chosen if c in (("lz4hc", 7), ("lz4", 9)) and b == 0]
    size = sum(array.nbytes for array in pixels)
    out = [np.empty_like(array) for array in pixels]
    repeats = max(1, round(4e6 / size)) if size else 1
    blosc.use_threads = False
    result = []
    with progress(f"sweep of {kind}", len(chosen)) as bar:
        for (name, level), shuffle, block in chosen:
            how = Blosc(name, shuffle, level, block)
            members = [pack(array, how) for array in pixels]
            best = np.inf
            for _ in range(3):
                begin = time.thread_time()
                for _ in range(repeats):
                    for data, target in zip(members, out, strict=True):
                        decode_into(data, "blosc", target)
                best = min(best, (time.thread_time() - begin) / repeats)
            ratio = size / sum(map(len, members))
            result.append(Swept(how, ratio, size / max(best, 1e-9) / 1e9))
            bar.advance()
    return result


def _share(pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Take arrays from all over a list until there are enough bytes."""
    kept: list[np.ndarray] = []
    size = 0
    for place in np.random.default_rng(0).permutation(len(pixels)):
        if size < SWEPT_BYTES:
            kept.append(pixels[place])
            size += kept[-1].nbytes
    return kept


def lossy(quick: bool) -> list[Lossy]:
    """Keep some cubes as video and measure."""
    cubes = {
        "uint16 multispectral": [a for a in multispectral(True) if a.shape[-1] == LARGE][:1],
        "int16 hyperspectral": (arrays("int16 hyperspectral", quick) or [])[:1],
    }
    result = []
    for kind, pixels in cubes.items():
        for array in pixels:
            for words, video in LOSSY:
                data, quality = encode_video(array, video)
                out = np.empty_like(array)
                begin = time.thread_time()
                decode_into(data, "mkv", out)
                seconds = time.thread_time() - begin
                said = quality.to_dict()
                psnr = [value for value in said["psnr_db"] if value is not None]
                result.append(
                    Lossy(
                        kind=kind,
                        asked=words,
                        coder=next(iter(quality.coders)),
                        ratio=array.nbytes / len(data),
                        bits=float(np.mean(said["bits_per_pixel"])),
                        worst=quality.worst,
                        psnr=(min(psnr), median(psnr)) if psnr else None,
                        decode=array.nbytes / 1e6 / max(seconds, 1e-9),
                    )
                )
    return result


def native(quick: bool) -> tuple[float, float]:
    """Return how much smaller native grids are, raw and packed, than 13 bands on one 10 m grid."""
    raw = packed = raw_native = packed_native = 0
    for sample in scene(LARGE, 1 if quick else 8):
        planes = [
            plane.repeat(k, 0).repeat(k, 1)
            for array in sample.values()
            for k in (LARGE // array.shape[-1],)
            for plane in array
        ]
        whole = np.stack(planes)
        raw, packed = raw + whole.nbytes, packed + len(encode(whole, "auto"))
        raw_native += sum(array.nbytes for array in sample.values())
        packed_native += sum(len(encode(array, "auto")) for array in sample.values())
    return raw / raw_native, packed / packed_native


def overhead() -> float:
    """Return what `decode_into` adds to Blosc's own call for a very small member, microseconds."""
    blosc.use_threads = False
    array = np.arange(3 * 16 * 16).reshape(3, 16, 16).astype(np.uint16)
    data, out = memoryview(encode(array, "auto")), np.empty_like(array)
    calls = {
        "ours": partial(decode_into, data, "blosc", out),
        "bare": partial(blosc.decompress, data, out),
    }
    best = dict.fromkeys(calls, np.inf)
    for _ in range(300):
        for name, call in calls.items():
            best[name] = min(best[name], timeit(call, timer=time.thread_time, number=200) / 200)
    return float(best["ours"] - best["bare"]) * 1e6


def facts(quick: bool) -> list[Fact]:
    """Ratios, the sweep's verdict, the archive tier; writes the table."""
    result = [Fact("decode_into / blosc.decompress, 1.5 kB", overhead(), "us more", at_most=1.0)]
    best: dict[str, list[Swept]] = {}
    rounds = BENCH.quick_rounds if quick else ROUNDS
    for key, row in _rows.items():
        row.decode = 1.0 / median(_taken[key][-rounds:])
        if row.default:
            result.append(Fact(f"{key}: ratio", row.ratio, "times smaller"))
    for kind in KINDS:
        rows = [row for row in _rows.values() if row.kind == kind]
        if not rows:
            continue
        swept = sweep(kind, quick)
        best[kind] = sorted(swept, key=lambda s: -delivered(s.ratio, s.decode))
        ours = _swept_default(kind, swept, quick)
        result.append(
            Fact(
                f"{kind}: delivered by auto / by the best of {len(swept)} settings",
                delivered(ours.ratio, ours.decode)
                / delivered(best[kind][0].ratio, best[kind][0].decode),
                "ratio",
                at_least=0.9,
            )
        )
    if _rows:
        smaller = native(quick)
        result.append(Fact("native grids: raw bytes", smaller[0], "times smaller"))
        result.append(Fact("native grids: packed by auto", smaller[1], "times smaller"))
        tops = {
            kind: [
                (
                    f"{one.how.compressor} {one.how.level}, {one.how.shuffle}, "
                    f"{one.how.block or 'auto'}",
                    one.ratio,
                    one.decode,
                    delivered(one.ratio, one.decode),
                )
                for one in found[:8]
            ]
            for kind, found in best.items()
        }
        page = render(list(_rows.values()), tops, lossy(quick), smaller, machine.describe())
        write_atomic(QUICK_PAGE if quick else PAGE, page)
    return result


def _swept_default(kind: str, swept: Sequence[Swept], quick: bool) -> Swept:
    dtype = (arrays(kind, quick) or [])[0].dtype.name
    said = settings("auto", dtype)
    wanted = (said["compressor"], said["level"], said["shuffle"], 0)
    return next(
        one
        for one in swept
        if (one.how.compressor, one.how.level, one.how.shuffle, one.how.block) == wanted
    )


def _auto(kind: str) -> str:
    dtype = kind.split()[0]
    return f"{kind}, {DEFAULTS[dtype]}"


BENCH = Bench(
    name="codecs",
    question="How fast does one core decode each codec, and how small are its members?",
    competitors={
        f"{kind}, {name}": partial(prepare, kind, name) for kind in KINDS for name in CODEC_NAMES
    },
    targets=tuple(
        Target(
            f"{kind}: auto / {BEFORE}, decode",
            of=_auto(kind),
            over=f"{kind}, {BEFORE}",
            at_least=1.2,
        )
        for kind in KINDS
        if kind != "uint8"
    ),
    unit="GB/s",
    rounds=ROUNDS,
    quick_rounds=3,
    versions=("numcodecs", "numpy", "av"),
    facts=facts,
)
