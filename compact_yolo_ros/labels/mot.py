# SPDX-License-Identifier: Apache-2.0
"""Labels of MOTChallenge: one text file a sequence, a line an object in a frame.

``frame, track, left, top, width, height, flag, class, visibility`` (Milan et al., "MOT16: A
benchmark for multi-object tracking", arXiv 1603.00831, section 3.2). Frames count from 1; boxes are
in pixels, taken as they stand. An object whose flag is 0 is ignored; where it is nearly a
pedestrian (``DISTRACTORS``), a pedestrian found there is ignored, as in MOTChallenge's evaluation
(TrackEval, ``MotChallenge2DBox``). The last columns may be
missing, and a class below 1 is the first one: there is one class then. Names of other classes than
MOTChallenge's are in a ``labels.txt`` beside the file, a line each, as CVAT writes them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.labels.ground_truth import GroundTruth, LabelError
from compact_yolo_ros.labels.yolo import listed_names, read_lines
from compact_yolo_ros.support.error_text import reason

MOT_CLASSES = (
    *("pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle"),
    *("static person", "distractor", "occluder", "occluder on the ground", "occluder full"),
    *("reflection", "crowd"),
)
DISTRACTORS = ("person on vehicle", "static person", "distractor", "reflection")
"""Of ``MOT_CLASSES``: neither wrong to find as a pedestrian nor to be found."""
CLASSES_FILE = "labels.txt"
MOST_FRAMES = 1_000_000
LARGEST = 1_000_000_000
"""Bytes of a file."""


class _Line(NamedTuple):
    frame: int
    track: int
    box: tuple[float, float, float, float]
    counts: bool
    label: int


def read_mot(file: Path, frames: int = 0) -> tuple[tuple[str, ...], list[GroundTruth]]:
    """Read the labels of a sequence.

    Args:
        file: the text file.
        frames: number of frames in the sequence; 0 if it is not known.

    Returns:
        Names of the classes, and what each frame shows: those without a line have no object. Boxes
        are in pixels of the image, whose size is not known.

    Raises:
        LabelError: the file or that of the names cannot be read, or a line is malformed.
    """
    listed = file.parent / CLASSES_FILE
    names = listed_names(listed) if listed.is_file() else MOT_CLASSES
    try:
        lines = read_lines(file, LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"cannot be read: {reason(error)}") from None
    objects: defaultdict[int, list[_Line]] = defaultdict(list)
    for number, text in enumerate(lines, 1):
        if text.strip():
            line = _parse(text, number, len(names))
            objects[line.frame].append(line)
    last = max(frames, *objects, 0)
    ignored_as = np.arange(len(names))
    if names == MOT_CLASSES:
        ignored_as[[names.index(name) for name in DISTRACTORS]] = names.index("pedestrian")
    shown = {number: _truth(found, ignored_as) for number, found in objects.items()}
    nothing = _truth([], ignored_as)  # all frames without a line share it
    return names, [shown.get(number, nothing) for number in range(1, last + 1)]


def _parse(text: str, number: int, classes: int) -> _Line:
    try:
        values = [float(value) for value in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) < 6 or not all(map(math.isfinite, values)):
        raise LabelError(
            f"line {number} is not 'frame, track, left, top, width, height, flag, class, ...'"
        )
    frame, track, left, top, width, height, flag, label, *_ = [*values, 1.0, -1.0]
    if not 1 <= frame <= MOST_FRAMES or abs(track) >= 2**53:
        raise LabelError(f"line {number} has a frame outside of 1 to {MOST_FRAMES}, or no track")
    label = max(label, 1.0)
    for what, value in (("frame", frame), ("track", track), ("class", label)):
        if not value.is_integer():  # seconds, or the coordinates of MOT15 behind the flag
            raise LabelError(
                f"line {number} has the {what} {value:g}, which is no whole number: give 'frame, "
                "track, left, top, width, height, flag, class, ...'"
            )
    if label > classes:
        raise LabelError(f"line {number} has the class {label:g}, but there are {classes}")
    box = (left, top, left + width, top + height)
    return _Line(int(frame), int(track), box, flag != 0, int(label) - 1)


def _truth(lines: list[_Line], ignored_as: NDArray[np.int64]) -> GroundTruth:
    counted = np.array([line.counts for line in lines], bool)
    boxes = np.array([line.box for line in lines], np.float64).reshape(-1, 4)
    labels = np.array([line.label for line in lines], np.int64)
    tracks = np.array([line.track for line in lines], np.int64)
    return GroundTruth(
        boxes[counted],
        labels[counted],
        ignored=boxes[~counted],
        ignored_labels=ignored_as[labels[~counted]],
        tracks=tracks[counted],
    )
