# SPDX-License-Identifier: Apache-2.0
"""The message on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from compact_yolo_ros.diagnostics.health import Verdict
from compact_yolo_ros.diagnostics.statistics import Snapshot


def to_diagnostic_array(
    stamp: Time,
    name: str,
    hardware_id: str,
    verdict: Verdict,
    snapshot: Snapshot,
    facts: Mapping[str, object],
) -> DiagnosticArray:
    """Put a verdict, the counters and some facts about the node into one status.

    Args:
        stamp: now, on the node's clock.
        name: the node's full name.
        hardware_id: what the network runs on.
        verdict: level and first line.
        snapshot: counters and times.
        facts: more key-value pairs, shown first.
    """
    values = {**facts, **_counters(snapshot), **_times(snapshot)}
    status = DiagnosticStatus(
        level=bytes([verdict.level]),
        name=f"{name}: detections",
        message=verdict.message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = stamp
    return message


def _counters(snapshot: Snapshot) -> dict[str, object]:
    return {
        "fps_in": f"{snapshot.fps_in:.2f}",
        "fps_out": f"{snapshot.fps_out:.2f}",
        "images_received": snapshot.received,
        "images_processed": snapshot.processed,
        "images_dropped": snapshot.dropped,
        "images_too_old": snapshot.stale,
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
