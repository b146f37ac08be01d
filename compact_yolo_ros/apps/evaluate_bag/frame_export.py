# SPDX-License-Identifier: Apache-2.0
"""Frames of a recording as pictures for labelling, named so that their labels find them again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.playback import read_frame
from compact_yolo_ros.apps.evaluate_bag.results_folder import writing
from compact_yolo_ros.pixels.decoding import ImageDecoder, bgr_copy
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.recordings.video import images
from compact_yolo_ros.support.files import replacing

QUALITY = 95


def export_frames(
    folder: Path, bag: Bag, topic: str, results: Iterator[FrameResult], apart: float
) -> int:
    """Write answered frames of a topic as ``<sec>.<nanosec>.jpg``; ``--ground-truth`` reads that.

    Args:
        folder: is made.
        bag: the recording.
        topic: of its images.
        results: of the frames.
        apart: least seconds between two frames.

    Returns:
        The number of frames.

    Raises:
        BagError: a file cannot be written.
    """
    stamps = _chosen(results, topic, round(apart * 1e9))
    if not stamps:
        return 0
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    codec, decoder, written = Codec(bag.topics.values()), ImageDecoder(), 0
    for message in images(bag, [topic], min(stamps), max(stamps) + 1):
        if (stamp := stamps.pop(message.time, None)) is None:
            continue
        image = read_frame(message, codec, decoder).image
        if image is not None:
            seconds, rest = divmod(stamp, 10**9)
            _write(folder / f"{seconds}.{rest:09}.jpg", bgr_copy(image))
            written += 1
    return written


def _chosen(results: Iterator[FrameResult], topic: str, apart: int) -> dict[int, int]:
    """Times of reception and stamps, in ns, of the frames to export."""
    chosen: dict[int, int] = {}
    last = None
    for result in results:
        if result.topic != topic or result.outcome != ANSWERED:
            continue
        if last is None or result.time - last >= apart:
            chosen[result.time] = result.stamp
            last = result.time
    return chosen


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    with writing(path), replacing(path) as temporary:
        done, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if not done:
            raise BagError(f"OpenCV cannot write {path} as JPEG")
        temporary.write_bytes(content.tobytes())
