# SPDX-License-Identifier: Apache-2.0
"""Putting frames into image messages."""

from __future__ import annotations

from array import array
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from compact_yolo_ros.pixels.video_source import SourceError

FROM_BGR = {"rgb8": cv2.COLOR_BGR2RGB, "mono8": cv2.COLOR_BGR2GRAY}


class ImageWriter(Protocol):
    """Puts frames into one message, which is used again and again."""

    message: Any

    def write(self, frame: NDArray[np.uint8]) -> Any:
        """The message, with ``frame``, (h, w, 3) uint8 BGR, in it.

        Raises:
            SourceError: it cannot be written so.
        """


class RawWriter:
    """Writes sensor_msgs/Image."""

    def __init__(self, encoding: str) -> None:
        """Write bgr8, rgb8 or mono8."""
        self.message = Image(encoding=encoding)
        self._conversion = FROM_BGR.get(encoding)
        self._pixels = np.empty((0, 0), np.uint8)

    def write(self, frame: NDArray[np.uint8]) -> Image:
        if self._pixels.shape[:2] != frame.shape[:2]:
            self._allocate(*frame.shape[:2])
        if self._conversion is None:
            np.copyto(self._pixels, frame)
        else:
            cv2.cvtColor(frame, self._conversion, dst=self._pixels)
        return self.message

    def _allocate(self, height: int, width: int) -> None:
        """Give the message memory for images of this size, and see that memory as pixels."""
        message = self.message
        shape = (height, width) if message.encoding == "mono8" else (height, width, 3)
        message.height, message.width, message.step = height, width, int(np.prod(shape[1:]))
        message.data = array("B", bytes(height * message.step))
        self._pixels = np.frombuffer(message.data, np.uint8).reshape(shape)


class JpegWriter:
    """Writes sensor_msgs/CompressedImage, named as image_transport's compressed images are."""

    def __init__(self, encoding: str, quality: int) -> None:
        """Write JPEG in colour, or grey for mono8; ``quality`` from 1 to 100."""
        self._grey = encoding == "mono8"
        self._options = [cv2.IMWRITE_JPEG_QUALITY, quality]
        inside = "mono8" if self._grey else "bgr8"
        self.message = CompressedImage(format=f"{encoding}; jpeg compressed {inside}")

    def write(self, frame: NDArray[np.uint8]) -> CompressedImage:
        if self._grey:
            frame = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        data = array("B")
        done, content = cv2.imencode(".jpg", frame, self._options)
        if not done:
            height, width = frame.shape[:2]
            raise SourceError(
                f"an image of {width}x{height} pixels cannot be written as JPEG, whose sides have"
                " at most 65500: set width and height, or image_transport raw"
            )
        data.frombytes(content.data)
        self.message.data = data
        return self.message
