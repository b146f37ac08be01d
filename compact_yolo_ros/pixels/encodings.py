# SPDX-License-Identifier: Apache-2.0
"""The encodings of image messages: how each stores its pixels, and which show colours at all."""

from __future__ import annotations

import re
from typing import NamedTuple

import cv2

from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.letterbox import Colour

MAX_PIXELS = 2**26
"""Largest image accepted (8192 x 8192): a small file can claim to hold gigabytes of pixels."""


class Layout(NamedTuple):
    """How an encoding stores its pixels, and how they become a ``DecodedImage``.

    Attributes:
        colour: channel order of the decoded image.
        pixel_bytes: bytes of one pixel in a row of the message.
        conversion: OpenCV's colour conversion; None if the bytes are the pixels.
        block: columns and rows that share one chroma sample; width and height are multiples.
        smallest: shortest side in pixels that can be decoded.
    """

    colour: Colour
    pixel_bytes: int
    conversion: int | None = None
    block: tuple[int, int] = (1, 1)
    smallest: int = 1

    @property
    def chroma_rows(self) -> int:
        """Rows of interleaved chroma below the image, per two rows of the image."""
        return self.block[1] - 1


# OpenCV names a Bayer pattern after its second row and column, ROS after the first: RGGB is "BG".
BAYER: dict[str, int] = {
    "bayer_rggb8": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr8": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
}
SMALLEST_MOSAIC = 3
"""Shortest side in pixels of a Bayer image: OpenCV leaves smaller ones black."""

# yuv422 and yuv422_yuy2 are the older names of uyvy and yuyv. 16UC1 is missing on purpose: it is
# the encoding of depth images in millimetres (REP 118), which do not show colours.
LAYOUTS: dict[str, Layout] = {
    "bgr8": Layout("bgr", 3),
    "rgb8": Layout("rgb", 3),
    "bgra8": Layout("bgra", 4),
    "rgba8": Layout("rgba", 4),
    "mono8": Layout("grey", 1),
    "mono16": Layout("grey", 2),
    "8UC1": Layout("grey", 1),
    "8UC3": Layout("bgr", 3),
    "8UC4": Layout("bgra", 4),
    **{
        name: Layout("rgb", 1, conversion, smallest=SMALLEST_MOSAIC)
        for name, conversion in BAYER.items()
    },
    "uyvy": Layout("rgb", 2, cv2.COLOR_YUV2RGB_UYVY, block=(2, 1)),
    "yuv422": Layout("rgb", 2, cv2.COLOR_YUV2RGB_UYVY, block=(2, 1)),
    "yuyv": Layout("rgb", 2, cv2.COLOR_YUV2RGB_YUYV, block=(2, 1)),
    "yuv422_yuy2": Layout("rgb", 2, cv2.COLOR_YUV2RGB_YUYV, block=(2, 1)),
    "nv12": Layout("rgb", 1, cv2.COLOR_YUV2RGB_NV12, block=(2, 2)),
    "nv21": Layout("rgb", 1, cv2.COLOR_YUV2RGB_NV21, block=(2, 2)),
}
"""Encodings of sensor_msgs/Image that can be decoded."""

DISTANCES = frozenset({"16UC1", "32FC1"})
"""Encodings of depth images (REP 118)."""
_MATRIX = re.compile(r"(8|16|32|64)[USF]C\d*")
"""Encodings that name only the type of a number."""


def layout_of(encoding: str) -> Layout:
    """Return how an encoding stores its pixels.

    Raises:
        ImageError: it cannot be decoded, or shows no colours.
    """
    layout = LAYOUTS.get(encoding)
    if layout is None:
        raise _unusable(encoding)
    return layout


def check_shows_colours(encoding: str) -> None:
    """Raise ImageError for an encoding of distances or other numbers.

    The file of a compressed image says how it stores its pixels, so that encodings without a layout
    are no obstacle.
    """
    if _MATRIX.fullmatch(encoding) and encoding not in LAYOUTS:
        raise _unusable(encoding)


def _unusable(encoding: str) -> ImageError:
    if encoding in DISTANCES:
        return ImageError(
            "encoding",
            f"image encoding {encoding} holds distances, not colours: subscribe to a colour image;"
            " a grey or thermal camera must publish mono16",
        )
    return ImageError(
        "encoding",
        f"image encoding {quote(encoding)} is not supported: publish one of {', '.join(LAYOUTS)}",
    )


def check_size(width: int, height: int, layout: Layout = LAYOUTS["mono8"]) -> None:
    """Raise ImageError unless an image of ``width`` x ``height`` pixels can be decoded."""
    columns, rows = layout.block
    if min(width, height) < layout.smallest:
        problem = f"each side needs at least {layout.smallest} pixels"
    elif width * height > MAX_PIXELS:
        problem = f"at most {MAX_PIXELS} pixels are accepted"
    elif width % columns or height % rows:
        problem = "this encoding needs an even " + ("width and height" if rows > 1 else "width")
    else:
        return
    raise ImageError("size", f"an image of {width} x {height} pixels cannot be used: {problem}")


def quote(text: object) -> str:
    """A text from a message, cut to a length that fits a sentence."""
    quoted = repr(text)
    return quoted if len(quoted) <= 42 else quoted[:40] + "...'"
