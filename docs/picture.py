# SPDX-License-Identifier: Apache-2.0
"""Make docs/detections.jpg, the picture in README.md: what a model finds in the street clip.

    python docs/picture.py

Run it in the environment of ``make test``, after a model has changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.drawing import draw_detections
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.pixels.video_source import open_source
from compact_yolo_ros.support.files import replacing

COLUMNS = 2


def main() -> None:
    """Detect in a few frames and join them into one picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="yolo_ret_m075")
    parser.add_argument("--score", type=float, default=0.3, help="score threshold")
    parser.add_argument("--frames", type=int, nargs="+", default=[30, 121, 142, 192])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "detections.jpg")
    options = parser.parse_args()

    detector = Detector.open(options.model, selection=Selection(score_threshold=options.score))
    pictures = {}
    source = open_source("")
    number = 0
    while (frame := source.read()) is not None:
        if number in options.frames:
            pictures[number] = frame.copy()
            draw_detections(pictures[number], detector.detect(frame), detector.card.classes)
        number += 1
    ordered = [pictures[number] for number in options.frames]
    rows = [np.hstack(ordered[i : i + COLUMNS]) for i in range(0, len(ordered), COLUMNS)]
    with replacing(options.out) as path:
        cv2.imwrite(str(path), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
