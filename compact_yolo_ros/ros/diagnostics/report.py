# SPDX-License-Identifier: Apache-2.0
"""What is on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from compact_yolo_ros.backends import Opened
from compact_yolo_ros.ros.diagnostics.frame_counters import Snapshot, combined
from compact_yolo_ros.ros.diagnostics.health import Health
from compact_yolo_ros.ros.diagnostics.situations import CameraSituation, CameraState
from compact_yolo_ros.ros.diagnostics.status import Status
from compact_yolo_ros.support.error_text import printable


def to_statuses(
    name: str,
    hardware_id: str,
    health: Health,
    cameras: Mapping[str, CameraState],
    facts: Mapping[str, object],
) -> list[DiagnosticStatus]:
    """Put health, counters and facts into a status of the node and one of each named camera.

    A camera without a name has no status of its own: all of it is in the node's.

    Args:
        name: the node's full name.
        hardware_id: the machine, and what the network runs on.
        health: levels and first lines.
        cameras: counters, times and surroundings of each camera by its name.
        facts: key-value pairs of the node.
    """
    total = combined([state.snapshot for state in cameras.values()])
    if "" in cameras:
        facts = {**facts, **_surroundings(cameras[""].situation)}
    figures = {**_figures(total), **_sums([state.counts for state in cameras.values()])}
    statuses = [_status(f"{name}: detections", health.node, {**facts, **figures})]
    for camera, (snapshot, situation, counts) in cameras.items():
        if camera:
            values = {**_surroundings(situation), **_figures(snapshot), **counts}
            statuses.append(_status(f"{name}: {camera}", health.cameras[camera], values))
    for status in statuses:
        status.hardware_id = hardware_id
    return statuses


def _status(name: str, status: Status, values: Mapping[str, object]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=bytes([status.level]),
        name=name,
        message=printable(status.message),
        values=[KeyValue(key=key, value=printable(str(value))) for key, value in values.items()],
    )


def backend_facts(opened: Opened) -> dict[str, object]:
    """Key-value pairs that say what runs the network, and how."""
    backend = opened.backend
    height, width = backend.input.shape[1:3]
    return {
        "backend": backend.name,
        "device": backend.device,
        "precision": backend.precision,
        "input_size": f"{width}x{height}",
        "threads": backend.threads,
        "backend_choice": opened.choice,
        **backend.details,
        **{f"{part}_ms": f"{1e3 * t:.3f}" for part, t in backend.device_times.items()},
    }


def _surroundings(camera: CameraSituation) -> dict[str, object]:
    return {
        "image_topic": camera.topic,
        "image_publishers": camera.publishers,
        "image_reliability": camera.reliability,
        "detection_subscribers": camera.subscribers,
    }


def _sums(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The counts of several cameras together."""
    keys = dict.fromkeys(key for each in counts for key in each)
    return {key: sum(each.get(key, 0) for each in counts) for key in keys}


def _figures(snapshot: Snapshot) -> dict[str, object]:
    return {**_counters(snapshot), **_times(snapshot)}


def _counters(snapshot: Snapshot) -> dict[str, object]:
    return {
        "fps_in": f"{snapshot.fps_in:.2f}",
        "fps_out": f"{snapshot.fps_out:.2f}",
        "images_received": snapshot.received,
        "images_processed": snapshot.processed,
        "images_dropped": snapshot.dropped,
        "images_too_old": snapshot.too_old,
        "images_skipped": snapshot.skipped,
        "errors": sum(snapshot.errors.values()),
        **{f"errors ({kind})": count for kind, count in sorted(snapshot.errors.items())},
        "last_error": snapshot.last_error or "none",
    }


def _times(snapshot: Snapshot) -> dict[str, str]:
    """Percentiles in milliseconds: ``age_ms`` and ``stage_ms`` by name, p50 / p95 / p99 each."""
    named = {"age": snapshot.age, **snapshot.stages}
    return {
        f"{name}_ms {label}": f"{value * 1e3:.3f}"
        for name, percentiles in named.items()
        if percentiles is not None
        for label, value in percentiles._asdict().items()
    }
