# SPDX-License-Identifier: Apache-2.0
"""Judging the node's state: one level and one sentence for /diagnostics (REP-107)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from compact_yolo_ros.diagnostics.statistics import WINDOW, Snapshot

SILENCE = 2.0
"""Seconds without an image after which the answer is stale."""
KEEPING_UP = 0.9
"""Share of the images that must be answered; below it the node is falling behind."""
MIN_IMAGES = 10
"""Images in the window before a share of them means anything."""


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


class Verdict(NamedTuple):
    """What /diagnostics says in its first line."""

    level: Level
    message: str


@dataclass(frozen=True)
class Situation:
    """What surrounds the frames.

    Attributes:
        state: lifecycle state, for example ``active``.
        enabled: whether ``~/enable`` lets images through.
        failure: why configuring or activating failed; empty if it did not.
        topic: the image topic.
        publishers: publishers on it.
        incompatible_qos: a publisher offers less than the subscription asks for.
        warning: what is not as the user asked for, although it works; empty if all is.
        throttling: what slowed the machine down in the last seconds; empty if nothing did.
    """

    state: str
    enabled: bool
    failure: str
    topic: str
    publishers: int
    incompatible_qos: bool
    warning: str = ""
    throttling: str = ""


def judge(snapshot: Snapshot, situation: Situation) -> Verdict:
    """Return the worst thing that is true now, or OK with the rate and the age."""
    verdict = _judge(snapshot, situation)
    if verdict.level == Level.OK and situation.warning:
        return Verdict(Level.WARN, situation.warning)
    return verdict


def _judge(snapshot: Snapshot, situation: Situation) -> Verdict:
    if situation.failure:
        return Verdict(Level.ERROR, situation.failure)
    if situation.state != "active":
        return Verdict(Level.OK, f"{situation.state}: waiting for a lifecycle transition")
    if not situation.enabled:
        return Verdict(Level.OK, "disabled by ~/enable")
    if snapshot.silence >= SILENCE:
        return _silent(snapshot, situation)
    if snapshot.recent_errors:
        level = Level.ERROR if snapshot.age is None else Level.WARN
        return Verdict(level, f"{snapshot.recent_errors} failures: {snapshot.last_error}")
    if snapshot.age is None:
        if snapshot.stale:
            return Verdict(Level.WARN, "every image is older than max_age: check the clocks")
        return Verdict(Level.OK, "waiting for the first answer")
    if situation.throttling:
        return Verdict(
            Level.WARN,
            f"the machine is slowed down: {situation.throttling}; check its power supply and "
            f"cooling, or take a lower power mode ({snapshot.fps_out:.1f} images/s)",
        )
    many = snapshot.fps_in * WINDOW >= MIN_IMAGES
    if many and snapshot.fps_out < KEEPING_UP * snapshot.fps_in:
        return Verdict(
            Level.WARN,
            f"falling behind: {snapshot.fps_in:.1f} images/s arrive, "
            f"{snapshot.fps_out:.1f} are answered; a smaller input_size or model is faster",
        )
    return Verdict(
        Level.OK, f"{snapshot.fps_out:.1f} images/s, median age {snapshot.age.p50 * 1e3:.1f} ms"
    )


def _silent(snapshot: Snapshot, situation: Situation) -> Verdict:
    topic = situation.topic
    if situation.incompatible_qos:
        return Verdict(
            Level.ERROR,
            f"{topic} is published best effort but reliable was asked for, so nothing arrives: "
            "set reliability to auto",
        )
    if situation.publishers == 0:
        return Verdict(Level.STALE, f"{topic} has no publisher: check image_topic")
    return Verdict(
        Level.STALE,
        f"no image on {topic} for {snapshot.silence:.0f} s although it has "
        f"{situation.publishers} publisher(s): check the camera and the DDS profile",
    )
