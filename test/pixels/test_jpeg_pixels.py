# SPDX-License-Identifier: Apache-2.0
"""JPEG files decoded at a fraction of their size, where no more pixels are needed."""

from __future__ import annotations

import io
from array import array
from types import SimpleNamespace
from typing import Any

import cv2
import hostile_images as files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from compact_yolo_ros.pixels.decoding import DecodedImage, ImageDecoder
from compact_yolo_ros.pixels.file_limits import USUAL_LIMITS
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.jpeg import jpeg_header
from compact_yolo_ros.pixels.jpeg_pixels import Window, reduction_to
from compact_yolo_ros.pixels.letterbox import Placement

REDUCTIONS = [2, 4, 8]
SCENE = cv2.GaussianBlur(files.landscape(1, height=251, width=333), (0, 0), 1.5)
KINDS = {
    "usual": files.jpeg(SCENE),
    "grey": files.jpeg(SCENE[..., 1]),
    "progressive": files.jpeg(SCENE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "restarts": files.jpeg(SCENE, cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
    "4:4:4": files.pillow(SCENE, "JPEG", subsampling=0),
    "4:2:2": files.pillow(SCENE, "JPEG", subsampling=1),
    "CMYK": files.pillow(SCENE, "JPEG", "CMYK"),
}


def message(data: bytes, format_: str = "jpeg") -> Any:
    return SimpleNamespace(format=format_, data=array("B", data))


def part(reduction: int) -> Window:
    """Needs as many pixels as a reduction leaves."""
    return lambda size: (size[0] // reduction, size[1] // reduction)


def decode(data: bytes, reduction: int = 1) -> DecodedImage:
    return ImageDecoder().compressed(message(data), part(reduction))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_fewer_pixels_show_the_same_picture(kind: str, reduction: int) -> None:
    """The reference is the mean of the pixels that become one; those at the edges are a rest.

    Of 4:2:2 only the brightness is compared: its colours keep half the columns at every size.
    """
    whole, small = decode(KINDS[kind]), decode(KINDS[kind], reduction)
    assert (whole.reduction, small.reduction) == (1, reduction)
    assert whole.size == small.size == (333, 251)
    assert small.colour == whole.colour
    assert small.pixels.shape[:2] == (-(-251 // reduction), -(-333 // reduction))
    assert small.pixels.ndim == whole.pixels.ndim
    height, width = 251 // reduction, 333 // reduction
    inner = whole.pixels[: height * reduction, : width * reduction]
    means = cv2.resize(inner, (width, height), interpolation=cv2.INTER_AREA)
    shown = small.pixels[:height, :width]
    if kind == "4:2:2":
        shown, means = (cv2.cvtColor(x, cv2.COLOR_BGR2GRAY) for x in (shown, means))
    difference = np.abs(shown.astype(int) - means)
    assert difference.mean() < 2
    assert difference.max() < 25


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_pixels_are_those_of_another_program(reduction: int) -> None:
    """Pillow asks libjpeg for the same reduction."""
    small = decode(KINDS["4:4:4"], reduction)
    with Image.open(io.BytesIO(KINDS["4:4:4"])) as picture:
        picture.draft("RGB", (333 // reduction, 251 // reduction))
        expected = np.asarray(picture)[..., ::-1].astype(int)
    assert expected.shape == small.pixels.shape
    assert np.abs(small.pixels - expected).max() <= 3


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_an_orientation_turns_nothing(reduction: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned = files.pillow(SCENE, "JPEG", exif=exif)
    plain = files.pillow(SCENE, "JPEG")
    np.testing.assert_array_equal(decode(turned, reduction).pixels, decode(plain, reduction).pixels)


@given(
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    target=st.sampled_from([(320, 320), (320, 192), (256, 320), (1280, 1280), (160, 160)]),
    resize=st.sampled_from(["letterbox", "stretch"]),
)
def test_never_fewer_pixels_than_the_network_sees(
    size: tuple[int, int], target: tuple[int, int], resize: Any
) -> None:
    placement = Placement.fit(size, target, resize)
    needed = (placement.width, placement.height)
    reduction = reduction_to(needed, size)
    assert reduction in (1, 2, 4, 8)
    if reduction > 1:
        assert size[0] >= reduction * needed[0]
        assert size[1] >= reduction * needed[1]
    if reduction < 8:
        assert size[0] < 2 * reduction * needed[0] or size[1] < 2 * reduction * needed[1]


@pytest.mark.parametrize(
    ("size", "target", "reduction"),
    [
        ((640, 480), (320, 320), 2),
        ((640, 480), (320, 256), 2),
        ((639, 480), (320, 320), 1),
        ((1280, 720), (320, 192), 4),
        ((1920, 1080), (320, 192), 4),
        ((1920, 1080), (1280, 736), 1),
        ((3840, 2160), (320, 320), 8),
        ((320, 240), (320, 320), 1),
        ((160, 120), (320, 320), 1),
    ],
)
def test_usual_cameras(size: Any, target: Any, reduction: int) -> None:
    placement = Placement.fit(size, target)
    assert reduction_to((placement.width, placement.height), size) == reduction


def test_other_files_and_raw_images_have_all_pixels() -> None:
    decoder = ImageDecoder()
    assert decoder.compressed(message(files.png(SCENE)), part(8)).pixels.shape == SCENE.shape
    raw = SimpleNamespace(
        width=333, height=251, step=999, encoding="bgr8", data=array("B", SCENE.tobytes())
    )
    assert decoder.image(raw, part(8)).pixels.shape == SCENE.shape


def test_a_lossless_jpeg_has_no_blocks() -> None:
    """ITU-T T.81, table B.1: the frame of a lossless JPEG is SOF3."""
    file = KINDS["usual"]
    assert jpeg_header(file, USUAL_LIMITS).has_blocks
    assert not jpeg_header(file.replace(b"\xff\xc0", b"\xff\xc3", 1), USUAL_LIMITS).has_blocks


class TestMorePixels:
    """Somebody looks at the picture."""

    FILE = files.jpeg(files.landscape(1, height=480, width=640))

    @pytest.mark.parametrize(
        ("longest", "shape"),
        [(0, (480, 640)), (640, (480, 640)), (320, (240, 320)), (200, (240, 320)), (60, (60, 80))],
    )
    def test_they_are_decoded_again(self, longest: int, shape: tuple[int, int]) -> None:
        image = decode(self.FILE, 8).at_least(longest)
        assert image.pixels.shape[:2] == shape
        assert image.size == (640, 480)
        np.testing.assert_array_equal(image.pixels, decode(self.FILE, image.reduction).pixels)

    def test_only_if_they_are_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        half, whole = decode(self.FILE, 2), decode(self.FILE)
        monkeypatch.setattr(cv2, "imdecode", pytest.fail)
        assert half.at_least(320) is half
        assert whole.at_least(0) is whole


class TestTorn:
    """As in the pictures with all pixels."""

    @staticmethod
    def refused(data: bytes, reduction: int) -> bool:
        try:
            decode(data, reduction)
        except ImageError as error:
            assert error.kind == "truncated"
            return True
        return False

    @pytest.mark.parametrize("reduction", REDUCTIONS)
    @pytest.mark.parametrize("at", [0.2, 0.5, 0.8])
    def test_the_rest_of_an_older_image_is_noticed(self, at: float, reduction: int) -> None:
        pictures = [files.landscape(seed, height=480, width=640) for seed in range(5)]
        whole = [files.jpeg(pixels) for pixels in pictures]
        torn = [
            new[: int(len(new) * at)] + old[int(len(new) * at) :]
            for new, old in zip(whole, whole[1:] + whole[:1], strict=True)
        ]
        assert sum(self.refused(data, reduction) for data in torn) >= 4

    @pytest.mark.parametrize("reduction", REDUCTIONS)
    @pytest.mark.parametrize("colour", [True, False])
    def test_an_early_end_is_noticed(self, colour: bool, reduction: int) -> None:
        picture = files.landscape(2)
        file = files.jpeg(picture if colour else picture[..., 1])
        start = file.rindex(b"\xff\xda") + 14
        for length in range(start, len(file) - 400, 997):
            assert self.refused(file[:length].removesuffix(b"\xff") + files.END, reduction)

    @pytest.mark.parametrize("reduction", REDUCTIONS)
    @pytest.mark.parametrize("edge", [None, 120, 128])
    def test_a_whole_image_with_a_sharp_edge_is_taken(
        self, edge: int | None, reduction: int
    ) -> None:
        """The last blocks have many bytes that fewer pixels do without."""
        picture = files.photo(240, 320)
        if edge:
            picture[:edge] //= 8
        assert not self.refused(files.jpeg(picture, cv2.IMWRITE_JPEG_QUALITY, 98), reduction)

    @pytest.mark.parametrize("reduction", REDUCTIONS)
    def test_an_image_of_a_few_pixels_is_taken(self, reduction: int) -> None:
        for height in range(1, 40, 3):
            picture: NDArray[np.uint8] = files.photo(height, 40)
            assert not self.refused(files.jpeg(picture), reduction)

    @pytest.mark.parametrize("reduction", [2, 4])
    def test_what_only_looks_torn_is_not_decoded_with_all_pixels(
        self, reduction: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        picture = files.landscape(1, height=480, width=640)
        picture[240:] //= 8
        file = files.jpeg(picture)
        real, flags = cv2.imdecode, []
        monkeypatch.setattr(cv2, "imdecode", lambda *args: (flags.append(args[1]), real(*args))[1])
        assert not self.refused(file, reduction)
        assert len(flags) == 2 and cv2.IMREAD_UNCHANGED not in flags
