import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fm.errors import FMError, UsageError
from shards.codecs import matroska, video
from shards.codecs.codec import DEFAULTS, CorruptError, decode
from shards.codecs.encoders import encode_member, member_codec
from shards.codecs.matroska import Stream
from shards.codecs.quality import Quality, measured
from shards.codecs.video import TAG, Video, encode
from shards.format import CODECS

av = pytest.importorskip("av")


def cube(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    """Smooth fields, a different level a band, and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    field = 1000 + 300 * np.sin(x / 9) + 200 * np.cos(y / 7)
    level = 1 + 0.2 * rng.random((*shape[:-2], 1, 1))
    array = field * level + rng.normal(0, 15, (*shape[:-2], *field.shape))
    scale = {"uint8": 1 / 8, "int8": 1 / 16, "float16": 1e-3, "float32": 1e-4}.get(dtype, 1.0)
    return (array * scale).astype(dtype)


def back(data: bytes, like: np.ndarray) -> np.ndarray:
    return decode(data, "mkv", like.shape, like.dtype.name)


SHAPES = ((3, 17, 33), (1, 1, 1), (2, 3, 40, 53), (5, 1, 8, 8))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32"])
def test_integers_come_back_bit_by_bit_unless_more_is_asked(dtype: str, shape: tuple) -> None:
    array = cube(dtype, *shape)
    if np.dtype(dtype).kind == "i":
        array[..., 0, :, :] *= -1
    data, quality = encode(array, Video(), [0] * shape[-3])
    assert back(data, array).tobytes() == array.tobytes()
    said = quality.to_dict()
    assert said["max_error"] == [0.0] * shape[-3]
    assert said["psnr_db"] == [None] * shape[-3]
    assert sum(said["bits_per_pixel"]) * array[..., 0, :, :].size == pytest.approx(8 * len(data))


def test_the_whole_range_of_16_bits_is_kept() -> None:
    for dtype in ("uint16", "int16"):
        limits = np.iinfo(dtype)
        noise = np.random.default_rng(1).integers(limits.min, limits.max + 1, (2, 32, 40))
        array = noise.astype(dtype)
        array[0, 0, :2] = limits.min, limits.max
        assert np.array_equal(back(encode(array, Video())[0], array), array)


@pytest.mark.parametrize(("dtype", "bound"), [("uint16", 5), ("int16", 2.9), ("float32", 2e-4),
                                              ("float16", 4e-3), ("uint8", 1)])  # fmt: skip
@pytest.mark.parametrize("crf", [None, 20])
def test_a_bound_holds_and_is_what_was_measured(dtype: str, bound: float, crf: int | None) -> None:
    array = cube(dtype, 2, 3, 40, 53)
    data, quality = encode(array, Video(crf, bound))
    error = np.abs(back(data, array).astype(np.float64) - array.astype(np.float64))
    assert 0 < error.max() <= bound
    assert quality.to_dict()["max_error"] == error.max(axis=(0, 2, 3)).tolist()
    assert len(data) < len(encode(array, Video())[0]) if array.dtype.kind in "iu" else True


def test_quality_is_the_formula() -> None:
    array = cube("uint16", 2, 3, 40, 53)
    array[:, 1, :7] = 0
    data, quality = encode(array, Video(crf=24), [None, 0, None])
    decoded = back(data, array).astype(np.float64)
    said = quality.to_dict()
    for band in range(3):
        valid = array[:, band] != 0 if band == 1 else np.ones((2, 40, 53), bool)
        right = array[:, band][valid].astype(np.float64)
        rmse = np.sqrt(np.mean((decoded[:, band][valid] - right) ** 2))
        peak = right.max() - right.min()
        assert said["rmse"][band] == pytest.approx(rmse, rel=1e-12)
        assert said["peak"][band] == peak
        assert said["psnr_db"][band] == pytest.approx(20 * np.log10(peak / rmse), rel=1e-12)
    assert said["coders"] == {"x265 crf 24": 1}
    json.dumps(said, allow_nan=False)


def test_quality_of_two_samples_is_that_of_both_pixels() -> None:
    valid = np.ones((2, 6, 6), bool)
    arrays = [cube("uint16", 2, 6, 6, seed=s) for s in range(2)]
    wrong = [a + np.uint16(3 * s + 1) for s, a in enumerate(arrays)]
    bits = np.array([100.0, 300.0])
    one, two = (measured(a, b, valid, bits, "x") for a, b in zip(arrays, wrong, strict=True))
    both = measured(np.stack(arrays), np.stack(wrong), np.stack([valid, valid]), 2 * bits, "x")
    added = (one + two).to_dict()
    assert added["coders"] == {"x": 2}
    expected = both.to_dict() | {"coders": {"x": 2}}
    assert added == expected
    assert Quality.from_arrays((one + two).to_arrays()).to_dict() == expected


@pytest.mark.parametrize("video_", [Video(crf=20), Video(max_error=4), Video(20, 40)])
def test_no_data_comes_back_exactly(video_: Video) -> None:
    numbers = cube("int16", 2, 3, 24, 30)
    numbers[:, 0, :5] = -32768
    numbers[1, 2] = -9999  # one date of a band without any pixel
    missing = [-32768, None, -9999]
    decoded = back(encode(numbers, video_, missing)[0], numbers)
    for band, number in enumerate(missing):
        if number is not None:
            assert np.array_equal(decoded[:, band] == number, numbers[:, band] == number)
    floats = cube("float32", 3, 24, 30)
    floats[1, 3:9, 4:] = np.nan
    floats[2] = np.nan
    decoded = back(encode(floats, Video(video_.crf, video_.max_error and 0.001))[0], floats)
    assert np.array_equal(np.isnan(decoded), np.isnan(floats))


def test_a_pixel_with_data_never_becomes_no_data() -> None:
    array = cube("uint16", 2, 32, 40)
    array[array == 1000] = 1001
    _, quality = encode(array, Video(crf=30), [1000, 1000])  # in the midst of the values
    decoded = back(encode(array, Video(crf=30), [1000, 1000])[0], array)
    assert not (decoded == 1000).any()
    assert quality.worst == np.abs(decoded.astype(int) - array.astype(int)).max()


def test_the_same_cube_gives_the_same_bytes() -> None:
    array = cube("uint16", 2, 3, 40, 53)
    array[:, 1, :5] = 0
    for choice in (Video(), Video(crf=16), Video(max_error=3)):
        assert len({encode(array, choice, [0, 0, 0])[0] for _ in range(3)}) == 1


def test_the_bytes_do_not_hang_on_what_memory_held(tmp_path: Path) -> None:
    """x265 reads memory that it never wrote when small frames have B-frames in a row."""
    array = cube("uint16", 2, 3, 64, 64)
    array[:, 1, :5] = 0
    np.save(tmp_path / "cube.npy", array)
    code = (
        "import sys, hashlib, numpy\n"
        "from shards.codecs.video import Video, encode\n"
        "made = encode(numpy.load(sys.argv[1]), Video(crf=16), [0, 0, 0])[0]\n"
        "print(hashlib.sha256(made).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "cube.npy"],
            env={**os.environ, "MALLOC_PERTURB_": str(byte)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for byte in (1, 85, 170)
    }
    assert len(found) == 1


def test_what_cannot_be_kept_is_refused_in_words() -> None:
    with pytest.raises(FMError, match=r"sample a: float32 .* bit by bit .*max_error"):
        encode(cube("float32", 2, 8, 8), Video(), where="sample a")
    wide = np.array([[[0, 10**6], [5, 7]]], np.int32)
    with pytest.raises(FMError, match="bit by bit"):
        encode(wide, Video())
    with pytest.raises(FMError, match=r"within 1e-07"):
        encode(cube("float32", 2, 8, 8) * 1e4, Video(crf=30, max_error=1e-7))
    with pytest.raises(FMError, match="infinite"):
        encode(np.full((1, 8, 8), np.inf, np.float32), Video(crf=20))
    with pytest.raises(FMError, match=r"\[C, H, W\]"):
        encode(np.zeros((8, 8), np.uint8), Video())
    with pytest.raises(UsageError, match="crf 52"):
        Video(crf=52)
    with pytest.raises(UsageError, match="max_error 0"):
        Video(max_error=0)


def test_a_writer_calls_one_function_for_every_codec() -> None:
    array = cube("uint16", 2, 24, 32)
    assert member_codec("auto", "uint16") == DEFAULTS["uint16"]
    assert member_codec("video", "uint8", mask=True) == DEFAULTS["uint8"]
    for asked in ("auto", "npy", "video"):
        name = member_codec(asked, "uint16")
        data, quality = encode_member(array, name, nodata=[None, 7])
        assert np.array_equal(decode(data, CODECS[name], array.shape, "uint16"), array)
        assert (quality is None) == (asked != "video")
    data, quality = encode_member(array, "video", Video(max_error=4))
    assert quality is not None
    assert 0 < quality.worst <= 4


def test_without_pyav_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FMError, match=r"pip install 'eofm\[video\]'"):
        encode(np.zeros((1, 8, 8), np.uint8), Video())


def member(frames: np.ndarray, encoder: str = "ffv1", layout: str = "gray16le", **tag: object):
    """Return a file with a tag of our choice; a complete and right one but for `tag`."""
    bands = int(tag.pop("bands", 2))
    about = {"version": 1, "shape": [bands, 24, 32], "dtype": "uint16", "start": [0.0] * bands,
             "step": [1.0] * bands, "nodata": None} | tag  # fmt: skip
    made = matroska.write([Stream(frames, encoder, layout)], {TAG: json.dumps(about)})
    assert made is not None
    return made[0]


FRAMES = np.arange(2 * 24 * 32).reshape(2, 24, 32).astype(np.uint16)


def test_the_file_of_the_hostile_tests_is_right_without_them() -> None:
    assert np.array_equal(decode(member(FRAMES), "mkv", (2, 24, 32), "uint16"), FRAMES)


@pytest.mark.parametrize(
    "tag",
    [{"version": 2}, {"shape": [2, 24, 31]}, {"dtype": "int16"}, {"start": [0.0]},
     {"step": [1.0, 1.0, 1.0]}, {"start": [0.0, "x"]}, {"nodata": [0]}, {"nodata": [0, 70000]},
     {"nodata": {"a": 1}}, {"shape": 5}, {"start": [0.0, 1e999]}, {"step": None}],
)  # fmt: skip
def test_a_tag_that_does_not_fit_is_an_error(tag: dict) -> None:
    with pytest.raises(CorruptError):
        decode(member(FRAMES, **tag), "mkv", (2, 24, 32), "uint16")


def test_too_many_or_too_few_frames_are_an_error() -> None:
    for count in (1, 3, 40):
        data = member(np.resize(FRAMES, (count, 24, 32)))
        with pytest.raises(CorruptError, match="frames"):
            decode(data, "mkv", (2, 24, 32), "uint16")


def test_other_sizes_formats_and_streams_are_an_error() -> None:
    wanted = {"ending": "mkv", "shape": (2, 24, 32), "dtype": "uint16"}
    with pytest.raises(CorruptError, match="expected hevc or ffv1 64 x 64"):
        decode(member(np.resize(FRAMES, (2, 240, 320))), **wanted)
    with pytest.raises(CorruptError, match="a frame of gray"):
        decode(member((FRAMES // 64).astype(np.uint8), layout="gray"), **wanted)
    three = [Stream(FRAMES, "ffv1", "gray16le")] * 3
    about = json.dumps({"version": 1, "shape": [2, 24, 32], "dtype": "uint16", "start": [0, 0],
                        "step": [1, 1], "nodata": None})  # fmt: skip
    with pytest.raises(CorruptError, match="3 streams, expected 2"):
        decode(matroska.write(three, {TAG: about})[0], **wanted)  # type: ignore[index]
    with pytest.raises(CorruptError, match="without the tag"):
        decode(matroska.write(three[:1], {})[0], **wanted)  # type: ignore[index]
    sound = io.BytesIO()
    with av.open(sound, "w", format="matroska") as container:
        container.metadata[TAG] = about
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        quiet.sample_rate = 8000
        container.mux(stream.encode(quiet))
    with pytest.raises(CorruptError, match="no video"):
        decode(sound.getvalue(), **wanted)
    other = io.BytesIO()  # a format whose demuxer is not tried
    with av.open(other, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(CorruptError, match="Matroska"):
        decode(other.getvalue(), **wanted)


def test_a_stream_larger_than_its_container_says_is_an_error() -> None:
    # the container's PixelWidth and PixelHeight (EBML ids B0, BA) are patched to the right ones
    big = member(np.zeros((2, 1024, 2048), np.uint16), "libx265", "gray12le")
    data = big.replace(b"\xb0\x82\x08\x00", b"\xb0\x82\x00\x40", 1)
    data = data.replace(b"\xba\x82\x04\x00", b"\xba\x82\x00\x40", 1)
    assert data != big
    with pytest.raises(CorruptError):
        decode(data, "mkv", (2, 24, 32), "uint16")


def test_frames_are_never_of_the_widths_that_break_x265() -> None:
    for side in (1, 32, 33, 40, 56, 63, 64, 65, 120, 264):
        assert matroska.padded(side) >= max(side, 64)
        assert matroska.padded(side) % 16 == 0


def test_damage_is_an_error_or_harmless_and_stays_inside_the_buffer() -> None:
    rng = np.random.default_rng(0)
    array = cube("uint16", 2, 2, 24, 32)
    array[0, 0, :4] = 0
    room = np.full(array.size + 64, 0xABCD, np.uint16)
    out = room[32:-32].reshape(array.shape)
    for choice in (Video(), Video(crf=20)):
        good = np.frombuffer(encode(array, choice, [0, 0])[0], np.uint8)
        for turn in range(60):
            bad = good.copy()
            bad[rng.integers(0, len(bad), 4)] = rng.integers(0, 256, 4)
            data = bad.tobytes()[: len(bad) if turn % 3 else int(rng.integers(0, len(bad)))]
            with contextlib.suppress(CorruptError):
                video.decode_into(data, out)
            assert (room[:32] == 0xABCD).all()
            assert (room[-32:] == 0xABCD).all()
