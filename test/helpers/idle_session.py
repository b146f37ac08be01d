# SPDX-License-Identifier: Apache-2.0
"""A session for a worker: real settings and cameras of the test's own, and nothing that decides."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from types import SimpleNamespace
from typing import Any

from toy_model import CLASSES

from compact_yolo_ros.detection.governor import Targets
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.ros.detector.settings import Settings

NOW = 100
"""Seconds that ``CLOCK`` shows."""
CLOCK: Any = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=NOW * 10**9))


class IdleControl:
    """Lets every image through."""

    def admits(self, camera: str) -> bool:
        return True

    def observe(self, *_: Any) -> None:
        pass


def idle_session(
    detector: Any, cameras: Sequence[Any], *, control: Any = None, max_age: float = 0.0
) -> Any:
    """A session with this detector and these cameras."""
    settings = Settings(Selection(), tuple(CLASSES), max_age, False, Targets())
    return SimpleNamespace(
        detector=detector,
        cameras=cameras,
        next_settings=lambda: settings,
        control=control or IdleControl(),
        backends=SimpleNamespace(in_use=Lock(), succeeded=lambda: None, failed=lambda error: None),
        image_sizes=SimpleNamespace(see=lambda *_: False),
        performance=SimpleNamespace(publish=lambda *_: None),
    )
