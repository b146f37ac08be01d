# SPDX-License-Identifier: Apache-2.0
"""Image messages become the pixels that were put into them, or an ImageError, and nothing else."""

from __future__ import annotations

import array
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder
from compact_yolo_ros.pixels.encodings import LAYOUTS, MAX_PIXELS
from compact_yolo_ros.pixels.file_limits import FileLimits
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.letterbox import Letterbox
from compact_yolo_ros.ros.cv_bridge_decoder import CvBridgeDecoder

try:
    from sensor_msgs.msg import CompressedImage, Image
except ImportError:  # without ROS, look-alikes with the same fields
    Image = CompressedImage = SimpleNamespace

COLOURS = {
    "bgr8": ("bgr", 3),
    "rgb8": ("rgb", 3),
    "bgra8": ("bgra", 4),
    "rgba8": ("rgba", 4),
    "mono8": ("grey", 1),
    "8UC1": ("grey", 1),
    "8UC3": ("bgr", 3),
    "8UC4": ("bgra", 4),
}
BAYER = ("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8")
few = settings(max_examples=20, deadline=None)
sides = st.integers(1, 24)
paddings = st.sampled_from([0, 1, 7, 64])


def bytes_of(data: bytes) -> array.array[int]:
    """Bytes as rclpy hands them over."""
    return array.array("B", data)


def image_message(
    encoding: str, width: int, height: int, rows: NDArray[np.uint8], padding: int = 0
) -> Any:
    """Make a sensor_msgs/Image from byte rows (n, m), each followed by bytes of no meaning."""
    message = Image()
    message.encoding, message.width, message.height = encoding, width, height
    message.step = rows.shape[1] + padding
    message.is_bigendian = 0
    message.data = bytes_of(np.pad(rows, ((0, 0), (0, padding)), constant_values=0xA5).tobytes())
    return message


def compressed_message(data: bytes, format_: str = "jpeg") -> Any:
    message = CompressedImage()
    message.format = format_
    message.data = bytes_of(data)
    return message


def filled(encoding: str, width: int = 8, height: int = 6, padding: int = 0) -> Any:
    """Make a well-formed message of noise."""
    layout = LAYOUTS[encoding]
    rows = height * 3 // 2 if encoding in ("nv12", "nv21") else height
    noise = np.random.default_rng(0).integers(0, 256, (rows, width * layout.pixel_bytes), np.uint8)
    return image_message(encoding, width, height, noise, padding)


def encoded(extension: str, pixels: NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(extension, pixels)[1].tobytes())


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    """Ramps that differ from channel to channel: interpolating them loses nothing."""
    y, x = np.mgrid[:height, :width]
    return np.stack([20 + 3 * x + y, 120 + x - 2 * y, 230 - 4 * x], axis=2).astype(np.uint8)


def bt601(rgb: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Y, Cb and Cr (h, w) of 8-bit BT.601 with limited range, from ITU-R BT.601-7, section 2.5."""
    red, green, blue = (rgb[..., i] / 255 for i in range(3))
    y = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    cb = 128 - 37.797 * red - 74.203 * green + 112 * blue
    cr = 128 + 112 * red - 93.786 * green - 18.214 * blue
    return tuple(np.rint(plane).astype(np.uint8) for plane in (y, cb, cr))  # type: ignore[return-value]


class TestPixels:
    @pytest.mark.parametrize("encoding", COLOURS)
    @given(width=sides, height=sides, padding=paddings, data=st.data())
    @few
    def test_plain_encodings_are_viewed_unchanged(
        self, encoding: str, width: int, height: int, padding: int, data: Any
    ) -> None:
        colour, channels = COLOURS[encoding]
        pixels = data.draw(arrays(np.uint8, (height, width, channels)))
        message = image_message(encoding, width, height, pixels.reshape(height, -1), padding)

        picture = ImageDecoder().image(message)

        assert picture.colour == colour
        np.testing.assert_array_equal(picture.pixels.reshape(pixels.shape), pixels)
        assert picture.pixels.ndim == (2 if colour == "grey" else 3)
        assert np.shares_memory(picture.pixels, np.frombuffer(message.data, np.uint8))

    @pytest.mark.parametrize("big_endian", [False, True])
    @given(width=sides, height=sides, padding=paddings, data=st.data())
    @few
    def test_mono16_gives_the_highest_of_its_bits(
        self, big_endian: bool, width: int, height: int, padding: int, data: Any
    ) -> None:
        values = data.draw(arrays(np.uint16, (height, width)))
        rows = values.astype(">u2" if big_endian else "<u2").view(np.uint8)
        message = image_message("mono16", width, height, rows, padding)
        message.is_bigendian = int(big_endian)

        picture = ImageDecoder(mono16_bits=16).image(message)

        assert picture.colour == "grey"
        np.testing.assert_allclose(picture.pixels, values / 257, atol=0.51)

    @pytest.mark.parametrize("pattern", BAYER)
    @given(width=st.integers(3, 24), height=st.integers(3, 24), padding=paddings)
    @few
    def test_bayer_gives_the_colours_under_the_mosaic(
        self, pattern: str, width: int, height: int, padding: int
    ) -> None:
        rgb = smooth(height, width)
        mosaic = np.empty((height, width), np.uint8)
        for cell, letter in enumerate(pattern.removeprefix("bayer_")[:4]):
            y, x = divmod(cell, 2)  # the name lists the top left 2 x 2 pixels, row by row
            mosaic[y::2, x::2] = rgb[y::2, x::2, "rgb".index(letter)]

        picture = ImageDecoder().image(image_message(pattern, width, height, mosaic, padding))

        assert picture.colour == "rgb"
        inside = (slice(1, -1), slice(1, -1))
        np.testing.assert_allclose(picture.pixels[inside].astype(int), rgb[inside], atol=1)

    @pytest.mark.parametrize(
        ("encoding", "order"),
        [
            ("uyvy", "uyvy"),
            ("yuv422", "uyvy"),
            ("yuyv", "yuyv"),
            ("yuv422_yuy2", "yuyv"),
        ],
    )
    @given(blocks=arrays(np.uint8, st.tuples(sides, sides, st.just(3))), padding=paddings)
    @few
    def test_packed_yuv_is_bt601(
        self, encoding: str, order: str, blocks: NDArray[np.uint8], padding: int
    ) -> None:
        rgb = blocks.repeat(2, axis=1)  # a pair of pixels shares its chroma
        y, cb, cr = bt601(rgb)
        planes = {"u": cb[:, ::2], "v": cr[:, ::2]}
        luma = iter((y[:, ::2], y[:, 1::2]))
        quads = np.stack([next(luma) if c == "y" else planes[c] for c in order], axis=2)
        height, width = rgb.shape[:2]
        message = image_message(encoding, width, height, quads.reshape(height, -1), padding)

        picture = ImageDecoder().image(message)

        assert picture.colour == "rgb"
        np.testing.assert_allclose(picture.pixels.astype(int), rgb, atol=3)

    @pytest.mark.parametrize(("encoding", "order"), [("nv12", (1, 2)), ("nv21", (2, 1))])
    @given(blocks=arrays(np.uint8, st.tuples(sides, sides, st.just(3))), padding=paddings)
    @few
    def test_semi_planar_yuv_is_bt601(
        self, encoding: str, order: tuple[int, int], blocks: NDArray[np.uint8], padding: int
    ) -> None:
        rgb = blocks.repeat(2, axis=0).repeat(2, axis=1)  # 2 x 2 pixels share their chroma
        planes = bt601(rgb)
        height, width = rgb.shape[:2]
        chroma = np.stack([planes[i][::2, ::2] for i in order], axis=2).reshape(height // 2, width)
        rows = np.concatenate([planes[0], chroma])

        picture = ImageDecoder().image(image_message(encoding, width, height, rows, padding))

        assert picture.colour == "rgb"
        np.testing.assert_allclose(picture.pixels.astype(int), rgb, atol=3)

    @pytest.mark.parametrize("encoding", LAYOUTS)
    def test_padded_rows_go_through_the_letterbox(self, encoding: str) -> None:
        pictures = [ImageDecoder().image(filled(encoding, padding=padding)) for padding in (0, 5)]
        inputs = [np.zeros((32, 32, 3), np.uint8) for _ in pictures]
        for picture, out in zip(pictures, inputs, strict=True):
            Letterbox(out)(picture.pixels, picture.colour)
        np.testing.assert_array_equal(inputs[0], inputs[1])

    @pytest.mark.parametrize("encoding", ["mono16", "bayer_rggb8", "uyvy", "nv12"])
    def test_conversions_reuse_one_buffer(self, encoding: str) -> None:
        decoder = ImageDecoder()
        first = decoder.image(filled(encoding)).pixels
        assert np.shares_memory(decoder.image(filled(encoding)).pixels, first)

    def test_a_decoder_follows_changes_of_size_and_encoding(self) -> None:
        decoder = ImageDecoder()
        for encoding, width, height in [("nv12", 8, 6), ("mono16", 4, 4), ("uyvy", 4, 4)]:
            message = filled(encoding, width, height)
            np.testing.assert_array_equal(
                decoder.image(message).pixels, ImageDecoder().image(message).pixels
            )

    def test_read_only_data_is_accepted(self) -> None:
        message = SimpleNamespace(
            encoding="uyvy", width=2, height=1, step=4, is_bigendian=0, data=b"\x80\x10\x80\xeb"
        )
        pixels = ImageDecoder().image(message).pixels
        np.testing.assert_array_equal(pixels, [[[0, 0, 0], [255, 255, 255]]])


class TestRefusal:
    @pytest.mark.parametrize(
        ("fields", "kind", "said"),
        [
            ({"encoding": "bgr9"}, "encoding", "bgr8, rgb8"),
            ({"encoding": ""}, "encoding", "not supported"),
            ({"encoding": "16UC1"}, "encoding", "distances"),
            ({"encoding": "32FC1"}, "encoding", "distances"),
            ({"encoding": "16SC1"}, "encoding", "not supported"),
            ({"encoding": "x" * 10_000}, "encoding", "'xxxx"),
            ({"width": 0}, "size", "0 x 6"),
            ({"height": 0}, "size", "8 x 0"),
            ({"width": 2**31, "height": 2**31, "step": 2**32 - 1}, "size", str(MAX_PIXELS)),
            ({"step": 0}, "size", "at least 24"),
            ({"step": 23}, "size", "at least 24"),
            ({"step": 25}, "truncated", "150"),
            ({"data": b""}, "truncated", "0 bytes"),
            ({"data": bytes(143)}, "truncated", "143 bytes"),
            ({"encoding": "bayer_rggb8", "height": 2}, "size", "at least 3 pixels"),
            ({"encoding": "uyvy", "width": 7}, "size", "even width"),
            ({"encoding": "nv12", "width": 7}, "size", "even width and height"),
            ({"encoding": "nv21", "height": 5}, "size", "even width and height"),
            ({"encoding": "nv12", "step": 24, "data": bytes(24 * 9 - 1)}, "truncated", "216"),
        ],
    )
    def test_one_sentence_and_a_kind(self, fields: dict[str, Any], kind: str, said: str) -> None:
        message = filled("bgr8")
        for name, value in fields.items():
            setattr(message, name, bytes_of(value) if name == "data" else value)
        with pytest.raises(ImageError, match=said) as caught:
            ImageDecoder().image(message)
        assert caught.value.kind == kind
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400

    @given(
        encoding=st.one_of(st.sampled_from(sorted(LAYOUTS)), st.text(max_size=12)),
        width=st.one_of(st.integers(0, 12), st.integers(0, 2**32 - 1)),
        height=st.one_of(st.integers(0, 12), st.integers(0, 2**32 - 1)),
        step=st.one_of(st.integers(0, 60), st.integers(0, 2**32 - 1)),
        big_endian=st.integers(0, 255),
        data=st.binary(max_size=2_000),
    )
    @settings(max_examples=400, deadline=None)
    def test_no_image_message_raises_anything_else(
        self, encoding: str, width: int, height: int, step: int, big_endian: int, data: bytes
    ) -> None:
        message = Image()
        message.encoding, message.width, message.height = encoding, width, height
        message.step, message.is_bigendian, message.data = step, big_endian, bytes_of(data)
        try:
            picture = ImageDecoder().image(message)
        except ImageError:
            return
        assert picture.pixels.shape[:2] == (height, width)

    @pytest.mark.parametrize("fields", [{}, {"width": None}, {"data": [1, 2, 3]}, {"encoding": []}])
    def test_objects_that_are_no_message_are_refused(self, fields: dict[str, Any]) -> None:
        look_alike = SimpleNamespace(
            **({"encoding": "mono8", "width": 1, "height": 1, "step": 1} | fields)
        )
        decoder = ImageDecoder()
        for decode in (decoder.image, decoder.compressed):
            with pytest.raises(ImageError) as caught:
                decode(look_alike)
            assert caught.value.kind == "malformed"


class TestCompressed:
    @pytest.mark.parametrize(("channels", "colour"), [(1, "grey"), (3, "bgr"), (4, "bgra")])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_png_is_exact(self, channels: int, colour: str, dtype: type) -> None:
        top = np.iinfo(dtype).max
        pixels = np.random.default_rng(1).integers(0, top, (9, 7, channels), dtype, endpoint=True)

        format_ = "mono16; png compressed mono16" if channels == 1 else "png"
        message = compressed_message(encoded(".png", pixels), format_)
        picture = ImageDecoder(mono16_bits=16).compressed(message)

        assert picture.colour == colour
        assert picture.pixels.dtype == np.uint8
        shown = picture.pixels.reshape(pixels.shape)
        np.testing.assert_allclose(shown, pixels / (257 if dtype is np.uint16 else 1), atol=1)

    @pytest.mark.parametrize("format_", ["jpeg", "jpg", "", "bgr8; jpeg compressed bgr8"])
    def test_jpeg_is_close(self, format_: str) -> None:
        pixels = smooth(20, 30)
        picture = ImageDecoder().compressed(compressed_message(encoded(".jpg", pixels), format_))
        assert picture.colour == "bgr"
        np.testing.assert_allclose(picture.pixels.astype(int), pixels, atol=12)

    def test_grey_jpeg_stays_grey(self) -> None:
        pixels = smooth(20, 30)[..., 0]
        message = compressed_message(encoded(".jpg", pixels), "mono8; jpeg compressed mono8")
        picture = ImageDecoder().compressed(message)
        assert picture.colour == "grey"
        np.testing.assert_allclose(picture.pixels.astype(int), pixels, atol=4)

    @pytest.mark.parametrize("pattern", BAYER)
    def test_png_of_a_mosaic_becomes_colour(self, pattern: str) -> None:
        message = filled(pattern)
        mosaic = np.frombuffer(message.data, np.uint8).reshape(6, 8)
        file = compressed_message(encoded(".png", mosaic), f"{pattern}; png compressed ")
        picture = ImageDecoder().compressed(file)
        assert picture.colour == "rgb"
        np.testing.assert_array_equal(picture.pixels, ImageDecoder().image(message).pixels)

    @pytest.mark.parametrize("extension", [".jpg", ".png"])
    def test_files_cut_anywhere_are_refused(self, extension: str) -> None:
        file = encoded(extension, smooth(16, 16))
        decoder = ImageDecoder()
        for length in range(len(file)):
            with pytest.raises(ImageError) as caught:
                decoder.compressed(compressed_message(file[:length]))
            assert caught.value.kind in ("truncated", "compressed")

    def test_a_thumbnail_in_a_jpeg_is_not_taken_for_the_image(self) -> None:
        file, thumbnail = encoded(".jpg", smooth(16, 24)), encoded(".jpg", smooth(8, 8))
        segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
        whole = file[:2] + segment + file[2:]
        decoder = ImageDecoder()
        assert decoder.compressed(compressed_message(whole)).pixels.shape == (16, 24, 3)
        with pytest.raises(ImageError) as caught:
            decoder.compressed(compressed_message(whole[:-2]))
        assert caught.value.kind == "truncated"

    def test_bytes_after_a_jpeg_do_not_matter(self) -> None:
        message = compressed_message(encoded(".jpg", smooth(16, 24)) + bytes(100))
        assert ImageDecoder().compressed(message).pixels.shape == (16, 24, 3)

    @pytest.mark.parametrize("extension", [".jpg", ".png"])
    def test_absurd_sizes_are_refused_before_decoding(
        self, extension: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = encoded(extension, smooth(16, 24))
        honest, absurd = {
            ".jpg": ((16).to_bytes(2, "big") + (24).to_bytes(2, "big"), b"\xff\xf0\xff\xf0"),
            ".png": ((24).to_bytes(4, "big") + (16).to_bytes(4, "big"), b"\x00\x01\x00\x00" * 2),
        }[extension]
        assert file.count(honest) == 1

        def imdecode(*_: object) -> None:
            pytest.fail("an absurd image was decoded")

        monkeypatch.setattr(cv2, "imdecode", imdecode)
        with pytest.raises(ImageError) as caught:
            ImageDecoder().compressed(compressed_message(file.replace(honest, absurd)))
        assert caught.value.kind == "size"

    @pytest.mark.parametrize(
        ("data", "format_", "said"),
        [
            (encoded(".png", np.zeros((4, 4), np.uint16)), "16UC1; compressedDepth png", "Depth"),
            (b"RIFF....WEBP", "webp", "'webp'"),
            (b"\x00\x00\x00\x01gB", "h264", "'h264'"),
            (b"", "", "neither JPEG nor PNG"),
        ],
    )
    def test_other_formats_are_refused(self, data: bytes, format_: str, said: str) -> None:
        with pytest.raises(ImageError, match=said) as caught:
            ImageDecoder().compressed(compressed_message(data, format_))
        assert caught.value.kind == "compressed"

    @pytest.mark.parametrize(
        ("format_", "dtype"),
        [
            ("16UC1; png compressed ", np.uint16),
            ("32FC1; png compressed ", np.uint8),
            ("16SC1; png compressed ", np.uint16),
            ("16UC1; jpeg compressed ", np.uint8),
            ("png", np.uint16),
            ("", np.uint16),
            ("mono8; png compressed mono8", np.uint16),
            ("bayer_rggb8; png compressed ", np.uint16),
        ],
    )
    def test_distances_are_refused_as_in_raw_images(self, format_: str, dtype: type) -> None:
        extension = ".jpg" if "jpeg" in format_ else ".png"
        file = encoded(extension, np.full((4, 4), 200, dtype))
        with pytest.raises(ImageError) as caught:
            ImageDecoder().compressed(compressed_message(file, format_))
        assert caught.value.kind == "encoding"

    @pytest.mark.parametrize("format_", ["8UC3; jpeg compressed bgr8", "rgb16; png compressed "])
    def test_colours_are_taken_whatever_their_encoding_is_called(self, format_: str) -> None:
        message = compressed_message(encoded(".jpg", smooth(20, 30)), format_)
        assert ImageDecoder().compressed(message).colour == "bgr"


class CvBridgeDouble:
    """Stands in for cv_bridge.CvBridge: what its documentation promises, nothing more."""

    def imgmsg_to_cv2(self, message: Any, encoding: str) -> NDArray[np.uint8]:
        assert encoding == "bgr8"
        if message.encoding != "rgb8":
            raise RuntimeError(f"[{message.encoding}] is not a color format.\nBut [bgr8] is.")
        rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
        return rows.reshape(message.height, message.width, 3)[..., ::-1]

    def compressed_imgmsg_to_cv2(self, message: Any, encoding: str) -> NDArray[np.uint8] | None:
        assert encoding == "bgr8"
        self.given = bytes(message.data)
        return cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)


class TestCvBridge:
    @pytest.fixture()
    def decoder(self, monkeypatch: pytest.MonkeyPatch) -> CvBridgeDecoder:
        module = ModuleType("cv_bridge")
        module.CvBridge = CvBridgeDouble  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cv_bridge", module)
        return CvBridgeDecoder()

    def test_pictures_are_bgr(self, decoder: CvBridgeDecoder) -> None:
        message = filled("rgb8")
        picture = decoder.image(message)
        assert picture.colour == "bgr"
        np.testing.assert_array_equal(
            picture.pixels[..., ::-1], ImageDecoder().image(message).pixels
        )
        content = encoded(".png", picture.pixels)
        for tail in (b"", b"what follows the end"):
            file = compressed_message(content + tail, "png")
            np.testing.assert_array_equal(decoder.compressed(file).pixels, picture.pixels)
            assert decoder._bridge.given == content

    def test_what_it_cannot_convert_is_an_image_error(self, decoder: CvBridgeDecoder) -> None:
        with pytest.raises(ImageError, match="is not a color format") as caught:
            decoder.image(filled("nv12"))
        assert caught.value.kind == "encoding"
        assert "\n" not in str(caught.value)
        good = encoded(".png", smooth(8, 8))
        broken = good[:-20] + bytes(4) + good[-16:]  # another checksum of its pixels
        for damaged in (b"no image", b"", broken):
            with pytest.raises(ImageError) as caught:
                decoder.compressed(compressed_message(damaged))
            assert caught.value.kind == "compressed"

    def test_it_gets_no_file_that_the_own_decoder_would_refuse(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(CvBridgeDouble, "compressed_imgmsg_to_cv2", pytest.fail)
        monkeypatch.setattr(CvBridgeDouble, "imgmsg_to_cv2", pytest.fail)
        module = ModuleType("cv_bridge")
        module.CvBridge = CvBridgeDouble  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cv_bridge", module)
        strict = CvBridgeDecoder(FileLimits(megabytes=1))
        large = encoded(".png", np.zeros((600, 600, 3), np.uint8))
        depth = encoded(".png", np.zeros((4, 4), np.uint16))
        for file in (large, depth, large[:-20]):
            with pytest.raises(ImageError):
                strict.compressed(compressed_message(file))
        with pytest.raises(ImageError, match="distances"):
            strict.image(SimpleNamespace(encoding="16UC1"))

    def test_its_absence_is_said_with_the_remedy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cv_bridge", None)
        with pytest.raises(ModuleNotFoundError, match="install ros-.*-cv-bridge"):
            CvBridgeDecoder()


def test_the_decoders_share_one_interface() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(ImageDecoder) == public(CvBridgeDecoder) == {"image", "compressed"}
    assert DecodedImage._fields == ("pixels", "colour", "reduction", "file")
