# SPDX-License-Identifier: Apache-2.0
"""Sending images that the middleware may not be able to take."""

from __future__ import annotations

from typing import Any

from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.publisher import Publisher

from compact_yolo_ros.support.error_text import first_line

CURE = "lower the rate or use reliability best_effort"


class ImageSender:
    """Sends images, and counts them.

    Attributes:
        published: images that were sent.
        failed: those that DDS could not take; the first one is logged.
    """

    def __init__(self, logger: RcutilsLogger) -> None:
        """Start with none."""
        self._logger = logger
        self.published = self.failed = 0

    def send(self, publisher: Publisher[Any], message: Any) -> None:
        """Publish a message, or its serialised bytes."""
        try:
            publisher.publish(message)
            self.published += 1
        except RuntimeError as error:  # rclpy's RCLError: the middleware's queues are full
            self.failed += 1
            if self.failed == 1:
                self._logger.warning(
                    f"An image could not be sent ({first_line(error)}): {CURE}; further ones are"
                    " only counted"
                )

    def problems(self) -> list[str]:
        """A sentence about the images that were not sent; none if all were."""
        return [f"{self.failed} image(s) could not be sent: {CURE}"] if self.failed else []
