# SPDX-License-Identifier: Apache-2.0
"""Decoding with cv_bridge, on request: its conversions, at the cost of a copy of each image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from compact_yolo_ros.pixels.compressed_file import check_file
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.pixels.encodings import check_shows_colours
from compact_yolo_ros.pixels.file_limits import USUAL_LIMITS, FileLimits
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.jpeg_pixels import Window
from compact_yolo_ros.support.error_text import first_line


class CvBridgeDecoder:
    """``ImageDecoder``'s interface over cv_bridge; every picture is bgr8."""

    def __init__(self, limits: FileLimits = USUAL_LIMITS) -> None:
        """Load cv_bridge, which nothing else here needs.

        Args:
            limits: what a compressed image may demand.

        Raises:
            ModuleNotFoundError: cv_bridge cannot be imported; the sentence says what to install.
        """
        try:
            from cv_bridge import CvBridge
        except (ImportError, AttributeError) as error:  # a build for NumPy 1 fails with the latter
            raise ModuleNotFoundError(
                f"image_decoder 'cv_bridge' cannot be used ({error}): install"
                " ros-$ROS_DISTRO-cv-bridge, or leave image_decoder at its default"
            ) from error
        self._bridge = CvBridge()
        self._limits = limits

    def image(self, message: Any, window: Window | None = None) -> DecodedImage:
        """All pixels of a sensor_msgs/Image.

        Raises:
            ImageError: cv_bridge cannot convert the message.
        """
        check_shows_colours(message.encoding)
        try:
            return DecodedImage(self._bridge.imgmsg_to_cv2(message, "bgr8"), "bgr")
        except Exception as error:  # CvBridgeError, cv2.error, and what malformed fields lead to
            raise ImageError("encoding", _sentence(message.encoding, error)) from error

    def compressed(self, message: Any, window: Window | None = None) -> DecodedImage:
        """All pixels of a sensor_msgs/CompressedImage, however few are needed.

        Raises:
            ImageError: ``check_file`` refuses it, or cv_bridge cannot convert it.
        """
        data = memoryview(message.data).tobytes()
        length = check_file(data, message.format, self._limits).header.length
        if length < len(data):  # a decoder may read on behind the end
            message = SimpleNamespace(format=message.format, data=message.data[:length])
        try:
            pixels = self._bridge.compressed_imgmsg_to_cv2(message, "bgr8")
        except Exception as error:  # CvBridgeError, cv2.error, and what malformed fields lead to
            raise ImageError("compressed", _sentence(message.format, error)) from error
        if pixels is None or pixels.size == 0:
            raise ImageError("compressed", _sentence(message.format, "the data is damaged"))
        return DecodedImage(pixels, "bgr")


def _sentence(encoding: str, reason: object) -> str:
    return (
        f"cv_bridge cannot convert {encoding[:40]!r} to bgr8 ({first_line(reason)}): "
        "check the publisher"
    )
