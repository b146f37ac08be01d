# SPDX-License-Identifier: Apache-2.0
"""The health of the node and of each camera: a level and a sentence for /diagnostics (REP 107)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from compact_yolo_ros.ros.diagnostics.camera_health import UNANSWERED, assess_camera
from compact_yolo_ros.ros.diagnostics.situations import CameraState, NodeSituation
from compact_yolo_ros.ros.diagnostics.status import BY_SEVERITY, Level, Status


class Health(NamedTuple):
    """How the node is.

    Attributes:
        node: everything: the worst of the other two.
        shared: what the cameras share.
        cameras: each camera, by its name.
        is_resting: whether no image is processed, for a reason that all of them give.
    """

    node: Status
    shared: Status
    cameras: dict[str, Status]
    is_resting: bool = False


def assess(node: NodeSituation, cameras: Mapping[str, CameraState]) -> Health:
    """Find the worst problem of each camera and of the node.

    Args:
        node: what the cameras share.
        cameras: each by its name; a single one may have an empty name.
    """
    rest = _resting(node)
    if rest is not None:
        return Health(rest, rest, dict.fromkeys(cameras, rest), is_resting=True)
    fps_out = sum(state.snapshot.fps_out for state in cameras.values())
    statuses = {
        name: assess_camera(
            state.snapshot,
            state.situation,
            others_are_answered=fps_out > state.snapshot.fps_out,
        )
        for name, state in cameras.items()
    }
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
    if node.state == "finalized":
        return Status(Level.WARN, "finalized: the node was shut down, only a new start helps")
    if node.state == "active" and node.enabled:
        return None
    if node.state == "active":
        sentence = "disabled by ~/enable"
    else:
        sentence = f"{node.state}: waiting for a lifecycle transition"
    problems = _problems(node)
    level = Level.WARN if problems else Level.OK
    return Status(level, "; ".join([sentence, *problems]))


def _problems(node: NodeSituation) -> list[str]:
    """What is wrong whether images are processed or not, a sentence each."""
    return [sentence for sentence in (node.leftover, node.warning, *node.concerns) if sentence]


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
    sentences = _problems(node)
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
