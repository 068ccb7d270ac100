"""Frames of grey levels in a Matroska file, written the same on every run and read bounded.

One or two streams, one thread, no dates and no random identifiers. A reader says what it expects;
a file with another format, size or number of frames is an error before a frame is kept.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from fm.errors import FMError
from shards.codecs.codec import CorruptError

SIDE_STEP, SIDE_LEAST = 16, 64
"""Frames are padded to whole blocks of 16 pixels and to 64 at least. x265 asks for less, but its
assembly (in PyAV 18.1, found with a checking allocator) writes outside its buffers when a frame is
40 to 56 pixels wide."""
_SMALL = "bframes=1"
"""For frames of the least side: with more than one B-frame in a row x265 (PyAV 18.1) reads memory
it never wrote there, and the bytes differ from run to run (found with MALLOC_PERTURB_)."""
_ALIGNED = 128
"""FFmpeg counts sides rounded up to the width of its vectors."""
_RATE = 25
_BITEXACT = {"fflags": "+bitexact"}
_OPTIONS = {
    # `tune psnr` turns off what spends bits on looking good
    "libx265": {
        "preset": "medium",
        "tune": "psnr",
        "x265-params": "pools=none:frame-threads=1:log-level=none:info=0",
    },
    "ffv1": {"level": "3", "coder": "1", "context": "0", "slices": "4"},
}
_BYTES = {"gray": np.uint8, "gray12le": np.uint16, "gray16le": np.uint16}


@dataclass(frozen=True)
class Stream:
    """Frames and how they are kept.

    Attributes:
        frames: `[frames, H, W]`, uint8 for `gray`, else uint16.
        encoder: `libx265` or `ffv1`.
        layout: FFmpeg's pixel format: `gray`, `gray12le` or `gray16le`.
        options: more for the encoder.
    """

    frames: np.ndarray
    encoder: str
    layout: str
    options: Mapping[str, str] = field(default_factory=dict)


def library() -> Any:
    """Import PyAV; `FMError` when it is not installed."""
    try:
        import av
    except ImportError:
        raise FMError(
            "video members need PyAV; install it with: pip install 'eofm[video]'"
        ) from None
    return av


def padded(side: int) -> int:
    """Return the side of the frame that holds so many pixels."""
    return max(SIDE_LEAST, -(-side // SIDE_STEP) * SIDE_STEP)


def write(streams: Sequence[Stream], tags: Mapping[str, str]) -> tuple[bytes, np.ndarray] | None:
    """Write a file.

    Returns:
        its bytes and the size of each frame of the first stream in bytes; None when the encoder
        does not take such frames.
    """
    av = library()
    sizes = np.zeros(len(streams[0].frames))
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="matroska", container_options=_BITEXACT) as container:
            for name, text in tags.items():
                container.metadata[name] = text
            for place, (stream, made) in enumerate([(s, _add(av, container, s)) for s in streams]):
                for packet in _packets(av, made, stream):
                    if place == 0:
                        sizes[round(packet.pts * packet.time_base * _RATE)] += packet.size
                    container.mux(packet)
    except av.FFmpegError:
        return None
    return buffer.getvalue(), sizes


def _add(av: Any, container: Any, stream: Stream) -> Any:
    options = {**_OPTIONS[stream.encoder], **stream.options}
    height, width = (padded(side) for side in stream.frames.shape[1:])
    if stream.encoder == "libx265" and min(height, width) == SIDE_LEAST:
        options["x265-params"] += f":{_SMALL}"
    made = container.add_stream(stream.encoder, rate=_RATE, options=options)
    made.height, made.width = height, width
    made.pix_fmt = stream.layout
    made.codec_context.thread_count = 1
    made.codec_context.flags |= av.codec.context.Flags.bitexact
    return made


def _packets(av: Any, made: Any, stream: Stream) -> Iterator[Any]:
    height, width = stream.frames.shape[1:]
    edges = ((0, made.height - height), (0, made.width - width))
    for place, frame in enumerate(stream.frames):
        picture = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(np.pad(frame, edges, mode="edge")), format=stream.layout
        )
        picture.pts, picture.time_base = place, Fraction(1, _RATE)
        yield from made.encode(picture)
    yield from made.encode(None)


@dataclass(frozen=True)
class Expected:
    """What a stream must be.

    Attributes:
        layouts: decoder to the pixel format that it must give.
        count: number of frames.
        height: of a frame, without padding.
        width: likewise.
        keep: called with the place of a frame and its pixels `[H, W]`.
    """

    layouts: Mapping[str, str]
    count: int
    height: int
    width: int
    keep: Callable[[int, np.ndarray], None]


def read(
    data: bytes,
    size: tuple[int, int],
    expect: Callable[[Mapping[str, str], int], Sequence[Expected]],
) -> None:
    """Read a file frame by frame.

    Args:
        data: its bytes.
        size: height and width of the largest frame that is decoded, without padding.
        expect: called with the tags and the number of streams; what each must be.

    Raises:
        CorruptError: not such a file.
    """
    av = library()
    try:
        # The format is named, so that no other demuxer (some open further files) is tried. A
        # stream's own header may claim another size than the container's, so both are bounded.
        height, width = (padded(side) + _ALIGNED for side in size)
        bounds = {"max_pixels": str(height * width)}
        with av.open(
            io.BytesIO(data), "r", format="matroska", options=bounds | {"probesize": "32"}
        ) as container:
            streams = list(container.streams)
            wanted = expect(dict(container.metadata), len(streams))
            if len(streams) != len(wanted):
                raise CorruptError(f"{len(streams)} streams, expected {len(wanted)}")
            done = [0] * len(streams)
            for stream, one in zip(streams, wanted, strict=True):
                _check(stream, one)
                stream.codec_context.options = bounds
            for packet in container.demux(streams):
                place = packet.stream_index
                for frame in packet.decode():
                    _keep(frame, wanted[place], done[place])
                    done[place] += 1
    except (av.FFmpegError, ValueError, OverflowError, UnicodeDecodeError) as error:
        raise CorruptError(f"Matroska: {type(error).__name__}") from error
    for found, one in zip(done, wanted, strict=True):
        if found != one.count:
            raise CorruptError(f"{found} frames, expected {one.count}")


def _check(stream: Any, expected: Expected) -> None:
    if stream.type != "video" or stream.codec_context is None:
        raise CorruptError("a stream that is no video")
    context = stream.codec_context
    size = padded(expected.height), padded(expected.width)
    if context.name not in expected.layouts or (stream.height, stream.width) != size:
        raise CorruptError(
            f"a stream of {context.name} {stream.width} x {stream.height}, expected "
            f"{' or '.join(expected.layouts)} {size[1]} x {size[0]}"
        )
    context.thread_count = 1


def _keep(frame: Any, expected: Expected, place: int) -> None:
    if place >= expected.count:
        raise CorruptError(f"more than {expected.count} frames")
    size = padded(expected.height), padded(expected.width)
    layout = frame.format.name
    if (frame.height, frame.width) != size or layout not in expected.layouts.values():
        raise CorruptError(f"a frame of {layout} {frame.width} x {frame.height}")
    pixels = frame.to_ndarray()
    if pixels.shape != size or pixels.dtype != _BYTES[layout]:
        raise CorruptError(f"a frame of {pixels.dtype} {pixels.shape}")
    expected.keep(place, pixels[: expected.height, : expected.width])
