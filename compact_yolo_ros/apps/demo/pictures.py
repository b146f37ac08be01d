# SPDX-License-Identifier: Apache-2.0
"""The annotated pictures of a demo: kept within bounds, and written as a video and as a sheet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.video_file import video_file
from compact_yolo_ros.support.files import replacing

SHEET = (3, 2)
"""Columns and rows of the picture sheet."""
SHEET_SIDE = 1920
"""Most pixels of the longer side of a picture on the sheet."""
MOST_PICTURES, MOST_BYTES = 300, 2**28
"""Further pictures are left out. A hundred of 4K, 2.5 GB of pixels, are in 256 MiB."""
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 95]


@dataclass(frozen=True)
class Picture:
    """A picture with its stamp in seconds; ``file`` is a JPEG."""

    stamp: float
    file: NDArray[np.uint8]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Decoded, (h, w, 3) uint8 BGR."""
        return np.asarray(cv2.imdecode(self.file, cv2.IMREAD_COLOR), np.uint8)


class Pictures:
    """The first pictures of a demo, as files in memory.

    Attributes:
        size: bytes of all.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.size = 0
        self._kept: list[Picture] = []
        self._shape: tuple[int, ...] = ()
        self._is_full = False

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, stamp: float, pixels: NDArray[np.uint8]) -> None:
        """Keep a picture, (h, w, 3) uint8 BGR, if there is still room."""
        # A video has one size; of a folder of mixed pictures, those like the first are kept.
        if self._is_full or (self._kept and pixels.shape != self._shape):
            return
        file = cv2.imencode(".jpg", pixels, QUALITY)[1]
        if fits := self.size + file.nbytes <= MOST_BYTES:
            self._kept.append(Picture(stamp, file))
            self.size += file.nbytes
            self._shape = pixels.shape
        self._is_full = not fits or len(self) == MOST_PICTURES

    def save_video(self, path: Path) -> None:
        """Write all as an MP4 file, at the rate of their stamps; OSError if that fails."""
        height, width, _ = self._shape
        duration = self._kept[-1].stamp - self._kept[0].stamp
        fps = (len(self) - 1) / duration if duration > 0 else 10.0
        try:
            with video_file(path, fps, width, height) as write:
                for picture in self._kept:
                    write(picture.pixels)
        except OSError as error:
            raise OSError(f"{path.name}: {error.strerror or error}") from None

    def save_sheet(self, path: Path, scores: Mapping[float, float]) -> None:
        """Write, of each of six equal parts, the picture with the best score, by its stamp.

        Raises:
            OSError: the file cannot be written.
        """
        columns, _ = SHEET
        pictures = [
            _fitted(max(part, key=lambda picture: scores.get(picture.stamp, 0)).pixels)
            for part in self._parts()
        ]
        lines = [np.hstack(pictures[n : n + columns]) for n in range(0, len(pictures), columns)]
        file = cv2.imencode(path.suffix, np.vstack(lines))[1]
        with replacing(path) as temporary:
            temporary.write_bytes(file.tobytes())

    def _parts(self) -> Iterator[list[Picture]]:
        columns, rows = SHEET
        bounds = np.linspace(0, len(self), columns * rows + 1).astype(int)
        for start, end in zip(bounds[:-1], bounds[1:], strict=True):
            yield self._kept[start : max(end, start + 1)]


def _fitted(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    scale = SHEET_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    smaller: NDArray[np.uint8] = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return smaller
