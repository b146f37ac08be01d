# SPDX-License-Identifier: Apache-2.0
"""What a live detector node published while a recording was played to it.

Its detections, and their times, become the log of a run (``FrameLog``), as if the recording had
been played back here; everything after that is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from compact_yolo_ros.apps.evaluate_bag.answer_matching import (
    Moment,
    NodeCounters,
    explain,
    match_answers,
    outcomes_of_unanswered,
)
from compact_yolo_ros.apps.evaluate_bag.frame_log import (
    ANSWERED,
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

DIAGNOSTIC_ARRAY = "diagnostic_msgs/msg/DiagnosticArray"
DIAGNOSTICS, PERFORMANCE = "/diagnostics", "/performance"
"""How the names of the topics with the node's counters, and with single images, end."""
COUNTED = {
    "received": "images_received",
    "processed": "images_processed",
    "dropped": "images_dropped",
    "too_old": "images_too_old",
    "skipped": "images_skipped",
    "errors": "errors",
}
"""Keys on /diagnostics of the node's counters."""
CLOCK_STEP = 10_000_000
"""Ns between two messages on /clock at rate 1."""


@dataclass(frozen=True)
class _Measured:
    """What the node measured of an image: age and stages in seconds, power in watts."""

    moment: Moment
    age: float
    stages: FrameStages
    watts: float | None


@dataclass(frozen=True)
class _Answer:
    """Detections of an image, and what the node measured of it; None if that was not recorded."""

    moment: Moment
    detections: Detections
    measured: _Measured | None = None


@dataclass(frozen=True)
class _Frame:
    """A frame that was played: without an outcome as yet if it can be read, and has a size then."""

    result: FrameResult
    moment: Moment
    size: Size


def write_node_log(
    job: Job, bag: Bag, recorded: Path, classes: tuple[str, ...], folder: Path, rate: float = 1.0
) -> None:
    """Write what a node published as the finished log of ``job``, which must be a realtime one.

    Args:
        job: names the recording and the topic that was played.
        bag: that recording.
        recorded: recording of the node's detections and, where they were, its ``~/performance``
            and /diagnostics.
        classes: of the model.
        folder: of the results; a log in it is replaced.
        rate: how fast the recording was played.

    Raises:
        BagError: there are no detections, or the job is of several topics.
    """
    if len(job.topics) != 1:
        raise BagError("what a node published is evaluated for one topic: give --topic")
    published = Bag([recorded])
    measured = list(_measured(published))
    answers = _with_measured(list(_answers(published, classes)), measured, rate)
    frames = _frames(job, bag)
    claim(job, bag, folder, restart=True)
    log = FrameLog(log_path(folder, 0))
    counters, answered = _counters(published, job.topics[0]), 0
    try:
        for result in _results(frames, answers, counters, rate):
            answered += result.outcome == ANSWERED
            log.append(result)
        log.finish([*bag.lost, *_strangers(answered, len(answers))])
    finally:
        log.close()
    watts = [image.watts for image in measured if image.watts is not None]
    if watts:
        power = MeasuredPower("the node", "", fmean(watts), "", "")
        write_session(folder, Session((published.end - published.start) * 1e-9, 0, power))


def _strangers(answered: int, answers: int) -> list[str]:
    """A sentence about answers to no frame of the recording, if there are any."""
    if answers == answered:
        return []
    return [
        f"{answers - answered} of {answers} answers of the node are to images that are not in the "
        "recording, or not in its part that is evaluated"
    ]


def _answers(recorded: Bag, classes: tuple[str, ...]) -> Iterator[_Answer]:
    """What the node found, in the order of time."""
    codec = Codec(recorded.topics.values())
    topics = [topic for topic in recorded.topics.values() if topic.type == DETECTION_ARRAY]
    if len(topics) != 1 or not topics[0].count:
        there = ", ".join(f"{t.name} ({t.count})" for t in topics) or "none"
        raise BagError(f"one topic of detections is needed, and {recorded.paths[0]} has: {there}")
    for message in recorded.messages([topics[0].name]):
        content = codec.read(message)
        yield _Answer(Moment(stamp_of(content, 0), message.time), _detections(content, classes))


def _measured(recorded: Bag) -> Iterator[_Measured]:
    """What the node measured of each image, in the order of time."""
    for content, time in _diagnostics(recorded, PERFORMANCE):
        for texts in content[:1]:
            stages = (_number(texts, f"{stage}_ms") * 1e-3 for stage in FrameStages._fields)
            yield _Measured(
                time,
                _number(texts, "age_ms", math.nan) * 1e-3,
                FrameStages(*stages),
                _number(texts, "power_w") if "power_w" in texts else None,
            )


def _counters(recorded: Bag, topic: str) -> NodeCounters | None:
    """What the node has counted in the end of the images of a topic; None if it is not known."""
    found: dict[str, NodeCounters] = {}
    for statuses, _ in _diagnostics(recorded, DIAGNOSTICS):
        for texts in statuses:
            if COUNTED["received"] in texts:
                counts = {name: round(_number(texts, key)) for name, key in COUNTED.items()}
                counters = NodeCounters(**counts, last_error=texts.get("last_error", ""))
                found[texts.get("image_topic", "")] = counters
    # Where there is one camera only, another topic is what this one was remapped to.
    return found.get(topic) or (next(iter(found.values())) if len(found) == 1 else None)


def _diagnostics(recorded: Bag, end: str) -> Iterator[tuple[list[dict[str, str]], Moment]]:
    """Values of all statuses of a message, of the topics whose names end like this."""
    codec = Codec(recorded.topics.values())
    names = [
        topic.name
        for topic in recorded.topics.values()
        if topic.type == DIAGNOSTIC_ARRAY and topic.name.endswith(end)
    ]
    for message in recorded.messages(names) if names else ():
        content = codec.read(message)
        values = [{pair.key: pair.value for pair in s.values} for s in content.status]
        yield values, Moment(stamp_of(content, 0), message.time)


def _number(texts: Mapping[str, str], key: str, default: float = 0.0) -> float:
    """A number among the values of a status; ``default`` if there is none, or another text."""
    try:
        value = float(texts[key])
    except (KeyError, ValueError):
        return default
    return value if math.isfinite(value) else default


def _detections(message: Any, classes: tuple[str, ...]) -> Detections:
    try:
        return detections_of(message, classes)
    except ValueError as error:
        raise BagError(
            f"{error} in the model, but the node found it: give the node's --model"
        ) from None


def _with_measured(
    answers: Sequence[_Answer], measured: Sequence[_Measured], rate: float
) -> list[_Answer]:
    """Give each answer what was measured of it."""
    pairs = match_answers(
        [answer.moment for answer in answers],
        [image.moment for image in measured],
        round(CLOCK_STEP * rate),
    )
    return [
        replace(answer, measured=measured[pairs[number]]) if number in pairs else answer
        for number, answer in enumerate(answers)
    ]


def _frames(job: Job, bag: Bag) -> list[_Frame]:
    """The frames that were played."""
    codec, decoder = Codec(bag.topics.values()), ImageDecoder()
    found = []
    for message in bag.messages(job.topics, job.start, job.stop):
        frame = read_frame(message, codec, decoder)
        moment = Moment(frame.stamp if frame.stamped else 0, frame.time)
        size = Size(0, 0)
        if frame.image is not None:
            height, width = frame.image.pixels.shape[:2]
            size = Size(width, height)
        found.append(_Frame(frame.unanswered(frame.error), moment, size))
    return found


def _results(
    frames: Sequence[_Frame],
    answers: Sequence[_Answer],
    counters: NodeCounters | None,
    rate: float,
) -> Iterator[FrameResult]:
    """The result of every frame."""
    readable = [number for number, frame in enumerate(frames) if not frame.result.outcome]
    pairs = match_answers(
        [frames[number].moment for number in readable],
        [answer.moment for answer in answers],
        round(CLOCK_STEP * rate),
    )
    found = {readable[number]: answers[answer] for number, answer in pairs.items()}
    outcomes = iter(
        outcomes_of_unanswered(
            len(readable) - len(found),
            frames=len(frames),
            unreadable=len(frames) - len(readable),
            answers=len(answers),
            counters=counters,
        )
    )
    for number, frame in enumerate(frames):
        if frame.result.outcome:
            yield frame.result
        elif number in found:
            yield _answered(frame, found[number], rate)
        else:
            outcome = next(outcomes)
            yield replace(frame.result, outcome=outcome, problem=explain(outcome, counters))


def _answered(frame: _Frame, answer: _Answer, rate: float) -> FrameResult:
    measured = answer.measured
    return replace(
        frame.result,
        outcome=ANSWERED,
        size=frame.size,
        detections=answer.detections,
        stages=measured.stages if measured else FrameStages(),
        finished=_finished(frame.moment, answer, rate),
    )


def _finished(frame: Moment, answer: _Answer, rate: float) -> int:
    """When the detections of a frame would have been there at rate 1, in ns."""
    measured = answer.measured
    if measured is None or math.isnan(measured.age):
        return frame.time + round((answer.moment.time - frame.time) / rate)
    age = round(measured.age * 1e9)
    if not frame.stamp:  # then the node's age is from the reception on, by the machine's clock
        return frame.time + age
    # On the clock of the playback, what the node takes is as many times longer.
    return frame.time + round((frame.stamp + age - frame.time) / rate)
