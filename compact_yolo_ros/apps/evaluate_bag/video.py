# SPDX-License-Identifier: Apache-2.0
"""Frames of a recording with their detections drawn in: as a video, or one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.playback import read_frame
from compact_yolo_ros.apps.evaluate_bag.results_folder import writing
from compact_yolo_ros.detection.drawing import draw_detections
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.pixels.decoding import ImageDecoder, bgr_copy
from compact_yolo_ros.pixels.video_file import video_file
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.video import images


def read_pixels(bag: Bag, codec: Codec, topic: str, time: int) -> NDArray[np.uint8] | None:
    """The frame of a topic received at ``time`` (ns) as (H, W, 3) BGR; None if it is unreadable."""
    for message in images(bag, [topic], time, time + 1):
        frame = read_frame(message, codec, ImageDecoder())
        return bgr_copy(frame.image) if frame.image else None
    return None


def video_names(topics: Sequence[str]) -> dict[str, str]:
    """The name of each topic's video: slashes as ``_``, or where two would be alike as ``__``."""
    for slash in ("_", "__"):  # ROS has no names with two in a row
        names = {topic: f"{topic.strip('/').replace('/', slash)}.mp4" for topic in topics}
        if len(set(names.values())) == len(names):
            break
    return names


def write_video(
    path: Path,
    bag: Bag,
    topic: str,
    results: Callable[[], Iterator[FrameResult]],
    classes: Sequence[str],
    selection: Selection,
) -> None:
    """Write the answered frames of a topic with their detections as an .mp4 of constant rate.

    Where frames differ in size, the video has the size of most of them. Odd sides are one pixel
    longer in it.

    Args:
        path: of the video.
        bag: the recording.
        topic: of its images.
        results: gives the results of the frames, from the first on.
        classes: names of the labels.
        selection: which scores are shown.

    Raises:
        BagError: the file cannot be written, or there is no encoder.
    """
    codec, decoder = Codec(bag.topics.values()), ImageDecoder()
    own = [(result.time, result.size) for result in _answered(results(), topic)]
    times = np.array([time for time, _ in own], np.int64)
    if not len(times):
        return
    period = float(np.median(np.diff(times))) * 1e-9 if len(times) > 1 else 0.0
    answered = _answered(results(), topic)
    result = next(answered)
    ((size, _),) = Counter(size for _, size in own).most_common(1)
    rate = min(max(1 / period, 1.0), 120.0) if period > 0 else 10.0
    with writing(path), video_file(path, rate, *size) as write:
        for message in images(bag, [topic], int(times.min()), int(times.max()) + 1):
            if message.time != result.time:
                continue
            frame = read_frame(message, codec, decoder)
            if frame.image is None:
                continue
            canvas = bgr_copy(frame.image)
            found = result.detections
            found = found[selection.above(found.scores, found.labels)]
            draw_detections(canvas, found, classes)
            if canvas.shape[:2] != size.shape:
                canvas = np.asarray(cv2.resize(canvas, size), np.uint8)
            write(canvas)
            following = next(answered, None)
            if following is None:
                break
            result = following


def _answered(results: Iterator[FrameResult], topic: str) -> Iterator[FrameResult]:
    return (r for r in results if r.topic == topic and r.outcome == ANSWERED)
