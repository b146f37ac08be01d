# SPDX-License-Identifier: Apache-2.0
"""Decode image messages to 8-bit pixels, without a copy where the encoding allows."""

from __future__ import annotations

import struct
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.letterbox import Colour

MAX_PIXELS = 2**26
"""Largest image accepted (8192 x 8192): a small file can claim to hold gigabytes of pixels."""

ErrorKind = Literal["encoding", "size", "truncated", "compressed", "malformed"]


class ImageError(ValueError):
    """A message that holds no usable image.

    Attributes:
        kind: stable name of the failure, for counters and for logging each kind once.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        """Take the kind and one sentence: what is wrong and what to do."""
        super().__init__(message)
        self.kind = kind


class DecodedImage(NamedTuple):
    """The pixels of a camera's image.

    Attributes:
        pixels: (H, W, 3), (H, W, 4) or (H, W) uint8.
        colour: order of the channels, see ``letterbox.Colour``.
    """

    pixels: NDArray[np.uint8]
    colour: Colour


_TO_BGR: dict[str, int] = {
    "rgb": cv2.COLOR_RGB2BGR,
    "bgra": cv2.COLOR_BGRA2BGR,
    "rgba": cv2.COLOR_RGBA2BGR,
    "grey": cv2.COLOR_GRAY2BGR,
}


def bgr_copy(image: DecodedImage) -> NDArray[np.uint8]:
    """Return a copy (H, W, 3) uint8 BGR to draw in."""
    pixels, colour = image
    copy = pixels.copy() if colour == "bgr" else cv2.cvtColor(pixels, _TO_BGR[colour])
    return np.ascontiguousarray(copy, np.uint8)


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


class ImageDecoder:
    """Decodes the images of one camera.

    Pixels are a view of the message where its encoding allows. Converted pixels (Bayer, YUV,
    16 bit) are in a buffer of the decoder, valid until its next call. Use it in one thread at a
    time.
    """

    def __init__(self) -> None:
        """Start without a buffer: the first image that needs one decides its size."""
        self._scratch: NDArray[np.uint8] | None = None

    def image(self, message: Any) -> DecodedImage:
        """Decode a sensor_msgs/Image.

        The rows of nv12 and nv21 are ``step`` bytes apart in both planes; ``height`` counts luma
        rows. YUV is BT.601 with limited range, as cameras send it.

        Raises:
            ImageError: the encoding is unknown, or the fields do not describe an image.
        """
        try:
            return self._image(message)
        except ImageError:
            raise
        except Exception as error:  # a message may hold anything, and the node must keep running
            raise _malformed("Image", error) from error

    def compressed(self, message: Any) -> DecodedImage:
        """Decode a sensor_msgs/CompressedImage that holds a JPEG or PNG file.

        Raises:
            ImageError: the data has another format, is damaged, is incomplete or is too large.
        """
        try:
            return self._compressed(message)
        except ImageError:
            raise
        except Exception as error:  # a message may hold anything, and the node must keep running
            raise _malformed("CompressedImage", error) from error

    def _image(self, message: Any) -> DecodedImage:
        layout = LAYOUTS.get(message.encoding)
        if layout is None:
            raise ImageError(
                "encoding",
                f"image encoding {_quote(message.encoding)} is not supported:"
                f" publish one of {', '.join(LAYOUTS)}",
            )
        view = _view(message, layout)
        if message.encoding == "mono16":
            high_byte = 0 if message.is_bigendian else 1
            self._scratch = cv2.extractChannel(view, high_byte, self._scratch)
        elif layout.conversion is not None:
            self._scratch = cv2.cvtColor(view, layout.conversion, self._scratch)
        else:
            return DecodedImage(view, layout.colour)
        return DecodedImage(self._scratch, layout.colour)

    def _compressed(self, message: Any) -> DecodedImage:
        data = memoryview(
            message.data
        ).tobytes()  # cheap compared with decoding; bytes can be searched
        _check_file(data, message.format)
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            raise ImageError(
                "compressed", "the compressed image is damaged: check the camera and its driver"
            )
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        if pixels.ndim == 3:
            return DecodedImage(pixels, "bgra" if pixels.shape[2] == 4 else "bgr")
        mosaic = message.format.split(";")[0]
        if data.startswith(PNG) and mosaic in BAYER:
            # image_transport's PNG of a Bayer image holds the bare mosaic, its JPEG a grey image.
            _check_size(pixels.shape[1], pixels.shape[0], LAYOUTS[mosaic])
            return DecodedImage(cv2.cvtColor(pixels, BAYER[mosaic]), "rgb")
        return DecodedImage(pixels, "grey")


def _view(message: Any, layout: Layout) -> NDArray[np.uint8]:
    """View the message's data as rows of pixels, without the padding of each row."""
    width, height, step = message.width, message.height, message.step
    _check_size(width, height, layout)
    if step < width * layout.pixel_bytes:
        raise ImageError(
            "size",
            f"step {step} is too small for {width} pixels of {message.encoding}: the driver must"
            f" set it to the bytes in a row, at least {width * layout.pixel_bytes}",
        )
    rows = height + layout.chroma_rows * (height // 2)
    data = memoryview(message.data)
    if data.nbytes < rows * step:
        raise ImageError(
            "truncated",
            f"the image has {data.nbytes} bytes, but {width} x {height} {message.encoding} with"
            f" step {step} has {rows * step}: check the driver and the transport",
        )
    if layout.pixel_bytes == 1:
        return np.ndarray((rows, width), np.uint8, data, 0, (step, 1))
    shape, strides = (rows, width, layout.pixel_bytes), (step, layout.pixel_bytes, 1)
    return np.ndarray(shape, np.uint8, data, 0, strides)


def _check_size(width: int, height: int, layout: Layout = LAYOUTS["mono8"]) -> None:
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


PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"


def _check_file(data: bytes, format_: str) -> None:
    """Raise ImageError, before decoding, unless this is a complete JPEG or PNG of a usable size."""
    if "compressedDepth" in format_:
        raise ImageError(
            "compressed",
            "compressedDepth holds distances, not colours: subscribe to a colour image",
        )
    if data.startswith(PNG):
        width, height = _png_size(data)
    elif data.startswith(JPEG):
        width, height = _jpeg_size(data)
    else:
        raise ImageError(
            "compressed",
            f"the compressed image (format {_quote(format_)}) is neither JPEG nor PNG:"
            " set the publisher to one of these",
        )
    _check_size(width, height)


def _png_size(data: bytes) -> tuple[int, int]:
    """Width and height from the header of a PNG file, if no chunk is missing (ISO 15948)."""
    position = len(PNG)
    # The decoder allocates the length a chunk claims, so no chunk may claim more than there is.
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        if data[position + 4 : position + 8] == b"IEND":
            width, height = struct.unpack_from(">II", data, 16)
            return width, height
        position += 12 + length
    raise _truncated("PNG", data)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height from the frame header of a JPEG file (ITU-T T.81, annex B)."""
    position = data.find(b"\xff", 2)
    while 0 <= position <= len(data) - 9:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            # An end-of-image marker cannot occur inside coded data. Without it the decoder would
            # paint the missing part grey.
            if data.rfind(b"\xff\xd9", position) < 0:
                break
            height, width = struct.unpack_from(">HH", data, position + 5)
            return width, height
        (length,) = struct.unpack_from(">H", data, position + 2)
        position = data.find(b"\xff", position + 2 + length)
    raise _truncated("JPEG", data)


def _truncated(name: str, data: bytes) -> ImageError:
    return ImageError(
        "truncated",
        f"the {name} image of {len(data)} bytes is incomplete: check the camera and the transport",
    )


def _malformed(name: str, error: Exception) -> ImageError:
    return ImageError(
        "malformed",
        f"the {name} message cannot be read ({type(error).__name__}): check its publisher",
    )


def _quote(text: object) -> str:
    quoted = repr(text)
    return quoted if len(quoted) <= 42 else quoted[:40] + "...'"
