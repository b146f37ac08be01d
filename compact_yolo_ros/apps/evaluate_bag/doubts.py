# SPDX-License-Identifier: Apache-2.0
"""What makes the figures of a recording doubtful although nothing is lost, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from compact_yolo_ros.apps.evaluate_bag.frame_labels import FrameLabels
from compact_yolo_ros.apps.evaluate_bag.topic_statistics import TopicStatistics

BEHIND = 1.0
"""Seconds from which on a slow playback is told."""


def doubts(
    statistics: Mapping[str, TopicStatistics],
    labels: Mapping[str, FrameLabels],
    *,
    realtime: bool,
    lost: bool,
    behind: float,
) -> tuple[str, ...]:
    """What a person should know before believing the figures.

    Args:
        statistics: by topic.
        labels: by topic.
        realtime: whether ages are given.
        lost: whether images are missing.
        behind: seconds that playback to a live node took longer than it should have.
    """
    found: list[str] = []
    for topic, part in statistics.items():
        found += _of_repeated_stamps(topic, part)
        found += _of_ages(topic, part) if realtime else ()
    found += [
        f"the labels of {topic} go by the number of the frame: behind missing images they are "
        "those of other frames, and the accuracy is wrong"
        for topic, part in labels.items()
        if lost and part.numbers is not None
    ]
    if behind >= BEHIND:
        found.append(
            f"the player took {behind:.1f} s longer than it should have, because it could not read "
            "or send the images fast enough: fewer came a second than were recorded, and more of "
            "them were answered; play at a lower rate"
        )
    return tuple(found)


def _of_repeated_stamps(topic: str, part: TopicStatistics) -> Iterator[str]:
    repeated = len(part.stamps) - len(np.unique(part.stamps))
    if repeated:
        yield (
            f"{repeated} of {len(part.stamps)} images of {topic} have the stamp of another one: "
            "by their stamps, labels and ages cannot be assigned rightly"
        )


def _of_ages(topic: str, part: TopicStatistics) -> Iterator[str]:
    if part.has_other_clock:
        side = "after" if part.delay < 0 else "before"
        yield (
            f"the stamps of {topic} are {abs(part.delay):.2f} s {side} the times of recording: "
            "they are of another clock, so the age of the detections is not known; synchronise "
            "the clocks of camera and recorder (chrony or PTP)"
        )
        return
    if part.impossible_ages:
        yield (
            f"{part.impossible_ages} of {len(part.seconds)} answered images of {topic} would have "
            "been answered before their stamps: those ages are left out; the clocks of camera and "
            "recorder differ, or jump"
        )
    if len(part.stamps) and np.array_equal(part.stamps, part.received):
        yield (
            f"the images of {topic} have no stamps but the times of recording: the age of the "
            "detections is without the way from the camera to the recorder"
        )
