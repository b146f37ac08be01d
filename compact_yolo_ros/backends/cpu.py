# SPDX-License-Identifier: Apache-2.0
"""What the runtimes on the CPU have in common."""

from __future__ import annotations

import os

from compact_yolo_ros.backends.backend import Request

MAX_DEFAULT_THREADS = 4
"""Small networks stop gaining beyond a few threads, and a robot has other work for its cores."""


def default_threads() -> int:
    """Threads used when the user does not say: the cores this process may use, at most four."""
    return min(MAX_DEFAULT_THREADS, len(os.sched_getaffinity(0)))


class CpuBackend:
    """The attributes of a ``Backend`` that follow from the request."""

    device = "CPU"

    def __init__(self, request: Request) -> None:
        """Take the file as it is.

        Raises:
            BackendError: another precision was asked for.
        """
        request.require_file_precision()
        self.card = request.model.card
        self.precision = request.precision
        self.threads = request.threads or default_threads()
        self.choice = self.warning = ""
        self.device_times: dict[str, float] = {}
