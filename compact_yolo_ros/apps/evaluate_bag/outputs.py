# SPDX-License-Identifier: Apache-2.0
"""What is written of a run for other programs: COCO's JSON, a recording of detections, videos."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.evaluate_bag.frame_results import ANSWERED, Record
from compact_yolo_ros.apps.evaluate_bag.playback import read_frame
from compact_yolo_ros.apps.evaluate_bag.topic_statistics import above
from compact_yolo_ros.detection.drawing import draw_detections
from compact_yolo_ros.pixels.decoding import ImageDecoder, bgr_copy
from compact_yolo_ros.recordings.codec import DETECTIONS, Codec
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError
from compact_yolo_ros.support.files import replacing

Records = Callable[[], Iterator[Record]]
"""Gives the records of a run from the beginning."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise BagError(f"cannot write {path}: {why}; nothing of it was left behind") from None


def write_coco(path: Path, records: Records, classes: Sequence[str]) -> None:
    """Write all answered frames and detections as COCO's JSON; it may serve as ground truth.

    An image has the ``timestamp_ns`` and the ``topic`` of its frame, an annotation a ``score``;
    boxes are x, y, width, height in pixels; categories count from 1.

    Raises:
        BagError: the file cannot be written.
    """
    with explained(path), replacing(path) as temporary, temporary.open("w") as file:
        categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
        file.write(f'{{"categories": {json.dumps(categories)},\n"images": [\n')
        answered = (record for record in records() if record.outcome == ANSWERED)
        _write_rows(file, ([_coco_image(n, record)] for n, record in enumerate(answered, 1)))
        file.write('],\n"annotations": [\n')
        answered = (record for record in records() if record.outcome == ANSWERED)
        _write_rows(file, _coco_annotations(answered))
        file.write("]}\n")


def _coco_image(number: int, record: Record) -> dict[str, object]:
    seconds, rest = divmod(record.stamp, 10**9)
    return {
        "id": number,
        "file_name": f"{record.topic.strip('/')}/{seconds}.{rest:09}.jpg",
        "height": record.size[0],
        "width": record.size[1],
        "timestamp_ns": record.stamp,
        "topic": record.topic,
    }


def _coco_annotations(records: Iterator[Record]) -> Iterator[list[dict[str, object]]]:
    count = 0
    for number, record in enumerate(records, 1):
        found, rows = record.detections, []
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            count += 1
            rows.append(
                {
                    "id": count,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "score": score,
                }
            )
        yield rows


def _write_rows(file: IO[str], groups: Iterator[list[dict[str, object]]]) -> None:
    separator = ""
    for rows in groups:
        for row in rows:
            file.write(separator + json.dumps(row))
            separator = ",\n"
    file.write("\n")


def write_detections_bag(
    folder: Path, records: Records, classes: tuple[str, ...], threshold: float
) -> None:
    """Write a recording (MCAP) with what the node would have published, for Foxglove and RViz.

    The topic is ``<image topic>/detections``; headers are those of the images. A message is at the
    time of its image, in realtime at that of the answer.

    Raises:
        BagError: the folder cannot be written.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer

    codec = Codec()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with explained(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            # The file within is named after its folder, so that name is the final one.
            writer = Writer(
                _made(temporary) / folder.name, version=9, storage_plugin=StoragePlugin.MCAP
            )
            with writer:
                connections: dict[str, Any] = {}
                for record in records():
                    if record.outcome != ANSWERED:
                        continue
                    topic = f"{record.topic}/detections"
                    if topic not in connections:
                        connections[topic] = writer.add_connection(
                            topic, DETECTIONS, typestore=codec.store
                        )
                    data = codec.write_detections(
                        record.stamp,
                        record.frame_id,
                        above(record.detections, threshold),
                        classes,
                    )
                    writer.write(connections[topic], record.finished or record.time, data)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary / folder.name, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def read_picture(bag: Bag, codec: Codec, topic: str, time: int) -> NDArray[np.uint8] | None:
    """The frame of a topic received at ``time`` (ns) as (H, W, 3) BGR; None if it is unreadable."""
    for message in bag.messages([topic], time, time + 1):
        frame = read_frame(message, codec, ImageDecoder())
        return bgr_copy(frame.picture) if frame.picture else None
    return None


def video_names(topics: Sequence[str]) -> dict[str, str]:
    """The name of each topic's video: slashes as ``_``, or where two would be alike as ``__``."""
    for slash in ("_", "__"):  # ROS has no names with two in a row
        names = {topic: f"{topic.strip('/').replace('/', slash)}.mp4" for topic in topics}
        if len(set(names.values())) == len(names):
            break
    return names


def write_video(
    path: Path, bag: Bag, topic: str, records: Records, classes: Sequence[str], threshold: float
) -> None:
    """Write the answered frames of a topic with their detections as an .mp4 of constant rate.

    Where frames differ in size, it has the one that most of them have.

    Raises:
        BagError: the file cannot be written, or there is no encoder.
    """
    codec, decoder = Codec(bag.topics.values()), ImageDecoder()
    own = [(r.time, r.size) for r in records() if r.topic == topic and r.outcome == ANSWERED]
    stamps = np.array([time for time, _ in own], np.int64)
    if not len(stamps):
        return
    period = float(np.median(np.diff(stamps))) * 1e-9 if len(stamps) > 1 else 0.0
    answered = (r for r in records() if r.topic == topic and r.outcome == ANSWERED)
    record = next(answered)
    (((height, width), _),) = Counter(size for _, size in own).most_common(1)
    with explained(path), replacing(path) as temporary:
        rate = min(max(1 / period, 1.0), 120.0) if period > 0 else 10.0
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        video = cv2.VideoWriter(str(temporary), fourcc, rate, (width, height))
        if not video.isOpened():
            raise BagError(f"cannot write {path}: OpenCV has no encoder for it here")
        written = 0
        for message in bag.messages([topic], int(stamps.min()), int(stamps.max()) + 1):
            if message.time != record.time:
                continue
            frame = read_frame(message, codec, decoder)
            if frame.picture is None:
                continue
            canvas = bgr_copy(frame.picture)
            draw_detections(canvas, above(record.detections, threshold), classes)
            if canvas.shape[:2] != (height, width):
                canvas = np.asarray(cv2.resize(canvas, (width, height)), np.uint8)
            video.write(canvas)
            written += 1
            following = next(answered, None)
            if following is None:
                break
            record = following
        video.release()
        # OpenCV does not tell that the disk is full: what cannot be read back was not written.
        check = cv2.VideoCapture(str(temporary))
        whole = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) == written
        check.release()
        if not whole:
            raise OSError(28, "the video is incomplete, perhaps the disk is full")
