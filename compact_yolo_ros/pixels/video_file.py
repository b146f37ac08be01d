# SPDX-License-Identifier: Apache-2.0
"""Pictures as a video file."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.support.files import replacing, utf8_path


@contextmanager
def video_file(
    path: Path, rate: float, width: int, height: int
) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """Yield what writes a picture (height, width, 3), BGR, to an .mp4 of constant rate.

    Odd sides are one pixel longer in it. If the block fails, ``path`` stays as it was.

    Args:
        path: of the file.
        rate: pictures per second.
        width: of all pictures.
        height: of all pictures.

    Raises:
        OSError: there is no encoder, or the file cannot be written to its end.
    """
    with replacing(path) as temporary, utf8_path(temporary) as name:
        sides = width + width % 2, height + height % 2
        writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), rate, sides)
        if not writer.isOpened():
            raise OSError(errno.ENOSYS, "OpenCV has no encoder for it here")
        written = 0

        def write(pixels: NDArray[np.uint8]) -> None:
            nonlocal written
            writer.write(_with_even_sides(pixels))
            written += 1

        yield write
        writer.release()
        # OpenCV does not report that the disk is full: what cannot be read back was not written.
        check = cv2.VideoCapture(name)
        is_whole = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) == written
        check.release()
        if not is_whole:
            raise OSError(errno.ENOSPC, "the video is incomplete, perhaps the disk is full")


def _with_even_sides(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture whose last column and row are doubled where its sides are odd.

    OpenCV's encoders would cut them off instead, and refuse a picture of one pixel.
    """
    height, width = pixels.shape[:2]
    if not (width % 2 or height % 2):
        return pixels
    border = (0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return np.asarray(cv2.copyMakeBorder(pixels, *border), np.uint8)
