# SPDX-License-Identifier: Apache-2.0
"""What a live node published while a recording was played to it, read from its recording."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from compact_yolo_ros.apps.evaluate_bag.answer_matching import (
    Moment,
    NodeCounters,
    match_answers,
)
from compact_yolo_ros.apps.evaluate_bag.frame_log import FrameStages
from compact_yolo_ros.detection.detection_array import DETECTION_ARRAY, detections_of
from compact_yolo_ros.detection.detections import Detections
from compact_yolo_ros.recordings.codec import Codec, stamp_of
from compact_yolo_ros.recordings.reader import Bag
from compact_yolo_ros.recordings.storage import BagError

DIAGNOSTIC_ARRAY = "diagnostic_msgs/msg/DiagnosticArray"
DIAGNOSTICS, PERFORMANCE = "/diagnostics", "/performance"
"""How the names of the topics with the node's counters, and with single images, end."""
PLAYBACK_RATE = "playback_rate"
"""Key on /diagnostics of the player."""
SECONDS_BEHIND = "seconds_behind"
"""Another one."""
COUNTED = {
    "received": "images_received",
    "processed": "images_processed",
    "dropped": "images_dropped",
    "too_old": "images_too_old",
    "skipped": "images_skipped",
    "errors": "errors",
}
"""Keys on /diagnostics of the node's counters."""


@dataclass(frozen=True)
class Measured:
    """What the node measured of an image: age and stages in seconds, power in watts.

    What is missing of it is nan, and None for the power.
    """

    moment: Moment
    age: float
    stages: FrameStages
    watts: float | None


@dataclass(frozen=True)
class Answer:
    """Detections of an image, and what the node measured of it; None if that was not recorded."""

    moment: Moment
    detections: Detections
    measured: Measured | None = None

    @property
    def waited(self) -> int:
        """Ns from the image's reception to this answer, by the machine's clock; 0 if not known.

        That is what the node measures as the age of an image without a stamp.
        """
        if self.moment.stamp or self.measured is None or math.isnan(self.measured.age):
            return 0
        return round(self.measured.age * 1e9)


@dataclass(frozen=True)
class NodeRun:
    """What a node published, or counted, while a recording was played to it.

    Attributes:
        answers: in the order of time.
        counters: of the images; None if they were not recorded.
        rate: how fast the recording was played.
        behind: seconds that this took longer than at ``rate``, as far as the player has reported.
        watts: mean power; None if it was not recorded.
        seconds: length of what was recorded of the node, on the clock of the playback.
    """

    answers: tuple[Answer, ...]
    counters: NodeCounters | None
    rate: float
    behind: float
    watts: float | None
    seconds: float

    def arrivals(self) -> list[Moment]:
        """For each answer its stamp, and about when its image had reached the node, in ns."""
        return [
            Moment(answer.moment.stamp, answer.moment.time - round(self.rate * answer.waited))
            for answer in self.answers
        ]


class _Reported(NamedTuple):
    """What /diagnostics had in the end.

    Attributes:
        counters: the node's; None if they are not known.
        rate: of the player; 1 if it is not known.
        behind: seconds that the player took longer than at ``rate``.
    """

    counters: NodeCounters | None
    rate: float
    behind: float


def read_node_run(
    recorded: Path, topics: Sequence[str], classes: tuple[str, ...], rate: float | None
) -> NodeRun:
    """Read what a node published.

    Args:
        recorded: recording of the node's detections and, where they were, its ``~/performance``
            and /diagnostics.
        topics: of the images that were played to it.
        classes: of the model.
        rate: how fast; None is what the player has reported, or else 1.

    Raises:
        BagError: there are no detections, or several topics.
    """
    if len(topics) != 1:
        raise BagError("what a node published is evaluated for one topic: give --topic")
    bag = Bag([recorded])
    found, measured = list(_answers(bag, classes)), list(_measured(bag))
    watts = [image.watts for image in measured if image.watts is not None]
    reported = _reported(bag, topics[0])
    run = NodeRun(
        answers=tuple(found),
        counters=reported.counters,
        rate=rate or reported.rate,
        behind=reported.behind,
        watts=fmean(watts) if watts else None,
        seconds=(bag.end - bag.start) * 1e-9,
    )
    pairs = match_answers([a.moment for a in found], [m.moment for m in measured])
    return replace(
        run,
        answers=tuple(
            replace(answer, measured=measured[pairs[number]]) if number in pairs else answer
            for number, answer in enumerate(found)
        ),
    )


def _answers(recorded: Bag, classes: tuple[str, ...]) -> Iterator[Answer]:
    """What the node found, in the order of time."""
    codec = Codec(recorded.topics.values())
    topics = [topic for topic in recorded.topics.values() if topic.type == DETECTION_ARRAY]
    if len(topics) != 1 or not topics[0].count:
        there = ", ".join(f"{t.name} ({t.count})" for t in topics) or "none"
        raise BagError(f"one topic of detections is needed, and {recorded.paths[0]} has: {there}")
    for message in recorded.messages([topics[0].name]):
        content = codec.read(message)
        yield Answer(Moment(stamp_of(content, 0), message.time), _detections(content, classes))


def _measured(recorded: Bag) -> Iterator[Measured]:
    """What the node measured of each image, in the order of time."""
    for content, time in _diagnostics(recorded, PERFORMANCE):
        for texts in content[:1]:
            names = (f"{stage}_ms" for stage in FrameStages._fields)
            watts = _number(texts, "power_w", math.nan)
            yield Measured(
                time,
                _number(texts, "age_ms", math.nan) * 1e-3,
                FrameStages(*(_number(texts, name, math.nan) * 1e-3 for name in names)),
                None if math.isnan(watts) else watts,
            )


def _reported(recorded: Bag, topic: str) -> _Reported:
    """What the node has told of the images of a topic, and the player of itself."""
    rate, behind = 0.0, 0.0
    found: dict[str, NodeCounters] = {}
    for statuses, _ in _diagnostics(recorded, DIAGNOSTICS):
        for texts in statuses:
            rate = max(0.0, _number(texts, PLAYBACK_RATE)) or rate
            behind = max(behind, _number(texts, SECONDS_BEHIND))
            if COUNTED["received"] in texts:
                counts = {name: round(_number(texts, key)) for name, key in COUNTED.items()}
                last_error = texts.get("last_error", "")
                found[texts.get("image_topic", "")] = NodeCounters(**counts, last_error=last_error)
    # Where there is one camera only, another topic is what this one was remapped to.
    counters = found.get(topic) or (next(iter(found.values())) if len(found) == 1 else None)
    return _Reported(counters, rate or 1.0, behind)


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
        found = detections_of(message, classes)
    except ValueError as error:
        raise BagError(
            f"{error} in the model, but the node found it: give the node's --model"
        ) from None
    if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
        stamp = message.header.stamp
        raise BagError(
            f"the detections of the image {stamp.sec}.{stamp.nanosec:09} have a box or a score "
            "that is not finite: find out which node published them"
        )
    return found
