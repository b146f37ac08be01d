# SPDX-License-Identifier: Apache-2.0
"""Detections as a recording of what the node would have published, for Foxglove and RViz."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from compact_yolo_ros.apps.evaluate_bag.frame_log import ANSWERED, FrameResult
from compact_yolo_ros.apps.evaluate_bag.results_folder import writing
from compact_yolo_ros.detection.detection_array import DETECTION_ARRAY
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.recordings.codec import Codec
from compact_yolo_ros.recordings.writer import new_writer
from compact_yolo_ros.support.files import private_folder


def write_detections_recording(
    folder: Path, results: Iterable[FrameResult], classes: tuple[str, ...], selection: Selection
) -> None:
    """Write a recording (MCAP); its topics are ``<image topic>/detections``.

    Headers are those of the images. A message is at the time of its image, in realtime at the
    time of the detections.

    Args:
        folder: of the recording; one that is there is replaced.
        results: of the frames.
        classes: names of the labels.
        selection: which scores are kept.

    Raises:
        BagError: the folder cannot be written.
    """
    with writing(folder), private_folder(folder.parent) as temporary:
        # The file within is named after its folder, so that name is the final one.
        _write(temporary / folder.name, results, classes, selection)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary / folder.name, folder)


def _write(
    folder: Path, results: Iterable[FrameResult], classes: tuple[str, ...], selection: Selection
) -> None:
    codec = Codec()
    with new_writer(folder) as writer:
        connections: dict[str, Any] = {}
        for result in results:
            if result.outcome != ANSWERED:
                continue
            topic = f"{result.topic}/detections"
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, DETECTION_ARRAY, typestore=codec.store
                )
            found = result.detections
            found = found[selection.above(found.scores, found.labels)]
            data = codec.write_detections(result.stamp, result.frame_id, found, classes)
            writer.write(connections[topic], result.finished or result.time, data)
