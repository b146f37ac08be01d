# SPDX-License-Identifier: Apache-2.0
"""The health of each camera and of the node: a level and a sentence for /diagnostics (REP 107)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from compact_yolo_ros.machine.power.monitor import WINDOW
from compact_yolo_ros.ros.diagnostics.frame_counters import Snapshot

SILENCE = 2.0
"""Seconds without an image after which a camera is stale."""
KEEPING_UP = 0.9
"""Share of the images that must be processed, skipped ones aside; else it is falling behind."""
UNANSWERED = 5.0
"""Seconds for which images arrive, or one is in work, without any answer: then it is an error."""
MIN_IMAGES = 10
"""Images in the window before a share of them means anything."""


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


BY_SEVERITY = (Level.ERROR, Level.STALE, Level.WARN, Level.OK)


class Status(NamedTuple):
    """The first line of a status on /diagnostics."""

    level: Level
    message: str


class Work(NamedTuple):
    """The image in work.

    Attributes:
        camera: where it came from; empty for a single camera.
        stage: what is done with it, for example ``decode``.
        seconds: how long ago it was taken.
    """

    camera: str
    stage: str
    seconds: float

    def __str__(self) -> str:
        which = f"an image of {self.camera}" if self.camera else "an image"
        return f"{which} has been in work for {self.seconds:.0f} s, now in {self.stage}"


@dataclass(frozen=True)
class NodeSituation:
    """What concerns all cameras.

    Attributes:
        state: lifecycle state, for example ``active``.
        enabled: whether ``~/enable`` lets images through.
        failure: why configuring or activating failed; empty if it did not.
        warning: what differs from the parameters although it works; empty if nothing does.
        throttling: what slowed the machine down in the last seconds; empty if nothing did.
        work: the image in work; None if there is none.
        leftover: what goes on although it should have ended; empty if nothing does.
    """

    state: str
    enabled: bool = True
    failure: str = ""
    warning: str = ""
    throttling: str = ""
    work: Work | None = None
    leftover: str = ""


@dataclass(frozen=True)
class CameraSituation:
    """What surrounds the images of one camera.

    Attributes:
        topic: the image topic.
        publishers: publishers on it.
        incompatible_qos: a publisher offers less than the subscription asks for.
        reliability: that of the subscription.
        subscribers: of the detections, as far as they are connected.
    """

    topic: str
    publishers: int
    incompatible_qos: bool
    reliability: str
    subscribers: int = 0


class CameraState(NamedTuple):
    """One camera at one moment."""

    snapshot: Snapshot
    situation: CameraSituation


class Health(NamedTuple):
    """How the node is.

    Attributes:
        node: everything: the worst of the other two.
        shared: what the cameras share.
        cameras: each camera, by its name.
    """

    node: Status
    shared: Status
    cameras: dict[str, Status]


def assess(node: NodeSituation, cameras: Mapping[str, CameraState]) -> Health:
    """Find the worst problem of each camera and of the node.

    Args:
        node: what the cameras share.
        cameras: each by its name; a single one may have an empty name.
    """
    rest = _resting(node)
    if rest is not None:
        return Health(rest, rest, dict.fromkeys(cameras, rest))
    statuses = {name: assess_camera(*state) for name, state in cameras.items()}
    fps_out = sum(state.snapshot.fps_out for state in cameras.values())
    healthy = Status(Level.OK, f"{fps_out:.1f} images/s from {len(cameras)} camera(s)")
    shared = _with_shared(healthy, node, fps_out)
    return Health(_with_shared(_worst(statuses, healthy), node, fps_out), shared, statuses)


def _resting(node: NodeSituation) -> Status | None:
    """Why no image is processed; None if images are."""
    if node.failure:
        return Status(Level.ERROR, node.failure)
    if node.work is not None and node.work.seconds >= UNANSWERED:
        return Status(
            Level.ERROR, f"no image is answered: {node.work}; if it stays there, restart the node"
        )
    if node.state == "active" and node.enabled:
        return None
    resting = node.state if node.state != "active" else "disabled"
    if node.leftover:
        return Status(Level.WARN, f"{resting}: {node.leftover}")
    if resting == "disabled":
        return Status(Level.OK, "disabled by ~/enable")
    return Status(Level.OK, f"{node.state}: waiting for a lifecycle transition")


def assess_camera(snapshot: Snapshot, camera: CameraSituation) -> Status:
    """Find the worst problem of a camera; OK with its rate and age if there is none."""
    if snapshot.silence >= SILENCE:
        return _silent(snapshot, camera)
    if snapshot.recent_errors:
        level = Level.ERROR if snapshot.age is None else Level.WARN
        return Status(level, f"{snapshot.recent_errors} failures: {snapshot.last_error}")
    if snapshot.age is None:
        if snapshot.too_old:
            return Status(Level.WARN, "every image is older than max_age: check the clocks")
        return _waiting(snapshot)
    expected = snapshot.fps_in - snapshot.fps_skipped
    if expected * WINDOW >= MIN_IMAGES and snapshot.fps_out < KEEPING_UP * expected:
        return Status(
            Level.WARN,
            f"falling behind: {snapshot.fps_in:.1f} images/s arrive, {snapshot.fps_out:.1f} are "
            "processed; a smaller input_size or model is faster",
        )
    return Status(
        Level.OK, f"{snapshot.fps_out:.1f} images/s, median age {snapshot.age.p50 * 1e3:.1f} ms"
    )


def _worst(cameras: Mapping[str, Status], healthy: Status) -> Status:
    """The worst camera's status, with its name; ``healthy`` if all cameras are."""
    if "" in cameras:
        return cameras[""]
    levels = {status.level for status in cameras.values()}
    level = next((level for level in BY_SEVERITY if level in levels), Level.OK)
    if level == Level.OK:
        return healthy
    name = next(name for name, status in cameras.items() if status.level == level)
    # As diagnostic_aggregator does: together they are stale only if each of them is.
    joint = Level.ERROR if level == Level.STALE and len(levels) > 1 else level
    return Status(joint, f"{name}: {cameras[name].message}")


def _with_shared(worst: Status, node: NodeSituation, fps_out: float) -> Status:
    """``worst``, after the problems that the cameras share: they may be its cause."""
    if worst.level > Level.WARN:
        return worst
    sentences = [sentence for sentence in (node.leftover, node.warning) if sentence]
    if node.throttling:
        sentences.insert(
            0,
            f"the machine is slowed down: {node.throttling}; check its power supply and "
            f"cooling, or take a lower power mode ({fps_out:.1f} images/s)",
        )
    if not sentences:
        return worst
    if worst.level == Level.WARN:
        sentences.append(worst.message)
    return Status(Level.WARN, "; ".join(sentences))


def _waiting(snapshot: Snapshot) -> Status:
    if snapshot.unanswered >= UNANSWERED:
        sentence = f"no image was answered for {snapshot.unanswered:.0f} s: restart the node"
        return Status(Level.ERROR, sentence)
    awaited = "answer" if snapshot.received else "image"
    return Status(Level.OK, f"waiting for the first {awaited}")


def _silent(snapshot: Snapshot, camera: CameraSituation) -> Status:
    topic = camera.topic
    if camera.incompatible_qos:
        return Status(
            Level.ERROR,
            f"{topic} is published best effort but the subscription is reliable, so nothing "
            "arrives: set reliability to auto",
        )
    if camera.publishers == 0:
        return Status(Level.STALE, f"{topic} has no publisher: check image_topic")
    return Status(
        Level.STALE,
        f"no image on {topic} for {snapshot.silence:.0f} s although it has "
        f"{camera.publishers} publisher(s): check the camera and the DDS profile",
    )
