# SPDX-License-Identifier: Apache-2.0
"""Judging each camera and the node: one level and one sentence for /diagnostics (REP-107)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from compact_yolo_ros.ros.diagnostics.frame_counters import WINDOW, Snapshot

SILENCE = 2.0
"""Seconds without an image after which the answer is stale."""
KEEPING_UP = 0.9
"""Share of the images not left out on purpose that must be answered, else it is falling behind."""
MIN_IMAGES = 10
"""Images in the window before a share of them means anything."""


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


BY_SEVERITY = (Level.ERROR, Level.STALE, Level.WARN, Level.OK)


class Verdict(NamedTuple):
    """What /diagnostics says in its first line."""

    level: Level
    message: str


@dataclass(frozen=True)
class NodeSituation:
    """What concerns all cameras.

    Attributes:
        state: lifecycle state, for example ``active``.
        enabled: whether ``~/enable`` lets images through.
        failure: why configuring or activating failed; empty if it did not.
        warning: what is not as the user asked for, although it works; empty if all is.
        throttling: what slowed the machine down in the last seconds; empty if nothing did.
    """

    state: str
    enabled: bool = True
    failure: str = ""
    warning: str = ""
    throttling: str = ""


@dataclass(frozen=True)
class CameraSituation:
    """What surrounds the images of one camera.

    Attributes:
        topic: the image topic.
        publishers: publishers on it.
        incompatible_qos: a publisher offers less than the subscription asks for.
        reliability: the reliability asked for.
    """

    topic: str
    publishers: int
    incompatible_qos: bool
    reliability: str


class CameraState(NamedTuple):
    """One camera at one moment."""

    snapshot: Snapshot
    situation: CameraSituation


class Health(NamedTuple):
    """Verdicts.

    Attributes:
        node: on everything: the worst of the other two.
        shared: on what the cameras share.
        cameras: on each camera, by its name.
    """

    node: Verdict
    shared: Verdict
    cameras: dict[str, Verdict]


def judge(node: NodeSituation, cameras: Mapping[str, CameraState]) -> Health:
    """Return the worst thing that is true now, of each camera and of them all.

    Args:
        node: what the cameras share.
        cameras: each by its name; a sole one may have an empty name.
    """
    rest = _resting(node)
    if rest is not None:
        return Health(rest, rest, dict.fromkeys(cameras, rest))
    verdicts = {name: judge_camera(*state) for name, state in cameras.items()}
    fps_out = sum(state.snapshot.fps_out for state in cameras.values())
    well = Verdict(Level.OK, f"{fps_out:.1f} images/s from {len(cameras)} camera(s)")
    shared = _with_shared(well, node, fps_out)
    return Health(_with_shared(_worst(verdicts, well), node, fps_out), shared, verdicts)


def _resting(node: NodeSituation) -> Verdict | None:
    """Why no camera is worked for; None if they are."""
    if node.failure:
        return Verdict(Level.ERROR, node.failure)
    if node.state != "active":
        return Verdict(Level.OK, f"{node.state}: waiting for a lifecycle transition")
    if not node.enabled:
        return Verdict(Level.OK, "disabled by ~/enable")
    return None


def judge_camera(snapshot: Snapshot, camera: CameraSituation) -> Verdict:
    """Return the worst thing that is true now of a camera, or OK with its rate and age."""
    if snapshot.silence >= SILENCE:
        return _silent(snapshot, camera)
    if snapshot.recent_errors:
        level = Level.ERROR if snapshot.age is None else Level.WARN
        return Verdict(level, f"{snapshot.recent_errors} failures: {snapshot.last_error}")
    if snapshot.age is None:
        if snapshot.stale:
            return Verdict(Level.WARN, "every image is older than max_age: check the clocks")
        return Verdict(Level.OK, "waiting for the first answer")
    wanted = snapshot.fps_in - snapshot.fps_skipped
    if wanted * WINDOW >= MIN_IMAGES and snapshot.fps_out < KEEPING_UP * wanted:
        return Verdict(
            Level.WARN,
            f"falling behind: {snapshot.fps_in:.1f} images/s arrive, "
            f"{snapshot.fps_out:.1f} are answered; a smaller input_size or model is faster",
        )
    return Verdict(
        Level.OK, f"{snapshot.fps_out:.1f} images/s, median age {snapshot.age.p50 * 1e3:.1f} ms"
    )


def _worst(cameras: Mapping[str, Verdict], well: Verdict) -> Verdict:
    """The worst camera's verdict, with its name; ``well`` if all are."""
    if "" in cameras:
        return cameras[""]
    levels = {verdict.level for verdict in cameras.values()}
    level = next((level for level in BY_SEVERITY if level in levels), Level.OK)
    if level == Level.OK:
        return well
    name = next(name for name, verdict in cameras.items() if verdict.level == level)
    # As diagnostic_aggregator does: together they are stale only if each of them is.
    joint = Level.ERROR if level == Level.STALE and len(levels) > 1 else level
    return Verdict(joint, f"{name}: {cameras[name].message}")


def _with_shared(worst: Verdict, node: NodeSituation, fps_out: float) -> Verdict:
    """``worst`` after what the cameras share: that is its cause, or at least as bad."""
    if worst.level > Level.WARN:
        return worst
    sentences = [node.warning] if node.warning else []
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
    return Verdict(Level.WARN, "; ".join(sentences))


def _silent(snapshot: Snapshot, camera: CameraSituation) -> Verdict:
    topic = camera.topic
    if camera.incompatible_qos:
        return Verdict(
            Level.ERROR,
            f"{topic} is published best effort but reliable was asked for, so nothing arrives: "
            "set reliability to auto",
        )
    if camera.publishers == 0:
        return Verdict(Level.STALE, f"{topic} has no publisher: check image_topic")
    return Verdict(
        Level.STALE,
        f"no image on {topic} for {snapshot.silence:.0f} s although it has "
        f"{camera.publishers} publisher(s): check the camera and the DDS profile",
    )
