# SPDX-License-Identifier: Apache-2.0
"""The network that a node begins with, opened beside what else a start has to do."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from compact_yolo_ros.backends import MissingEngine, Opened, RunOptions, open_at_start
from compact_yolo_ros.ros.detector.parameters import run_options


class Opening:
    """Opens a network in a thread of its own.

    It takes longest of all that a start does, and leaves Python to others for most of that time:
    so it begins before what only they need is imported, and imports nothing that they do.

    Attributes:
        values: of all parameters, by name.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Begin, with the values of all parameters."""
        self.values = values
        beside = ThreadPoolExecutor(1, thread_name_prefix="first backend opener")
        self._opened = beside.submit(_open, values)
        beside.shutdown(wait=False)

    def result(self) -> tuple[RunOptions, Opened | MissingEngine]:
        """Wait for what was opened, and with which options.

        Raises:
            ModelError: the model cannot be found, read or trusted.
            BackendError: it cannot be run.
            ValueError: a parameter cannot be used.
        """
        return self._opened.result()

    def discard(self) -> None:
        """Wait for it, and release what was opened."""
        if self._opened.exception() is None:
            _, opened = self._opened.result()
            if isinstance(opened, Opened):
                opened.backend.close()


def _open(values: Mapping[str, Any]) -> tuple[RunOptions, Opened | MissingEngine]:
    options = run_options(values).pinned()
    return options, open_at_start(options)
