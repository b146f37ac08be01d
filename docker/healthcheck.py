#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ends with 0 if a detector reports on /diagnostics that its detections go out, else with 1.

One that ``~/enable`` has disabled is healthy, too.
For a container's health check or a supervisor: ``healthcheck.py [name of the status]``.
"""

from __future__ import annotations

import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

PATIENCE = 5.0
"""Seconds to wait: the node reports once a second, after discovery."""
HEALTHY = (DiagnosticStatus.OK, DiagnosticStatus.WARN)


def main(name: str = "/detector: detections") -> int:
    """Wait for one status of that name, print it and return the exit code."""
    found: list[DiagnosticStatus] = []

    def store(message: DiagnosticArray) -> None:
        found.extend(status for status in message.status if status.name == name)

    rclpy.init()
    node = rclpy.create_node("healthcheck", enable_rosout=False, start_parameter_services=False)
    try:
        node.create_subscription(DiagnosticArray, "/diagnostics", store, 10)
        end = time.monotonic() + PATIENCE
        while not found and time.monotonic() < end:
            rclpy.spin_once(node, timeout_sec=0.5)
    finally:
        node.destroy_node()
        rclpy.shutdown()
    if not found:
        print(f"no status '{name}' on /diagnostics within {PATIENCE:.0f} s")
        return 1
    print(found[-1].message)
    # One that waits to be configured or activated is at OK, and publishes nothing.
    states = [pair.value for pair in found[-1].values if pair.key == "state"]
    return 0 if found[-1].level in HEALTHY and states in ([], ["active"]) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
