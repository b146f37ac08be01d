# SPDX-License-Identifier: Apache-2.0
"""Depth images of image_transport's compressedDepth: a PNG file or RVL behind twelve bytes.

Source of the format and of ``a / (value - b)``: compressed_depth_image_transport, codec.cpp of
ros-perception/image_transport_plugins. The twelve bytes are the number of the format and, as
float32, a and b: metres (32FC1) are stored as 16-bit numbers of their inverse, millimetres (16UC1)
as they are. Zero is not known.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

from compact_yolo_ros.pixels.compressed_file import check_claims
from compact_yolo_ros.pixels.depth import Depth
from compact_yolo_ros.pixels.encodings import check_size, quote
from compact_yolo_ros.pixels.file_limits import USUAL_LIMITS, FileLimits
from compact_yolo_ros.pixels.image_error import ImageError, damaged, incomplete
from compact_yolo_ros.pixels.jpeg_pixels import decode
from compact_yolo_ros.pixels.png import PNG, png_header
from compact_yolo_ros.pixels.rvl import MOST_PIXELS, PIXEL_BYTES, decode_rvl

HEADER = struct.Struct("<iff")
RVL_SIZE = struct.Struct("<II")
METRES, MILLIMETRES = "32FC1", ("16UC1", "mono16")


class DepthFile(NamedTuple):
    """A compressed depth image, checked but not decoded.

    Attributes:
        header: of the message.
        width, height: in pixels.
        data: the PNG file or the RVL code.
        is_png: which of the two.
        quantisation: a and b of 32FC1; None for 16UC1.
    """

    header: Any
    width: int
    height: int
    data: memoryview
    is_png: bool
    quantisation: tuple[float, float] | None


def depth_file(message: Any, limits: FileLimits = USUAL_LIMITS) -> DepthFile:
    """Check the content of a sensor_msgs/CompressedImage.

    Args:
        message: has the fields, and its data as a buffer.
        limits: what the file may demand.

    Raises:
        ImageError: it holds no depth image, is incomplete, or demands too much.
    """
    encoding, _, form = (part.strip() for part in message.format.partition(";"))
    if encoding != METRES and encoding not in MILLIMETRES:
        raise _unusable(message.format)
    data = memoryview(message.data)
    if data.nbytes <= HEADER.size:
        raise incomplete("compressedDepth", bytes(data))
    _, a, b = HEADER.unpack_from(data)
    content = data[HEADER.size :]
    # Older publishers say nothing of the form, or nothing else than compressedDepth.
    is_png = form in ("", "compressedDepth", "compressedDepth png")
    if not is_png and form != "compressedDepth rvl":
        raise _unusable(message.format)
    width, height = _png_size(content, limits) if is_png else _rvl_size(content, limits)
    content = content if is_png else content[RVL_SIZE.size :]
    quantisation = (a, b) if encoding == METRES else None
    return DepthFile(message.header, width, height, content, is_png, quantisation)


def depth_of_file(file: DepthFile) -> Depth:
    """The depths, (h, w): millimetres as uint16, or metres as float32 with NaN where not known.

    Raises:
        ImageError: the file is damaged.
    """
    shape = file.height, file.width
    pixels: Any
    if file.is_png:
        pixels = decode(bytes(file.data))
        if pixels is None or pixels.shape != shape or pixels.dtype != np.uint16:
            raise damaged("PNG", "its pixels cannot be decoded")
    else:
        pixels = decode_rvl(file.data, file.width * file.height).reshape(shape)
    if file.quantisation is None:
        return np.asarray(pixels, np.uint16)
    a, b = map(np.float32, file.quantisation)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        metres = a / (pixels.astype(np.float32) - b)
    metres[pixels == 0] = np.nan
    return np.asarray(metres, np.float32)


def _png_size(data: memoryview, limits: FileLimits) -> tuple[int, int]:
    content = bytes(data)
    if not content.startswith(PNG):
        raise damaged("compressedDepth", "it is no PNG file")
    header = png_header(content, limits)
    check_claims(header, "PNG", content, limits)
    if (header.bits, header.channels) != (16, 1):
        raise damaged("PNG", f"it has {header.channels} channels of {header.bits} bits, not 16")
    return header.width, header.height


def _rvl_size(data: memoryview, limits: FileLimits) -> tuple[int, int]:
    if data.nbytes < RVL_SIZE.size:
        raise incomplete("RVL", bytes(data))
    width, height = RVL_SIZE.unpack_from(data)
    check_size(width, height)
    most = min(MOST_PIXELS, limits.megabytes * 2**20 // PIXEL_BYTES)
    if width * height > most:
        raise ImageError(
            "size",
            f"a depth image of {width} x {height} pixels cannot be used: in RVL at most {most}"
            f" pixels are accepted ({MOST_PIXELS} with a larger max_image_mb)",
        )
    return int(width), int(height)


def _unusable(text: str) -> ImageError:
    return ImageError(
        "encoding",
        f"the compressed depth image has format {quote(text)}: 16UC1 and 32FC1 as compressedDepth"
        " png or rvl can be read",
    )
