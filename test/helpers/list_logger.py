# SPDX-License-Identifier: Apache-2.0
"""A logger that keeps its lines."""

from __future__ import annotations


class ListLogger:
    """Stands in for rclpy's logger."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)

    def warning(self, message: str) -> None:
        self.lines.append(message)

    def error(self, message: str) -> None:
        self.lines.append(message)
