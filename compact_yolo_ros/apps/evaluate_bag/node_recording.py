# SPDX-License-Identifier: Apache-2.0
"""What a live detector node published while a recording was played to it.

Its detections, and their times, become the log of a run (``FrameLog``), as if the recording had
been played back here; everything after that is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from compact_yolo_ros.apps.evaluate_bag.frame_log import (
    ANSWERED,
    DROPPED,
    FrameLog,
    FrameResult,
    FrameStages,
)
from compact_yolo_ros.apps.evaluate_bag.job import Job
from compact_yolo_ros.apps.evaluate_bag.playback import read_frame
from compact_yolo_ros.apps.evaluate_bag.results import MeasuredPower
from compact_yolo_ros.apps.evaluate_bag.results_folder import claim, log_path
from compact_yolo_ros.apps.evaluate_bag.sessions import Session, write_session
from compact_yolo_ros.detection.detection_array import DETECTION_ARRAY, detections_of
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.model.sizes import Size
from compact_yolo_ros.pixels.decoding import ImageDecoder
from compact_yolo_ros.recordings.codec import Codec, stamp_of
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError

PERFORMANCE = "/performance"
"""How the name of the topic with the measurements of single images ends."""


@dataclass(frozen=True)
class _NodeResult:
    """Detections of an image, when they were there (ns), and what the stages took."""

    detections: Detections
    finished: int
    stages: FrameStages


@dataclass(frozen=True)
class _Measured:
    """What the node measured of an image: age and stages in seconds, power in watts."""

    age: float
    stages: FrameStages
    watts: float | None


def write_node_log(
    job: Job, bag: Bag, recorded: Path, classes: tuple[str, ...], folder: Path
) -> None:
    """Write what a node published as the finished log of ``job``, which must be a realtime one.

    Args:
        job: names the recording and the topic that was played.
        bag: that recording.
        recorded: recording of the node's detections and, where it was, its ``~/performance``.
        classes: of the model.
        folder: of the results; a log in it is replaced.

    Raises:
        BagError: there are no detections, or the job is of several topics.
    """
    if len(job.topics) != 1:
        raise BagError("what a node published is evaluated for one topic: give --topic")
    published = Bag([recorded])
    measured = _measured(published)
    found = dict(_node_results(published, classes, measured))
    claim(job, bag, folder, restart=True)
    log = FrameLog(log_path(folder, 0))
    try:
        for result in _results(job, bag, found):
            log.append(result)
        log.finish(bag.lost)
    finally:
        log.close()
    watts = [image.watts for image in measured.values() if image.watts is not None]
    if watts:
        power = MeasuredPower("the node", "", fmean(watts), "", "")
        write_session(folder, Session((published.end - published.start) * 1e-9, 0, power))


def _node_results(
    recorded: Bag, classes: tuple[str, ...], measured: dict[int, _Measured]
) -> Iterator[tuple[int, _NodeResult]]:
    """What the node found in each image, by its stamp."""
    codec = Codec(recorded.topics.values())
    topics = [topic for topic in recorded.topics.values() if topic.type == DETECTION_ARRAY]
    if len(topics) != 1 or not topics[0].count:
        there = ", ".join(f"{t.name} ({t.count})" for t in topics) or "none"
        raise BagError(f"one topic of detections is needed, and {recorded.paths[0]} has: {there}")
    for message in recorded.messages([topics[0].name]):
        content = codec.read(message)
        stamp = stamp_of(content, message.time)
        found = _detections(content, classes)
        if (image := measured.get(stamp)) is None:
            yield stamp, _NodeResult(found, message.time, FrameStages())
        else:
            yield stamp, _NodeResult(found, stamp + round(image.age * 1e9), image.stages)


def _measured(recorded: Bag) -> dict[int, _Measured]:
    """What the node measured of each image, by its stamp."""
    codec = Codec(recorded.topics.values())
    found = {}
    names = [name for name in recorded.topics if name.endswith(PERFORMANCE)]
    for message in recorded.messages(names):
        content = codec.read(message)
        texts = {pair.key: pair.value for pair in content.status[0].values}
        stages = (float(texts.get(f"{stage}_ms", 0)) * 1e-3 for stage in FrameStages._fields)
        found[stamp_of(content, message.time)] = _Measured(
            float(texts["age_ms"]) * 1e-3,
            FrameStages(*stages),
            float(texts["power_w"]) if "power_w" in texts else None,
        )
    return found


def _detections(message: Any, classes: tuple[str, ...]) -> Detections:
    try:
        return detections_of(message, classes)
    except ValueError as error:
        raise BagError(
            f"{error} in the model, but the node found it: give the node's --model"
        ) from None


def _results(job: Job, bag: Bag, found: dict[int, _NodeResult]) -> Iterator[FrameResult]:
    """The result of every image of the recording."""
    codec, decoder = Codec(bag.topics.values()), ImageDecoder()
    for message in bag.messages(job.topics, job.start, job.stop):
        frame = read_frame(message, codec, decoder)
        result = found.get(frame.stamp)
        if frame.image is None:
            yield frame.unanswered(frame.error)
        elif result is None:
            yield frame.unanswered(DROPPED)
        else:
            height, width = frame.image.pixels.shape[:2]
            yield replace(
                frame.unanswered(ANSWERED),
                size=Size(width, height),
                detections=result.detections,
                stages=result.stages,
                finished=result.finished,
            )
