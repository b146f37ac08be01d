# SPDX-License-Identifier: Apache-2.0
"""Videos are decoded from keyframes on, each picture with what belongs to it, and never beyond a
gap."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from encoded_video import STEP, Encoded, encode, grey, number_of
from hypothesis import given
from hypothesis import strategies as st

from compact_yolo_ros.pixels.file_limits import FileLimits
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.picture_numbers import PictureNumbers
from compact_yolo_ros.pixels.video_packets import VideoPacket, codec_of, is_keyframe
from compact_yolo_ros.pixels.video_stream import PictureConverter, VideoPicture, VideoStream
from compact_yolo_ros.support.pip import pip_line

CODECS = ("h264", "hevc")


def packet(encoded: Encoded, codec: str = "h264", *, flagged: bool = True) -> VideoPacket:
    """A packet whose origin is its number; with ``flagged`` it tells what FFmpeg tells."""
    number = encoded.number if flagged else None
    data = memoryview(encoded.data)
    return VideoPacket(codec, data, encoded.number, number, flagged and encoded.is_key)


def decode(stream: VideoStream, packets: Iterable[VideoPacket]) -> list[VideoPicture]:
    """All pictures; errors are counted by ``left_out``."""
    pictures = []
    for each in packets:
        try:
            pictures += stream.decode(each)
        except ImageError as error:
            assert error.kind == "video"
    return pictures + stream.rest()


def shown(pictures: list[VideoPicture]) -> list[int]:
    """The numbers that the pixels show, which are those of their origins."""
    converter = PictureConverter()
    numbers = [number_of(converter.image(picture).pixels) for picture in pictures]
    assert numbers == [picture.origin for picture in pictures]
    return numbers


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("flagged", [True, False])
def test_every_picture_comes_out_at_once_with_its_origin(codec: str, flagged: bool) -> None:
    packets, pictures = encode(codec), []
    stream = VideoStream()
    for each in packets:
        (picture,) = stream.decode(packet(each, codec, flagged=flagged))
        pictures.append(picture)
    assert shown(pictures) == list(range(12)) and not stream.left_out


@pytest.mark.parametrize("codec", CODECS)
def test_reordered_pictures_keep_their_origins(codec: str) -> None:
    packets = encode(codec, b_frames=2)
    assert [p.number for p in packets] != list(range(12))  # the encoder did make B-frames
    assert shown(decode(VideoStream(), (packet(p, codec) for p in packets))) == list(range(12))


@pytest.mark.parametrize("codec", CODECS)
def test_a_video_that_is_joined_late_begins_at_its_keyframe(codec: str) -> None:
    packets = encode(codec)
    for flagged in (True, False):
        stream = VideoStream()
        late = [packet(p, codec, flagged=flagged) for p in packets[2:]]
        assert shown(decode(stream, late)) == list(range(6, 12)) and stream.left_out == 4


def test_after_a_loss_the_next_keyframe_is_awaited() -> None:
    packets = [packet(p) for p in encode("h264")]
    stream = VideoStream()
    with pytest.raises(ImageError, match="packets of the video are lost"):
        for each in packets[:2] + packets[3:]:
            stream.decode(each)
    assert stream.is_waiting
    assert shown(decode(VideoStream(), packets[:2] + packets[3:])) == [0, 1, *range(6, 12)]
    assert shown(decode(stream, packets)) == list(range(12))


@pytest.mark.parametrize("codec", CODECS)
def test_a_loss_is_found_without_numbers_too(codec: str) -> None:
    """Foxglove's messages have none; the videos themselves have."""
    packets = [packet(p, codec, flagged=False) for p in encode(codec)]
    assert shown(decode(VideoStream(), packets[:2] + packets[3:])) == [0, 1, *range(6, 12)]


def test_a_loss_among_b_frames_is_found_at_the_next_jump() -> None:
    encoded = encode("h264", 18, gop=18, b_frames=2)
    packets = [packet(p) for p in encoded if p.number != 7]
    stream = VideoStream()
    numbers = shown(decode(stream, packets))
    assert stream.left_out > 0 and numbers == list(range(len(numbers))) and len(numbers) < 12


@pytest.mark.parametrize("codec", CODECS)
def test_damage_shows_no_picture_that_never_was(codec: str) -> None:
    random = np.random.default_rng(1)
    scenes = [random.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(12)]
    packets = [packet(p, codec) for p in encode(codec, pictures=scenes)]
    whole = {p.origin: PictureConverter().image(p).pixels for p in decode(VideoStream(), packets)}
    data = packets[2].data
    part = data[: len(data) // 2] if codec == "h264" else b""  # FFmpeg takes half a HEVC slice
    for damaged in (part, b"", b"\0\0\1\x65garbage", b"\0\0\1\x02garbage", b"no packet"):
        stream = VideoStream()
        broken = packets[2]._replace(data=memoryview(damaged), number=None)
        pictures = decode(stream, [*packets[:2], broken, *packets[3:]])
        origins = [picture.origin for picture in pictures]
        assert origins == [0, 1, *range(6, 12)], bytes(damaged[:20])
        for picture in pictures:
            np.testing.assert_array_equal(
                PictureConverter().image(picture).pixels, whole[picture.origin]
            )


def test_a_video_may_change_its_size_and_its_codec() -> None:
    parts = [
        ("h264", (64, 48)),
        ("h264", (96, 32)),
        ("libx265;yuv420p;bgr8;bgr8", (32, 64)),
        ("h264_nvenc", (64, 48)),
    ]
    packets = [
        packet(each, encoder)
        for encoder, size in parts
        for each in encode(codec_of(encoder), 2, size=size)
    ]
    stream, converter, sizes = VideoStream(), PictureConverter(), []
    for each in packets:
        for picture in stream.decode(each):
            sizes.append(converter.image(picture).size)
    assert sizes == [size for _, size in parts for _ in range(2)]
    stream.close()
    assert not stream.rest()


def test_pictures_larger_than_the_limit_are_refused() -> None:
    packets = [packet(p) for p in encode("h264", 2, size=(512, 512), gop=1)]
    stream = VideoStream(FileLimits(megabytes=5))
    for each in packets:
        with pytest.raises(ImageError, match="max_image_mb"):
            stream.decode(each)
    assert len(decode(VideoStream(FileLimits(megabytes=8)), packets)) == 2


@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p10le"])
def test_other_formats_of_pixels_are_converted(pixel_format: str) -> None:
    colours = np.zeros((1, 48, 64, 3), np.uint8)
    colours[:] = 200, 100, 40
    (each,) = encode("h264", 1, pictures=colours, pixel_format=pixel_format)
    (picture,) = VideoStream().decode(packet(each))
    image = PictureConverter().image(picture)
    assert image.colour == "rgb"
    np.testing.assert_allclose(image.pixels, colours[0], atol=6)


def test_names_of_encoders() -> None:
    for name in ("h264", "libx264", "h264_nvenc", "h264_vaapi", "h264;yuv420p;bgr8;bgr8", "H264"):
        assert codec_of(name) == "h264"
    for name in ("hevc", "libx265", "hevc_nvenc", "h265", "hevc;nv12;nv12;nv12"):
        assert codec_of(name) == "hevc"
    for name in ("", "vp9", "mjpeg", "av1", "x" * 1000):
        with pytest.raises(ImageError, match="cannot be decoded: set the encoder") as found:
            codec_of(name)
        assert len(str(found.value)) < 250


@pytest.mark.parametrize("codec", CODECS)
def test_keyframes_are_known_by_their_bytes(codec: str) -> None:
    for each in encode(codec):
        assert is_keyframe(memoryview(each.data), codec) == each.is_key
    for data in (b"", b"\0\0\1", b"\0\0\1\x67", b"garbage"):
        assert not is_keyframe(memoryview(data), codec)


@given(st.binary(max_size=60))
def test_any_bytes_are_no_keyframe_or_one(data: bytes) -> None:
    for codec in CODECS:
        assert is_keyframe(memoryview(b"\0\0\1".join([data] * 3)), codec) in (True, False)


def losses(numbers: Iterable[int], *, reorders: bool) -> list[int]:
    """At which numbers a loss is found; the first one is a keyframe."""
    first, *others = numbers
    found = PictureNumbers()
    found.begin(first)
    return [number for number in others if found.miss(number, reorders=reorders)]


def test_numbers_show_losses() -> None:
    assert losses(range(20), reorders=False) == []
    assert losses([0, 1, 2, 5, 6], reorders=False) == [5]
    assert losses([0, 2, 3, 4], reorders=False) == [3]  # only then is it known that they count
    assert losses([0, 1, 2, 500, 501], reorders=False) == [500]
    assert losses([0, 3, 1, 2, 6, 4, 5, 9], reorders=True) == []
    assert losses([0, 4, 2, 1, 3, 8, 6, 7, 12], reorders=True) == [12]
    assert losses([0, 3, 1, 2, 40, 43], reorders=True) == [40]
    assert losses(range(0, 300_000, 3000), reorders=False) == []
    assert losses([0, 33, 67, 100, 167, 200], reorders=False) == []
    assert losses([0, 1, 2**64 - 1], reorders=True) == [2**64 - 1]
    found = PictureNumbers()
    assert not found.miss(7, reorders=False)  # without a keyframe nothing is known
    found.begin(0)
    assert not found.miss(1, reorders=False) and not found.miss(None, reorders=False)
    assert found.miss(3, reorders=False)
    found.begin(10)
    assert not found.miss(11, reorders=False)


def test_without_pyav_a_sentence_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for make in (VideoStream, PictureConverter):
        with pytest.raises(
            ModuleNotFoundError, match=re.escape(f"python3-av, or {pip_line('av')}")
        ):
            make()


def test_a_decoder_that_ffmpeg_lacks_is_an_error_of_the_video(monkeypatch) -> None:
    def create(codec: str, mode: str) -> None:
        raise ValueError(codec)

    pytest.importorskip("av", reason="PyAV is not installed")
    stream = VideoStream()
    monkeypatch.setattr(stream, "_av", SimpleNamespace(CodecContext=SimpleNamespace(create=create)))
    for _ in range(2):
        with pytest.raises(ImageError, match="has no decoder for hevc.*set the encoder"):
            stream.decode(VideoPacket("libx265", memoryview(b"")))


def test_the_numbers_in_the_pictures_can_be_told_apart() -> None:
    assert all(number_of(b) - number_of(a) == 1 for a, b in pairwise(map(grey, range(24))))
    assert STEP > 2
