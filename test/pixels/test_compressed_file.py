# SPDX-License-Identifier: Apache-2.0
"""Whatever a compressed image claims, its decoder allocates and works within limits."""

from __future__ import annotations

import zlib
from array import array
from random import Random
from types import SimpleNamespace
from typing import Any

import cv2
import hostile_images as files
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compact_yolo_ros.pixels.compressed_file import decodable
from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder
from compact_yolo_ros.pixels.file_limits import DISK_LIMITS, USUAL_LIMITS, FileLimits
from compact_yolo_ros.pixels.image_error import ImageError

BIG = files.Sizes(8192, 8192)
ENOUGH = bytes(700_000)
"""Coded data long enough for 8192 x 8192 pixels; what is in it does not matter."""
FORMATS = ["jpeg", "png", "", "bayer_rggb8; png compressed ", "mono16; png compressed mono16"]


def message(data: bytes, format_: str = "") -> Any:
    return SimpleNamespace(format=format_, data=array("B", data))


def decode(data: bytes, limits: FileLimits = USUAL_LIMITS, format_: str = "") -> DecodedImage:
    return ImageDecoder(limits).compressed(message(data, format_))


def refusal(data: bytes, limits: FileLimits = USUAL_LIMITS) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, limits)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert ": " in sentence
    assert len(sentence) < 250
    return caught.value


@pytest.fixture()
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if the native decoder is reached."""

    def imdecode(*_: object) -> None:
        pytest.fail("the file was decoded")

    monkeypatch.setattr(cv2, "imdecode", imdecode)


class TestGoodFiles:
    @pytest.mark.parametrize("name", files.seeds())
    def test_every_usual_kind_is_decoded(self, name: str) -> None:
        file = files.seeds()[name]
        expected = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
        if expected.dtype == np.uint16:
            expected = (expected // 256).astype(np.uint8)
        np.testing.assert_array_equal(decode(file).pixels, expected)

    @given(
        width=st.integers(1, 70),
        height=st.integers(1, 70),
        interval=st.integers(0, 30),
        progressive=st.booleans(),
        sampling=st.integers(0, 2),
        mode=st.sampled_from(["RGB", "L", "CMYK"]),
    )
    @settings(max_examples=60)
    def test_restarts_and_scans_of_any_jpeg_are_counted_right(
        self, width: int, height: int, interval: int, progressive: bool, sampling: int, mode: str
    ) -> None:
        options = {"restart_marker_blocks": interval} if interval else {}
        file = files.pillow(
            files.photo(height, width),
            "JPEG",
            mode,
            progressive=progressive,
            subsampling=sampling,
            **options,
        )
        assert decode(file).pixels.shape[:2] == (height, width)

    @pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_OPTIMIZE, 1)])
    @pytest.mark.parametrize("level", [0, 127, 128, 255])
    def test_a_flat_picture_is_complete(self, level: int, options: tuple[int, ...]) -> None:
        flat = np.full((40, 40, 3), level, np.uint8)
        np.testing.assert_array_equal(decode(files.jpeg(flat, *options)).pixels, flat)

    @pytest.mark.parametrize("fields", [b"\0\0\0", b"\1\x3f\0", b"\0\x3f\x21"])
    def test_a_baseline_jpeg_may_say_anything_of_its_coefficients(self, fields: bytes) -> None:
        """Webcams do; the decoder warns and takes all of them."""
        file = files.jpeg(files.photo())
        at = file.index(b"\xff\xda") + 11
        assert file[at : at + 3] == b"\0\x3f\0"
        odd = file[:at] + fields + file[at + 3 :]
        np.testing.assert_array_equal(decode(odd).pixels, decode(file).pixels)

    def test_a_grey_corner_is_complete(self) -> None:
        picture = files.photo()
        picture[-24:] = 128
        pixels = decode(files.jpeg(picture)).pixels
        assert (pixels[-1, -1] == 128).all()


@pytest.mark.usefixtures("undecoded")
class TestClaims:
    """Refused by what the file says, before anything is decoded."""

    @pytest.mark.parametrize("name", sorted(files.bombs().keys() - {"text that inflates"}))
    def test_a_bomb(self, name: str) -> None:
        refusal(files.bombs()[name])

    @pytest.mark.parametrize("frames", [2, 1000, 2**31 - 1, 2**32 - 1])
    def test_an_animation(self, frames: int) -> None:
        assert str(frames) in str(refusal(files.animated_png(frames)))

    def test_an_animation_of_real_frames(self) -> None:
        assert "max_png_frames" in str(refusal(files.animation(3)))

    def test_more_frames_than_announced(self) -> None:
        controls = [files.frame_control(n) for n in range(3)]
        assert "animation" in str(refusal(files.animated_png(1, *controls)))

    def test_frames_larger_than_the_image(self) -> None:
        for control in (files.frame_control(width=9), files.frame_control(left=2**32 - 1)):
            assert "larger than the image" in str(refusal(files.animated_png(1, control)))

    @pytest.mark.parametrize("length", [1, 4, 2**31 - 1, 2**31, 2**32 - 12, 2**32 - 1])
    @pytest.mark.parametrize("animated", [False, True])
    def test_an_end_that_claims_a_length(self, length: int, animated: bool) -> None:
        rows = files.rows_of(files.Sizes())
        file = (
            files.animated_png(1, end=length)
            if animated
            else files.hand_made_png(files.Sizes(), rows, end=length)
        )
        assert refusal(file).kind == "compressed"

    @pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"acTL", b"fcTL", b"eXIf", b"zzZz"])
    @pytest.mark.parametrize("length", [200, 2**31 - 1, 2**31, 2**32 - 12, 2**32 - 1])
    def test_a_chunk_longer_than_the_file(self, kind: bytes, length: int) -> None:
        extra = files.chunk(kind, bytes(8), length)
        file = files.hand_made_png(files.Sizes(), files.rows_of(files.Sizes()), extra)
        assert refusal(file).kind in ("truncated", "compressed")

    @pytest.mark.parametrize(
        ("sizes", "kind"),
        [
            (BIG._replace(bits=16, colour=6), "size"),
            (BIG._replace(bits=16, colour=2), "size"),
            (BIG._replace(width=8193), "size"),
            (files.Sizes(2**31, 2**31), "size"),
            (files.Sizes(0, 8), "size"),
            (files.Sizes(bits=3), "compressed"),
            (files.Sizes(colour=7), "compressed"),
        ],
    )
    def test_pixels_that_take_too_much(self, sizes: files.Sizes, kind: str) -> None:
        assert refusal(files.hand_made_png(sizes, ENOUGH)).kind == kind

    def test_more_pixels_than_the_data_can_hold(self) -> None:
        file = files.hand_made_png(BIG, bytes(1000))
        assert "too short" in str(refusal(file))
        small = files.jpeg(files.photo())
        at = small.index(bytes([0, 48, 0, 64]))
        file = small[:at] + bytes([32, 0, 32, 0]) + small[at + 4 :]
        assert "too short" in str(refusal(file))

    def test_components_of_one_name(self) -> None:
        """They would count as one, and take the memory of three."""
        file = files.jpeg(files.photo())
        at = file.index(bytes([0, 48, 0, 64, 3])) + 5
        twins = file[:at] + file[at : at + 3] + b"\1" + file[at + 4 :]
        assert refusal(twins).kind == "compressed"

    def test_a_second_header(self) -> None:
        file = files.hand_made_png(
            files.Sizes(), files.rows_of(files.Sizes()), files.Sizes(9000, 9000).chunk()
        )
        assert "two headers" in str(refusal(file))
        frame = next(
            content
            for kind, content in files.jpeg_pieces(files.jpeg(files.photo()))
            if kind == 0xC0
        )
        assert "two frames" in str(refusal(files.jpeg(files.photo()).replace(frame, frame * 2)))

    def test_thousands_of_scans(self) -> None:
        assert refusal(files.many_scans(9000)).kind == "compressed"

    def test_thousands_of_ever_finer_scans(self) -> None:
        finer = [
            bytes([1, 1, 0, k, k, (al + 1 & 15 if al < 13 else 0) << 4 | al])
            for k in range(1, 64)
            for al in range(13, -1, -1)
        ]
        head, _, rest = files.many_scans(1).rpartition(b"\xff\xda")
        scans = b"".join(b"\xff\xda\0\x08" + fields + bytes(8) for fields in finer)
        assert "max_jpeg_scans" in str(refusal(head + scans + files.END))

    def test_pixels_behind_the_end(self) -> None:
        """A decoder that reads on takes the garbage there for a chunk of gigabytes."""
        ended = files.SIGNATURE + files.Sizes().chunk() + files.chunk(b"IEND", b"")
        for length in (0, 2**31, 2**32 - 12):
            pixels = files.chunk(b"IDAT", files.rows_of(files.Sizes()), length)
            assert refusal(ended + pixels + files.chunk(b"IEND", b"")).kind == "truncated"

    def test_a_million_pieces(self) -> None:
        many = [files.chunk(b"tEXt", b"")] * 70_000
        file = files.hand_made_png(files.Sizes(), files.rows_of(files.Sizes()), *many)
        assert "32768" in str(refusal(file))
        file = files.jpeg(files.photo())
        assert "32768" in str(refusal(file[:2] + b"\xff\xfe\0\2" * 70_000 + file[2:]))


@pytest.mark.parametrize("name", ["jpeg", "jpeg, progressive", "png", "png, interlaced"])
def test_what_follows_the_end_is_kept_from_the_decoder(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = files.seeds()[name]
    real, given = cv2.imdecode, []

    def imdecode(content: NDArray[np.uint8], how: int) -> object:
        given.append(content.tobytes())
        return real(content, how)

    monkeypatch.setattr(cv2, "imdecode", imdecode)
    for tail in (bytes(100), files.seeds()["jpeg"], files.animated_png(2**31 - 1)[8:]):
        decode(file + tail)
    assert given == [file] * 3


class TestFilesOnDisk:
    @pytest.mark.parametrize("name", files.seeds())
    def test_good_ones_end_where_their_format_ends(self, name: str) -> None:
        file = files.seeds()[name]
        assert decodable(file + bytes(50), DISK_LIMITS) == file

    def test_other_formats_and_cut_jpegs_are_left_to_the_decoder(self) -> None:
        bmp = cv2.imencode(".bmp", files.photo())[1].tobytes()
        for file in (bmp, b"", files.jpeg(files.photo())[:-2]):
            assert decodable(file, DISK_LIMITS) == file

    @pytest.mark.parametrize(
        "name", ["animation without end", "end with a length", "9000 scans", "70000 chunks"]
    )
    def test_bombs_are_refused(self, name: str) -> None:
        with pytest.raises(ImageError):
            decodable(files.bombs()[name], DISK_LIMITS)

    def test_pixels_behind_the_end_are_refused(self) -> None:
        ended = files.SIGNATURE + files.Sizes().chunk() + files.chunk(b"IEND", b"")
        with pytest.raises(ImageError):
            decodable(ended + files.chunk(b"IDAT", b"", 2**32 - 12), DISK_LIMITS)


class TestLimits:
    def test_what_takes_exactly_the_limit_is_taken(self) -> None:
        file = files.png(np.zeros((1024, 1024), np.uint8))
        assert decode(file, FileLimits(megabytes=1)).pixels.nbytes == 2**20

    def test_memory_can_be_raised_and_lowered(self) -> None:
        file = files.png(np.zeros((1024, 512, 3), np.uint8))
        assert decode(file, FileLimits(megabytes=2)).pixels.shape == (1024, 512, 3)
        assert "max_image_mb is 1" in str(refusal(file, FileLimits(megabytes=1)))

    def test_a_clear_colour_is_a_channel_more(self) -> None:
        sizes, limits = files.Sizes(600, 512, colour=3), FileLimits(megabytes=1)
        clear = files.chunk(b"tRNS", b"\0")
        assert refusal(files.hand_made_png(sizes, bytes(1000), clear), limits).kind == "size"
        assert refusal(files.hand_made_png(sizes, bytes(1000)), limits).kind != "size"

    def test_a_progressive_jpeg_needs_its_coefficients_too(self) -> None:
        """ITU-T T.81: 64 coefficients of 16 bits a block, here in 4:2:0 with 3 bytes a pixel."""
        flat = np.zeros((512, 512, 3), np.uint8)
        assert decode(files.jpeg(flat), FileLimits(megabytes=1)).pixels.nbytes == 3 * 2**18
        file = files.jpeg(flat, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
        assert refusal(file, FileLimits(megabytes=1)).kind == "size"
        assert decode(file, FileLimits(megabytes=2)).pixels.shape == flat.shape

    def test_scans(self) -> None:
        file = files.seeds()["jpeg, progressive"]
        scans = file.count(b"\xff\xda")
        assert decode(file, FileLimits(scans=scans)).pixels.shape == (48, 64, 3)
        assert "max_jpeg_scans" in str(refusal(file, FileLimits(scans=scans - 1)))

    def test_of_more_frames_the_first_is_used(self) -> None:
        pixels = decode(files.animation(3), FileLimits(frames=3)).pixels
        np.testing.assert_array_equal(pixels[..., ::-1], files.photo(seed=0))


class TestTornJpeg:
    """The first half of a picture, and what was in the camera's memory before."""

    KINDS = ["jpeg", "jpeg, grey", "jpeg, restarts", "jpeg, progressive", "jpeg, own tables"]

    @staticmethod
    def stale_tails() -> dict[str, bytes]:
        other = files.jpeg(files.photo(seed=5))
        return {
            "end marker": files.END,
            "end of another": other[-40:],
            "zeros": bytes(100) + files.END,
            "another": other,
            "another without its beginning": other[2:],
            "a thumbnail": bytes(30) + files.jpeg(files.photo(8, 8)),
        }

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("tail", stale_tails())
    def test_half_a_picture_with_a_stale_tail_is_refused(self, kind: str, tail: str) -> None:
        file = files.seeds()[kind]
        torn = file[: len(file) * 6 // 10] + self.stale_tails()[tail]
        assert refusal(torn).kind in ("truncated", "compressed")

    @pytest.mark.parametrize("kind", ["jpeg", "jpeg, grey", "jpeg, own tables", "jpeg, 4:4:4"])
    def test_an_early_end_is_noticed_wherever_it_is(self, kind: str) -> None:
        file = files.seeds()[kind]
        start = file.rindex(b"\xff\xda") + 14
        for length in range(start, len(file) - 300, 61):
            assert refusal(file[:length].removesuffix(b"\xff") + files.END).kind == "truncated"

    @pytest.mark.parametrize("quality", [70, 90])
    @pytest.mark.parametrize("colour", [True, False])
    @pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
    def test_the_rest_of_an_older_image_is_noticed(
        self, part: float, colour: bool, quality: int
    ) -> None:
        """Two pieces have more or fewer pixels than one image, or by chance exactly as many."""
        pictures = [files.landscape(seed) for seed in range(5)]
        whole = [
            files.jpeg(pixels if colour else pixels[..., 1], cv2.IMWRITE_JPEG_QUALITY, quality)
            for pixels in pictures
        ]
        refused = 0
        for new, old in zip(whole, whole[1:] + whole[:1], strict=True):
            at = int(len(new) * part)
            try:
                decode(new[:at] + old[at:])
            except ImageError as error:
                refused += error.kind == "truncated"
        assert refused >= 4

    @pytest.mark.parametrize("surplus", [b"", b"\x5a", bytes(range(1, 9)), bytes(200)])
    @pytest.mark.parametrize("edge", [None, 120, 128])
    def test_a_sharp_edge_or_some_bytes_too_many_do_not_tear_an_image(
        self, edge: int | None, surplus: bytes
    ) -> None:
        """Cameras leave some bytes between the last pixel and the end."""
        picture = files.landscape()
        if edge:
            picture[edge:] //= 8
        file = files.jpeg(picture)
        assert decode(file[:-2] + surplus + files.END).pixels.shape == (240, 320, 3)

    def test_a_usual_image_is_decoded_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real, calls = cv2.imdecode, []
        monkeypatch.setattr(cv2, "imdecode", lambda *args: (calls.append(args), real(*args))[1])
        for seed in range(10):
            decode(files.jpeg(files.landscape(seed)))
        assert len(calls) == 10

    @pytest.mark.parametrize("level", [0, 128])
    def test_a_camera_with_an_edge_that_looks_torn_is_rarely_looked_at_twice(
        self, level: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """For example the bars of a film, which lie on rows of blocks."""
        picture = files.landscape()
        picture[160:] = level
        file = files.jpeg(picture)
        real, calls = cv2.imdecode, []
        monkeypatch.setattr(cv2, "imdecode", lambda *args: (calls.append(args), real(*args))[1])
        decoder = ImageDecoder()
        for _ in range(200):
            decoder.compressed(message(file))
        assert len(calls) <= 220

    def test_a_lost_or_foreign_interval_is_noticed(self) -> None:
        file = files.seeds()["jpeg, restarts"]
        second, third = file.index(b"\xff\xd1"), file.index(b"\xff\xd2")
        assert "restart" in str(refusal(file[:second] + file[third:]))
        assert "restart" in str(refusal(file[:third] + file[second:]))


class TestTornPng:
    def test_half_a_picture_with_a_stale_tail_is_refused(self) -> None:
        file, other = files.png(files.photo()), files.png(files.photo(seed=5))
        for tail in (other[-12:], other[-40:], other[len(other) // 2 :], other):
            assert refusal(file[: len(file) // 2] + tail).kind in ("truncated", "compressed")

    def test_a_stale_piece_of_the_same_place_is_refused(self) -> None:
        rows = [zlib.compress(files.photo(seed=n)[:8, :25].tobytes(), 0) for n in (0, 5)]
        fresh, stale = (files.hand_made_png(files.Sizes(), coded) for coded in rows)
        assert len(fresh) == len(stale)
        assert refusal(fresh[:150] + stale[150:]).kind == "compressed"

    def test_chunks_without_a_header_are_refused(self) -> None:
        for content in (files.chunk(b"IEND", b""), files.chunk(b"IDAT", b"") * 3):
            assert refusal(files.SIGNATURE + content + files.chunk(b"IEND", b""))


@given(
    name=st.sampled_from(sorted(files.seeds())),
    random=st.randoms(use_true_random=False),
    format_=st.sampled_from(FORMATS),
    reduction=st.sampled_from([1, 2, 4, 8]),
)
@settings(max_examples=600)
def test_damaged_files_are_decoded_within_limits_or_refused(
    name: str, random: Random, format_: str, reduction: int
) -> None:
    decoder = ImageDecoder(FileLimits(megabytes=1, scans=20))
    damaged = message(files.mutated(files.seeds()[name], random), format_)
    try:
        picture = decoder.compressed(damaged, lambda size: (size[0] // reduction, 1))
        whole = picture.at_least(0)
    except ImageError as error:
        assert error.kind != "malformed", error.__cause__
        return
    for image in (picture, whole):
        assert image.pixels.dtype == np.uint8
        assert image.pixels.nbytes <= 2**20
        assert image.size == picture.size
        height, width = image.pixels.shape[:2]
        assert (width, height) == tuple(-(-side // image.reduction) for side in picture.size)
