# SPDX-License-Identifier: Apache-2.0
"""Depth images of sensor_msgs/Image, as REP 118 has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.encodings import check_size, quote
from compact_yolo_ros.pixels.image_error import ImageError

Depth = NDArray[np.uint16] | NDArray[np.float32]
"""(h, w) millimetres as uint16, or metres as float32; zero or not finite is not known."""
_NUMBERS = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}


def depth_pixels(message: Any) -> Depth:
    """A view of the depths in a message.

    Args:
        message: has the fields of a sensor_msgs/Image, and its data as a buffer.

    Raises:
        ImageError: it holds no depth image.
    """
    kind = _NUMBERS.get(message.encoding)
    if kind is None:
        raise ImageError(
            "encoding",
            f"the depth image has encoding {quote(message.encoding)}: 16UC1 (millimetres) and "
            "32FC1 (metres) hold depths",
        )
    width, height, step = message.width, message.height, message.step
    check_size(width, height)
    number = np.dtype((">" if message.is_bigendian else "<") + kind)
    data = memoryview(message.data)
    if step < width * number.itemsize or data.nbytes < height * step:
        raise ImageError(
            "truncated",
            f"the depth image of {width} x {height} {message.encoding} has {data.nbytes} bytes in "
            f"rows of {step}: check its driver and the transport",
        )
    return np.ndarray((height, width), number, data, 0, (step, number.itemsize))
