# SPDX-License-Identifier: Apache-2.0
"""Unpacking the image messages that a subscription brings serialized.

rclpy's own way copies the pixels twice and makes an object of every field, also for images that are
replaced by newer ones before anybody looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.video_packets import KEY_FLAG, VideoPacket
from compact_yolo_ros.ros.transports import (
    CALIBRATION,
    COMPRESSED,
    COMPRESSED_DEPTH,
    FFMPEG,
    FOXGLOVE,
    RAW,
)
from compact_yolo_ros.support.cdr import CdrError, CdrReader
from compact_yolo_ros.support.error_text import first_line


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


class PacketOrigin(NamedTuple):
    """What belongs to the picture of a video packet.

    Attributes:
        header: of its message.
        arrived: when that came, on ``perf_counter``; 0 until it is known.
    """

    header: Header
    arrived: float = 0.0


def unpack_image(data: bytes) -> ReceivedImage:
    """Read a serialized sensor_msgs/Image.

    Raises:
        ImageError: the bytes are no such message.
    """
    with _reading("Image", data) as cdr:
        return ReceivedImage(
            header=_header(cdr),
            height=cdr.unsigned(),
            width=cdr.unsigned(),
            encoding=cdr.text(),
            is_bigendian=cdr.octet(),
            step=cdr.unsigned(),
            data=cdr.octets(),
        )


def unpack_file(data: bytes) -> ReceivedFile:
    """Read a serialized sensor_msgs/CompressedImage.

    Raises:
        ImageError: the bytes are no such message.
    """
    with _reading("CompressedImage", data) as cdr:
        return ReceivedFile(header=_header(cdr), format=cdr.text(), data=cdr.octets())


def unpack_ffmpeg_packet(data: bytes) -> VideoPacket:
    """Read a serialized ffmpeg_image_transport_msgs/FFMPEGPacket; its origin is a ``PacketOrigin``.

    Raises:
        ImageError: the bytes are no such message.
    """
    with _reading("FFMPEGPacket", data) as cdr:
        header = _header(cdr)
        cdr.signed(), cdr.signed()  # width and height, which the video itself tells
        encoder, number = cdr.text(), cdr.unsigned_long()
        is_marked = bool(cdr.octet() & KEY_FLAG)
        cdr.octet()  # is_bigendian, which concerns the pixels before they were encoded
        return VideoPacket(encoder, cdr.octets(), PacketOrigin(header), number, is_marked)


def unpack_compressed_video(data: bytes) -> VideoPacket:
    """Read a serialized foxglove_msgs/CompressedVideo; its origin is a ``PacketOrigin``.

    Raises:
        ImageError: the bytes are no such message.
    """
    with _reading("CompressedVideo", data) as cdr:
        header, content = _header(cdr), cdr.octets()  # its stamp and frame_id are as in a header
        return VideoPacket(cdr.text(), content, PacketOrigin(header))


def unpack_camera_info(data: bytes) -> CameraInfo:
    """Read a serialized sensor_msgs/CameraInfo, one of which serves many images.

    Raises:
        ImageError: the bytes are no such message.
    """
    try:
        return deserialize_message(data, CameraInfo)
    except Exception as error:  # rclpy does not export the type of what cannot be read
        raise _unreadable("CameraInfo", first_line(error)) from error


UNPACK: dict[str, Callable[[bytes], Any]] = {
    RAW.name: unpack_image,
    COMPRESSED.name: unpack_file,
    COMPRESSED_DEPTH.name: unpack_file,
    FFMPEG.name: unpack_ffmpeg_packet,
    FOXGLOVE.name: unpack_compressed_video,
    CALIBRATION.name: unpack_camera_info,
}
"""What reads the messages of each transport; raises ImageError."""


def _header(cdr: CdrReader) -> Header:
    stamp = Time(sec=cdr.signed(), nanosec=cdr.unsigned())
    return Header(stamp=stamp, frame_id=cdr.text())


@contextmanager
def _reading(name: str, data: bytes) -> Iterator[CdrReader]:
    """A reader of the bytes of a message; what it cannot read is an ImageError."""
    try:
        yield CdrReader(data)
    except CdrError as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, why: object) -> ImageError:
    return ImageError(
        "malformed", f"the {name} message cannot be read ({why}): check its publisher"
    )
