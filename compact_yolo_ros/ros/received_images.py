# SPDX-License-Identifier: Apache-2.0
"""Unpacking the image messages that a subscription brings serialized.

rclpy's own way copies the pixels twice and makes an object of every field, also for images that are
replaced by newer ones before anybody looks at them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.support.cdr import CdrError, CdrReader


class ReceivedImage(NamedTuple):
    """The fields of a sensor_msgs/Image; ``data`` is a view of the received bytes."""

    header: Header
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


class ReceivedFile(NamedTuple):
    """The fields of a sensor_msgs/CompressedImage; ``data`` is a view of the received bytes."""

    header: Header
    format: str
    data: memoryview


Received = ReceivedImage | ReceivedFile
Unpack = Callable[[bytes], Received]
"""Reads a serialized message; raises ImageError."""


def unpack_image(data: bytes) -> ReceivedImage:
    """Read a serialized sensor_msgs/Image.

    Raises:
        ImageError: the bytes are no such message.
    """
    try:
        cdr = CdrReader(data)
        return ReceivedImage(
            header=_header(cdr),
            height=cdr.unsigned(),
            width=cdr.unsigned(),
            encoding=cdr.text(),
            is_bigendian=cdr.octet(),
            step=cdr.unsigned(),
            data=cdr.octets(),
        )
    except CdrError as error:
        raise _malformed("Image", error) from error


def unpack_file(data: bytes) -> ReceivedFile:
    """Read a serialized sensor_msgs/CompressedImage.

    Raises:
        ImageError: the bytes are no such message.
    """
    try:
        cdr = CdrReader(data)
        return ReceivedFile(header=_header(cdr), format=cdr.text(), data=cdr.octets())
    except CdrError as error:
        raise _malformed("CompressedImage", error) from error


UNPACK: dict[type, Unpack] = {Image: unpack_image, CompressedImage: unpack_file}
"""What reads each type of message."""


def _header(cdr: CdrReader) -> Header:
    stamp = Time(sec=cdr.signed(), nanosec=cdr.unsigned())
    return Header(stamp=stamp, frame_id=cdr.text())


def _malformed(name: str, error: CdrError) -> ImageError:
    return ImageError(
        "malformed", f"the {name} message cannot be read ({error}): check its publisher"
    )
