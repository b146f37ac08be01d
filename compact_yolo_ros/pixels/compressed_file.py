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
    header = _header(data, limits)
    if header is None:
        raise ImageError(
            "compressed",
            f"the compressed image (format {quote(format_)}) is neither JPEG nor PNG:"
            " set the publisher to one of these",
        )
    kind = "PNG" if data.startswith(PNG) else "JPEG"
    check_claims(header, kind, data, limits)
    if header.bits > 8 and header.channels == 1 and encoding != "mono16":
        raise ImageError(
            "encoding",
            f"a grey {kind} image of {header.bits} bits may hold distances: a grey or thermal"
            " camera must publish it with the format 'mono16; png compressed mono16'",
        )
    return CompressedFile(kind, encoding, header)


def check_claims(header: FileHeader, kind: str, data: bytes, limits: FileLimits) -> None:
    """Raise ImageError where a file demands too much, or is too short for its size."""
    check_size(header.width, header.height)
    _check_memory(header, limits)
    if header.fewest > header.coded:
        why = f"too short for {header.width} x {header.height} pixels"
        raise incomplete(kind, data, why)


def decodable(data: bytes, limits: FileLimits) -> bytes:
    """Check that a file from a disk does not demand too much of its decoder.

    Returns:
        The file without what follows its end. It is for the decoder to read other formats than
        JPEG and PNG, and to say whether a JPEG is complete.

    Raises:
        ImageError: it is a JPEG or PNG that demands too much, or whose structure is wrong.
    """
    try:
        header = _header(data, limits)
    except ImageError as error:
        if error.kind == "truncated" and data.startswith(JPEG):
            return data
        raise
    if header is None:
        return data
    _check_memory(header, limits)
    return data[: header.length]


def _header(data: bytes, limits: FileLimits) -> FileHeader | None:
    """What the file says of itself; None if it is neither JPEG nor PNG."""
    if data.startswith(PNG):
        return png_header(data, limits)
    if data.startswith(JPEG):
        return jpeg_header(data, limits)
    return None


def _check_memory(header: FileHeader, limits: FileLimits) -> None:
    megabytes = header.memory / 2**20
    if megabytes > limits.megabytes:
        raise ImageError(
            "size",
            f"an image of {header.width} x {header.height} pixels cannot be used: it takes"
            f" {megabytes:.0f} MB decoded, and max_image_mb is {limits.megabytes}",
        )
