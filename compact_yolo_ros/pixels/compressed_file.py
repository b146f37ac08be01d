# SPDX-License-Identifier: Apache-2.0
"""What a compressed image claims, checked before a native decoder sees it."""

from __future__ import annotations

from typing import NamedTuple

from compact_yolo_ros.pixels.encodings import check_shows_colours, check_size, quote
from compact_yolo_ros.pixels.file_limits import FileHeader, FileLimits
from compact_yolo_ros.pixels.image_error import ImageError, incomplete
from compact_yolo_ros.pixels.jpeg import JPEG, jpeg_header
from compact_yolo_ros.pixels.png import PNG, png_header


class CompressedFile(NamedTuple):
    """A complete JPEG or PNG file that can be decoded.

    Attributes:
        kind: ``JPEG`` or ``PNG``.
        encoding: of the pixels, as the publisher named it; may be empty.
        header: what the file says.
    """

    kind: str
    encoding: str
    header: FileHeader


def check_file(data: bytes, format_: str, limits: FileLimits) -> CompressedFile:
    """Check the content of a sensor_msgs/CompressedImage without decoding it.

    Args:
        data: the file.
        format_: as image_transport writes it (``rgb8; jpeg compressed bgr8``), or any text.
        limits: what the file may demand.

    Raises:
        ImageError: it is neither JPEG nor PNG, is incomplete, demands too much, or does not show
            colours.
    """
    if "compressedDepth" in format_:
        raise ImageError(
            "compressed",
            "compressedDepth holds distances, not colours: subscribe to a colour image",
        )
    encoding = format_.split(";")[0].strip() if ";" in format_ else ""
    check_shows_colours(encoding)
    kind, header = _header(data, format_, limits)
    check_size(header.width, header.height)
    _check_memory(header, limits)
    if header.fewest > header.coded:
        why = f"too short for {header.width} x {header.height} pixels"
        raise incomplete(kind, data, why)
    if header.bits > 8 and header.channels == 1 and encoding != "mono16":
        raise ImageError(
            "encoding",
            f"a grey {kind} image of {header.bits} bits may hold distances: a grey or thermal"
            " camera must publish it with the format 'mono16; png compressed mono16'",
        )
    return CompressedFile(kind, encoding, header)


def _header(data: bytes, format_: str, limits: FileLimits) -> tuple[str, FileHeader]:
    if data.startswith(PNG):
        return "PNG", png_header(data, limits)
    if data.startswith(JPEG):
        return "JPEG", jpeg_header(data, limits)
    raise ImageError(
        "compressed",
        f"the compressed image (format {quote(format_)}) is neither JPEG nor PNG:"
        " set the publisher to one of these",
    )


def _check_memory(header: FileHeader, limits: FileLimits) -> None:
    megabytes = header.memory / 2**20
    if megabytes > limits.megabytes:
        raise ImageError(
            "size",
            f"an image of {header.width} x {header.height} pixels cannot be used: it takes"
            f" {megabytes:.0f} MB decoded, and max_image_mb is {limits.megabytes}",
        )
