# SPDX-License-Identifier: Apache-2.0
"""The message on ~/performance: times and counts of one processed image, for plotting."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from compact_yolo_ros.backends import Backend
from compact_yolo_ros.detection.frame_times import FrameTimes


class PerformanceWriter:
    """Writes one message that is used again for the next image."""

    def __init__(self) -> None:
        """Start with an empty message: it gets as many pairs as there are figures."""
        self._status = DiagnosticStatus(level=DiagnosticStatus.OK)
        self._message = DiagnosticArray(status=[self._status])
        self._pool: list[KeyValue] = []

    def write(
        self,
        header: Header,
        camera: str,
        times: FrameTimes,
        *,
        detections: int,
        dropped: int,
        backend: Backend,
        watts: float | None,
    ) -> DiagnosticArray:
        """Write the figures of one image; numbers are plain, their unit is in the key.

        Args:
            header: the image's own header.
            camera: the camera's name; becomes the name of the status.
            times: in seconds, written in milliseconds.
            detections: objects found.
            dropped: images of this camera dropped since the one before.
            backend: what ran the network.
            watts: mean power of the last seconds, in W; None if not known.

        Returns:
            A message that is valid until the next call.
        """
        _, height, width, _ = backend.input.shape
        in_ms = {**times._asdict(), **backend.device_times}
        values: dict[str, object] = {
            **{f"{name}_ms": f"{1e3 * seconds:.3f}" for name, seconds in in_ms.items()},
            "detections": detections,
            "images_dropped": dropped,
            "input_width": width,
            "input_height": height,
            "backend": backend.name,
            "precision": backend.precision,
        }
        if watts is not None:
            values["power_w"] = f"{watts:.2f}"
        while len(self._pool) < len(values):
            self._pool.append(KeyValue())
        used = self._pool[: len(values)]
        for pair, (key, value) in zip(used, values.items(), strict=True):
            pair.key, pair.value = key, str(value)
        self._message.header = header
        self._status.name = camera
        self._status.values = used
        return self._message
