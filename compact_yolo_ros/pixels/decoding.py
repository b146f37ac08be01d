# SPDX-License-Identifier: Apache-2.0
"""Decode image messages to 8-bit pixels, without a copy where the encoding allows."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.compressed_file import CompressedFile, check_file
from compact_yolo_ros.pixels.encodings import BAYER, LAYOUTS, Layout, check_size, layout_of
from compact_yolo_ros.pixels.file_limits import USUAL_LIMITS, FileHeader, FileLimits
from compact_yolo_ros.pixels.grey_levels import to_8_bits
from compact_yolo_ros.pixels.image_error import ImageError, damaged, incomplete
from compact_yolo_ros.pixels.jpeg_pixels import (
    WHOLE,
    JpegPixels,
    Size,
    Window,
    decode,
    reduction_to,
)
from compact_yolo_ros.pixels.letterbox import Colour
from compact_yolo_ros.pixels.mono16_bits import STRETCH
from compact_yolo_ros.pixels.torn_jpeg import TornJpegs

UNDECODABLE = "its pixels cannot be decoded"


class DecodedImage(NamedTuple):
    """The pixels of a camera's image, or fewer.

    Attributes:
        pixels: (H, W, 3), (H, W, 4) or (H, W) uint8.
        colour: order of the channels, see ``letterbox.Colour``.
        reduction: pixels of the camera's image, along a side, that are one pixel here.
        file: what all of them can be decoded from; None where they are here.
    """

    pixels: NDArray[np.uint8]
    colour: Colour
    reduction: int = WHOLE
    file: JpegPixels | None = None

    @property
    def size(self) -> Size:
        """Width and height of the camera's image in pixels."""
        if self.file is not None:
            return self.file.size
        return self.pixels.shape[1] * self.reduction, self.pixels.shape[0] * self.reduction

    def part(self, area: tuple[int, int, int, int]) -> tuple[DecodedImage, int, int]:
        """A view of a rectangle of it, and where that begins.

        Args:
            area: x, y, width and height in pixels of the camera's image.

        Returns:
            What shows the rectangle, and where its top left corner lies in the camera's image: an
            image that was decoded smaller shows up to ``reduction`` - 1 pixels more at each edge.
        """
        x, y, width, height = area
        by = self.reduction
        left, top, right, bottom = x // by, y // by, -(-(x + width) // by), -(-(y + height) // by)
        pixels = self.pixels[top:bottom, left:right]
        return DecodedImage(pixels, self.colour, by), left * by, top * by

    def at_least(self, longest: int) -> DecodedImage:
        """The image with so many pixels along its longer side, or all it has; 0: all."""
        if self.file is None:
            return self
        side = max(self.size)
        needed = longest or side
        reduction = reduction_to((needed, needed), (side, side))
        pixels = self.file.decode(reduction) if reduction < self.reduction else None
        return self if pixels is None else _decoded(pixels, self.colour, reduction, self.file)


_TO_BGR: dict[str, int] = {
    "rgb": cv2.COLOR_RGB2BGR,
    "bgra": cv2.COLOR_BGRA2BGR,
    "rgba": cv2.COLOR_RGBA2BGR,
    "grey": cv2.COLOR_GRAY2BGR,
}


def bgr_copy(image: DecodedImage) -> NDArray[np.uint8]:
    """Return a copy (H, W, 3) uint8 BGR of the pixels to draw in."""
    pixels, colour = image.pixels, image.colour
    copy = pixels.copy() if colour == "bgr" else cv2.cvtColor(pixels, _TO_BGR[colour])
    return np.ascontiguousarray(copy, np.uint8)


class ImageDecoder:
    """Decodes the images of one camera.

    Pixels are a view of the message where its encoding allows. Converted pixels (Bayer, YUV,
    16 bit) are in a buffer of the decoder, valid until its next call. Use it in one thread at a
    time.
    """

    def __init__(self, limits: FileLimits = USUAL_LIMITS, mono16_bits: int = STRETCH) -> None:
        """Start without a buffer: the first image that needs one decides its size.

        Args:
            limits: what a compressed image may demand.
            mono16_bits: significant bits of 16-bit grey images, see ``to_8_bits``.
        """
        self._limits = limits
        self._mono16_bits = mono16_bits
        self._scratch: NDArray[np.uint8] | None = None
        self._torn = TornJpegs()

    def image(self, message: Any, window: Window | None = None) -> DecodedImage:
        """Decode a sensor_msgs/Image, with all pixels.

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

    def compressed(self, message: Any, window: Window | None = None) -> DecodedImage:
        """Decode a sensor_msgs/CompressedImage that holds a JPEG or PNG file.

        Args:
            message: the message.
            window: how many pixels are needed: a JPEG that has twice as many along each side, or
                more, is decoded at a half, a quarter or an eighth of its size. None: all.

        Raises:
            ImageError: the data has another format, is damaged, is incomplete, demands too much or
                shows no colours.
        """
        try:
            return self._compressed(message, window)
        except ImageError:
            raise
        except Exception as error:  # a message may hold anything, and the node must keep running
            raise _malformed("CompressedImage", error) from error

    def _image(self, message: Any) -> DecodedImage:
        layout = layout_of(message.encoding)
        view = _view(message, layout)
        if message.encoding == "mono16":
            order = ">u2" if message.is_bigendian else "<u2"
            values = np.ascontiguousarray(view).view(order)[..., 0].astype(np.uint16, copy=False)
            self._scratch = to_8_bits(values, self._mono16_bits, self._scratch)
        elif layout.conversion is not None:
            self._scratch = cv2.cvtColor(view, layout.conversion, self._scratch)
        else:
            return DecodedImage(view, layout.colour)
        return DecodedImage(self._scratch, layout.colour)

    def _compressed(self, message: Any, window: Window | None) -> DecodedImage:
        data = memoryview(message.data).tobytes()  # cheap; bytes can be searched
        file = check_file(data, message.format, self._limits)
        if file.header.has_blocks:
            return self._jpeg(data, file.header, window)
        pixels = _decode(data, file)
        if pixels.dtype == np.uint16:
            pixels = (
                to_8_bits(pixels, self._mono16_bits)
                if pixels.ndim == 2
                else np.ascontiguousarray(pixels.view(np.uint8)[..., 1::2])
            )
        if pixels.ndim == 3:
            return DecodedImage(pixels, "bgra" if pixels.shape[2] == 4 else "bgr")
        if file.kind == "PNG" and file.encoding in BAYER:
            # image_transport's PNG of a Bayer image holds the bare mosaic, its JPEG a grey image.
            check_size(pixels.shape[1], pixels.shape[0], LAYOUTS[file.encoding])
            return DecodedImage(cv2.cvtColor(pixels, BAYER[file.encoding]), "rgb")
        return DecodedImage(pixels, "grey")

    def _jpeg(self, data: bytes, header: FileHeader, window: Window | None) -> DecodedImage:
        """Decode a checked JPEG; refuse it if its coded pixels are not those of one image."""
        size = header.width, header.height
        # Only what was checked: a decoder may read on behind the end.
        file = JpegPixels(data[: header.length], size, header.channels == 1)
        reduction = WHOLE if window is None else reduction_to(window(size), size)
        pixels = file.decode(reduction)
        if pixels is None:
            raise damaged("JPEG", UNDECODABLE)
        if header.scan_end and self._torn.is_torn(file, header.scan_end, pixels, reduction):
            raise incomplete("JPEG", data, "it has fewer or more pixels than its size says")
        return _decoded(pixels, "bgr" if pixels.ndim == 3 else "grey", reduction, file)


def _decoded(
    pixels: NDArray[np.uint8], colour: Colour, reduction: int, file: JpegPixels
) -> DecodedImage:
    return DecodedImage(pixels, colour, reduction, None if reduction == WHOLE else file)


def _decode(data: bytes, file: CompressedFile) -> NDArray[Any]:
    """Decode a checked file."""
    header = file.header
    pixels = decode(data[: header.length])  # as above
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        raise damaged(file.kind, UNDECODABLE)
    return pixels


def _view(message: Any, layout: Layout) -> NDArray[np.uint8]:
    """View the message's data as rows of pixels, without the padding of each row."""
    width, height, step = message.width, message.height, message.step
    check_size(width, height, layout)
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


def _malformed(name: str, error: Exception) -> ImageError:
    return ImageError(
        "malformed",
        f"the {name} message cannot be read ({type(error).__name__}): check its publisher",
    )
