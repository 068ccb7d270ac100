"""An archive tier: a cube as video, through PyAV. Lossy only when asked, never the default.

The idea is that of xarrayvideo (Pellicer-Valero et al., arXiv 2506.19656): the bands or dates of a
cube are much like the frames of a film. Decoding is some fifty times slower than Blosc, so this is
for keeping and sending data; training wants Blosc.

A member is a Matroska file that ordinary players open. Its frames are the bands of `[C, H, W]`, or
of `[T, C, H, W]` the dates of the first band, then of the second. A tag says what the grey levels
mean: stored = start + step * level, for each band. Levels are kept by FFV1 (16 bit, exact) or by
x265 (12 bit, lossy); each band is grey, so no colour matrix mixes bands. Where pixels are missing,
a second FFV1 stream holds the mask, so that "no data" comes back exactly.

Nothing that an encoder promises is believed. Every member is decoded again when it is written and
compared with the pixels, and what was measured goes into the description (`ModalityInfo.quality`).
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fm.errors import FMError, UsageError
from shards.codecs.codec import CorruptError
from shards.codecs.matroska import Expected, Stream, library, read, write
from shards.codecs.quality import Quality, measured

TAG = "EOFM"
VERSION = 1
CRF_STEP = 4
_TAG_LARGEST = 1 << 22
_MASK = {"ffv1": "gray"}
_LAYOUTS = {"hevc": "gray12le", "ffv1": "gray16le"}
_MOST = {"libx265": 4095, "ffv1": 65535}


@dataclass(frozen=True)
class Video:
    """What may be lost. With neither setting nothing is: integers come back bit by bit.

    Attributes:
        crf: x265's quality, 0 (best) to 51; None does not use x265.
        max_error: largest absolute error of a pixel, in stored numbers (physical units for
            floating pixels); None sets no bound.
    """

    crf: int | None = None
    max_error: float | None = None

    def __post_init__(self) -> None:
        if self.crf is not None and not 0 <= self.crf <= 51:
            raise UsageError(f"video: crf {self.crf} is not between 0 (best) and 51")
        if self.max_error is not None and not 0 < self.max_error < math.inf:
            raise UsageError(
                f"video: max_error {self.max_error} is not above 0; leave it out to lose nothing"
            )


@dataclass(frozen=True)
class _Attempt:
    """An encoder and what its levels mean: stored = start + step * level, float64 `[C]`.

    With `exact`, missing pixels are numbers like others and no mask is needed.
    """

    encoder: str
    start: np.ndarray
    step: np.ndarray
    exact: bool = False
    options: Mapping[str, str] | None = None

    @property
    def name(self) -> str:
        if self.encoder == "libx265":
            return f"x265 crf {(self.options or {})['crf']}"
        return "ffv1 exact" if self.exact else "ffv1 rounded"


def encode(
    array: np.ndarray,
    video: Video,
    nodata: Sequence[int | None] | None = None,
    where: str = "array",
) -> tuple[bytes, Quality]:
    """Encode a cube, decode it again and measure what was lost.

    With a bound, x265 is tried from `crf` on at better and better quality until the bound holds.
    FFV1 on levels as coarse as the bound allows holds it by construction (and is verified all the
    same); the smaller of the two is kept. What neither holds is kept exactly, or refused.

    Args:
        array: `[C, H, W]` or `[T, C, H, W]` of a stored dtype; NaN where there is no data.
        video: what may be lost.
        nodata: for each band the stored number that means "no data", or None.
        where: for errors.

    Returns:
        the member and its quality.

    Raises:
        FMError: PyAV is not installed, or the cube cannot be kept as well as was asked.
    """
    library()
    if array.ndim not in (3, 4):
        raise FMError(f"{where}: a video holds [C, H, W] or [T, C, H, W], not {array.shape}")
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    numbers = None if nodata is None or array.dtype.kind == "f" else list(nodata)
    valid = _valid(array, numbers)
    if not np.isfinite(array, where=valid, out=np.ones(array.shape, bool)).all():
        raise FMError(f"{where}: infinite values cannot be kept as video; mark them NaN")
    best: tuple[bytes, Quality] | None = None
    for attempt in _attempts(array, valid, video):
        if best is not None and (attempt.exact or attempt.encoder == "libx265"):
            continue  # it would be larger
        made = _try(array, valid, attempt, numbers, video)
        if made is not None and (best is None or len(made[0]) < len(best[0])):
            best = made
    if best is None:
        asked = "bit by bit" if video.max_error is None else f"within {video.max_error:g}"
        raise FMError(
            f"{where}: {array.dtype} values of this range cannot be kept {asked} as video; allow "
            "a larger max_error, or use a Blosc codec"
        )
    return best


def _attempts(array: np.ndarray, valid: np.ndarray, video: Video) -> Iterator[_Attempt]:
    """Yield what may be tried, of each encoder what loses most first."""
    whole = array.dtype.kind in "iu"
    low, high = _range(array, valid)
    if video.crf is not None:
        step = (high - low) / _MOST["libx265"]
        step = np.maximum(step, 1.0) if whole else np.where(step > 0, step, 1.0)
        worst = video.crf if video.max_error is None else 0
        for crf in range(video.crf, worst - 1, -CRF_STEP):
            yield _Attempt("libx265", low, step, options={"crf": str(crf)})
    if video.max_error is not None:
        if whole:  # an odd step, so that every level stands for a whole number
            size = 2.0 * math.floor(video.max_error) + 1.0
        else:  # less the rounding of the result to its own type
            largest = np.abs([low, high]).max().astype(array.dtype)
            size = 2.0 * video.max_error - 4.0 * float(np.spacing(largest))
        if size > 0:
            yield _Attempt("ffv1", low, np.full(low.shape, size))
    if whole and (video.crf is None or video.max_error is not None):
        start = _range(array, np.ones(array.shape, bool))[0]
        yield _Attempt("ffv1", start, np.ones(low.shape), exact=True)


def _try(
    array: np.ndarray,
    valid: np.ndarray,
    attempt: _Attempt,
    nodata: list[int | None] | None,
    video: Video,
) -> tuple[bytes, Quality] | None:
    """Encode, decode and compare; None when the levels do not fit or the bound does not hold."""
    levels = _levels(array, valid, attempt)
    if levels is None:
        return None
    masked = not attempt.exact and not valid.all()
    about = {
        "version": VERSION,
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "start": attempt.start.tolist(),
        "step": attempt.step.tolist(),
        "nodata": None if attempt.exact else nodata,
    }
    layout = "gray12le" if attempt.encoder == "libx265" else "gray16le"
    streams = [Stream(levels, attempt.encoder, layout, attempt.options or {})]
    if masked:
        streams.append(Stream(_frames(valid).astype(np.uint8) * 255, "ffv1", "gray"))
    made = write(streams, {TAG: json.dumps(about, allow_nan=False)})
    if made is None:
        return None
    data, sizes = made
    back = np.empty_like(array)
    decode_into(data, back)
    bands = array.shape[-3]
    bits = 8.0 * sizes.reshape(bands, -1).sum(axis=1)
    bits += (8.0 * len(data) - bits.sum()) / bands  # the container and the mask serve all bands
    quality = measured(array, back, valid, bits, attempt.name)
    if attempt.exact and back.tobytes() != array.tobytes():
        return None
    if not np.array_equal(_valid(back, nodata), valid):
        return None
    if video.max_error is not None and quality.worst > video.max_error:
        return None
    return data, quality


def _valid(array: np.ndarray, nodata: Sequence[int | None] | None) -> np.ndarray:
    """Return which elements are data, bool of the array's shape."""
    if array.dtype.kind == "f":
        return ~np.isnan(array)
    valid = np.ones(array.shape, bool)
    for band, number in enumerate(nodata or ()):
        if number is not None:
            valid[..., band, :, :] = array[..., band, :, :] != number
    return valid


def _range(array: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest valid value of each band, float64; 0 where there is none."""
    axes = tuple(axis for axis in range(array.ndim) if axis != array.ndim - 3)
    some = valid.any(axis=axes)
    least = np.where(valid, array, np.inf).min(axis=axes)
    most = np.where(valid, array, -np.inf).max(axis=axes)
    return np.where(some, least, 0.0), np.where(some, most, 0.0)


def _levels(array: np.ndarray, valid: np.ndarray, attempt: _Attempt) -> np.ndarray | None:
    """Return grey levels, uint16 `[frames, H, W]`; None when they do not fit.

    Missing pixels take the mean level of their frame, so that they cost few bits.
    """
    start, step = attempt.start[:, None, None], attempt.step[:, None, None]
    levels = np.rint((array.astype(np.float64) - start) / step)
    if not attempt.exact:
        levels = np.where(valid, levels, 0.0)
        count = np.maximum(valid.sum(axis=(-2, -1), keepdims=True), 1)
        levels = np.where(valid, levels, np.rint(levels.sum((-2, -1), keepdims=True) / count))
    if levels.min() < 0 or levels.max() > _MOST[attempt.encoder]:
        return None
    return _frames(levels.astype(np.uint16))


def _frames(cube: np.ndarray) -> np.ndarray:
    """Lay a cube out band by band and in each band date by date, `[frames, H, W]`."""
    return cube if cube.ndim == 3 else cube.swapaxes(0, 1).reshape(-1, *cube.shape[-2:])


def decode_into(data: Any, out: np.ndarray) -> None:
    """Decode a member straight into a buffer; the contract of `shards.codecs.codec.decode_into`.

    Sizes, formats and the number of frames are compared with what `out` wants before a frame is
    kept, so a hostile file costs at most the memory of a few frames.

    Raises:
        CorruptError: the bytes do not hold exactly such a cube.
        FMError: PyAV is not installed.
    """
    if out.ndim not in (3, 4):
        raise CorruptError(f"a video holds [C, H, W] or [T, C, H, W], not {out.shape}")
    cube = out[None] if out.ndim == 3 else out
    dates, bands, height, width = cube.shape
    count = dates * bands
    start, step = np.zeros(bands), np.ones(bands)
    missing: list[Any] = [None] * bands
    mask: np.ndarray | None = None
    limits = None if out.dtype.kind == "f" else np.iinfo(out.dtype)

    def expect(tags: Mapping[str, str], streams: int) -> list[Expected]:
        nonlocal start, step, missing, mask
        start, step, missing = _about(tags, out, bands)
        wanted = [Expected(_LAYOUTS, count, height, width, keep)]
        if streams > 1:
            mask = np.zeros((count, height, width), bool)
            wanted.append(Expected(_MASK, count, height, width, keep_mask))
        return wanted

    def keep(place: int, levels: np.ndarray) -> None:
        band, date = divmod(place, dates)
        values = levels * step[band] + start[band]
        if limits is not None:
            values = np.clip(np.rint(values), limits.min, limits.max)
        cube[date, band] = values

    def keep_mask(place: int, valid: np.ndarray) -> None:
        assert mask is not None
        mask[place] = valid > 0

    read(bytes(data), (height, width), expect)
    for place in range(count):
        band, date = divmod(place, dates)
        plane, number = cube[date, band], missing[band]
        if number is not None and limits is not None:
            # a pixel with data that came out as the number for "no data" takes the next number
            plane[plane == number] = number - 1 if number == limits.max else number + 1
        if mask is not None and not mask[place].all():
            if limits is not None and number is None:
                raise CorruptError(f"the mask has holes in band {band}, which has no no-data")
            plane[~mask[place]] = np.nan if limits is None else number


def _about(
    tags: Mapping[str, str], out: np.ndarray, bands: int
) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Parse and check the tag."""
    text = tags.get(TAG, "")
    if not text or len(text) > _TAG_LARGEST:
        raise CorruptError(f"a video without the tag {TAG}")
    try:
        about = json.loads(text)
        version, shape, dtype = about["version"], tuple(about["shape"]), about["dtype"]
        start, step = (np.asarray(about[key], np.float64) for key in ("start", "step"))
        missing = about["nodata"] or [None] * bands
        good = isinstance(missing, list) and all(n is None or type(n) is int for n in missing)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CorruptError(f"the tag {TAG} cannot be read") from None
    if version != VERSION:
        raise CorruptError(f"a video of version {version!r}, this eofm reads {VERSION}")
    if shape != out.shape or dtype != out.dtype.name:
        raise CorruptError(f"video holds {dtype} {shape}, the index says {out.dtype} {out.shape}")
    if start.shape != (bands,) or step.shape != (bands,) or len(missing) != bands or not good:
        raise CorruptError(f"the tag {TAG} does not describe {bands} bands")
    if out.dtype.kind == "f" and any(n is not None for n in missing):
        raise CorruptError(f"the tag {TAG} holds a no-data number for floating pixels")
    if not (np.isfinite(start).all() and np.isfinite(step).all()):
        raise CorruptError(f"the tag {TAG} holds numbers that are not finite")
    if out.dtype.kind in "iu":
        limits = np.iinfo(out.dtype)
        if any(n is not None and not limits.min <= n <= limits.max for n in missing):
            raise CorruptError(f"the tag {TAG} holds a no-data number that is no {out.dtype}")
    return start, step, missing
