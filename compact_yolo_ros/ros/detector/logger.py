# SPDX-License-Identifier: Apache-2.0
"""What the parts of a node need of its logger."""

from __future__ import annotations

from typing import Protocol


class Logger(Protocol):
    """The part of rclpy's logger that is used from any thread."""

    def info(self, message: str) -> object:
        """Log what happens."""

    def warning(self, message: str) -> object:
        """Log what goes wrong."""

    def error(self, message: str) -> object:
        """Log what does not work any more."""
