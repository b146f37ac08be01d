# SPDX-License-Identifier: Apache-2.0
"""Evaluating what a live detector node published while a recording was played to it.

What the node answered, and when, becomes the log of a run (``record.Log``), as if the recording had
been replayed here; everything after that is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from compact_yolo_ros.apps.evaluate_bag.detection_run import SESSIONS, Job, claim, log_path
from compact_yolo_ros.apps.evaluate_bag.frame_results import ANSWERED, DROPPED, Log, Record, Times
from compact_yolo_ros.apps.evaluate_bag.outputs import explained
from compact_yolo_ros.apps.evaluate_bag.playback import read_frame
from compact_yolo_ros.detection.detection_array import class_name, read_detection_array
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.pixels.decoding import ImageDecoder
from compact_yolo_ros.recordings.codec import DETECTIONS, Codec, stamp_of
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError

PERFORMANCE = "/performance"
"""How the topic with the figures of single images ends."""


def take_over(job: Job, bag: Bag, recorded: Path, classes: tuple[str, ...], folder: Path) -> None:
    """Write what a node published as the finished log of ``job``, which must be a realtime one.

    Args:
        job: names the recording and the topic that was played.
        bag: that recording.
        recorded: recording of the node's detections and, with more to tell, its ``~/performance``.
        classes: of the model.
        folder: of the run; its log is begun anew.

    Raises:
        BagError: there are no detections, or the job is of several topics.
    """
    if len(job.topics) != 1:
        raise BagError("what a node published is evaluated for one topic: give --topic")
    published = Bag([recorded])
    answers, watts = dict(_answers(published, classes)), _watts(published)
    claim(job, bag, folder, restart=True)
    log = Log(log_path(folder, 0))
    try:
        for record in _records(job, bag, answers):
            log.append(record)
        log.finish(bag.lost)
    finally:
        log.close()
    if watts:
        power = {"source": "the node", "mode": "", "watts": fmean(watts), "throttling": ""}
        seconds = (published.end - published.start) * 1e-9
        session = {"seconds": seconds, "frames": 0, "power": {**power, "problem": ""}}
        path = folder / SESSIONS
        with explained(path):
            path.write_text(json.dumps(session) + "\n")


def _answers(
    recorded: Bag, classes: tuple[str, ...]
) -> Iterator[tuple[int, tuple[Detections, int, Times]]]:
    """Detections of each image by its stamp, when they were there (ns), and the stages' times."""
    codec = Codec(recorded.topics.values())
    topics = [topic for topic in recorded.topics.values() if topic.type == DETECTIONS]
    if len(topics) != 1 or not topics[0].count:
        there = ", ".join(f"{t.name} ({t.count})" for t in topics) or "none"
        raise BagError(f"one topic of detections is needed, and {recorded.paths[0]} has: {there}")
    measured = _measured(recorded, codec)
    for message in recorded.messages([topics[0].name]):
        content = codec.read(message)
        stamp = stamp_of(content, message.time)
        age, times = measured.get(stamp, (None, Times()))
        finished = message.time if age is None else stamp + round(age * 1e9)
        yield stamp, (_detections(content, classes), finished, times)


def _measured(recorded: Bag, codec: Codec) -> dict[int, tuple[float, Times]]:
    """Age and times of the stages, in seconds, by the image's stamp, as the node measured them."""
    found = {}
    names = [name for name in recorded.topics if name.endswith(PERFORMANCE)]
    for message in recorded.messages(names):
        content = codec.read(message)
        pairs = {pair.key: pair.value for pair in content.status[0].values}
        stages = (float(pairs.get(f"{stage}_ms", 0)) * 1e-3 for stage in Times._fields)
        stamp = stamp_of(content, message.time)
        found[stamp] = (float(pairs["age_ms"]) * 1e-3, Times(*stages))
    return found


def _watts(recorded: Bag) -> list[float]:
    """The power that the node read with each image, where it could."""
    codec = Codec(recorded.topics.values())
    names = [name for name in recorded.topics if name.endswith(PERFORMANCE)]
    contents = (codec.read(message) for message in recorded.messages(names))
    pairs = (pair for content in contents for pair in content.status[0].values)
    return [float(pair.value) for pair in pairs if pair.key == "power_w"]


def _detections(message: Any, classes: tuple[str, ...]) -> Detections:
    boxes, scores, class_ids = read_detection_array(message)
    return Detections(
        boxes.astype(np.float32),
        scores.astype(np.float32),
        np.array([_label(text, classes) for text in class_ids], np.int32),
    )


def _label(class_id: str, classes: tuple[str, ...]) -> int:
    name = class_name(class_id, classes)
    if name not in classes:
        raise BagError(
            f"the node found '{class_id}', which the model does not know: give its --model"
        )
    return classes.index(name)


def _records(
    job: Job, bag: Bag, answers: dict[int, tuple[Detections, int, Times]]
) -> Iterator[Record]:
    """A record for every image of the recording."""
    codec, decoder = Codec(bag.topics.values()), ImageDecoder()
    for message in bag.messages(job.topics, job.start, job.stop):
        frame = read_frame(message, codec, decoder)
        answer = answers.get(frame.stamp)
        if frame.picture is None:
            yield frame.unanswered(frame.error)
        elif answer is None:
            yield frame.unanswered(DROPPED)
        else:
            found, finished, times = answer
            height, width = frame.picture.pixels.shape[:2]
            yield replace(
                frame.unanswered(ANSWERED),
                size=(height, width),
                detections=found,
                times=times,
                finished=finished,
            )
