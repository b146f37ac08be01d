# SPDX-License-Identifier: Apache-2.0
"""What the parameter ``cameras`` may say."""

from __future__ import annotations

import re
from collections.abc import Sequence

RESERVED = "detections"
"""Status of the node itself in /diagnostics."""


def camera_names(value: Sequence[str]) -> list[str]:
    """Names of the cameras that the parameter ``cameras`` asks for; one without a name if none."""
    return [name for name in value if name] or [""]


def check_camera_names(value: Sequence[str]) -> None:
    """Check the parameter ``cameras``.

    Raises:
        ValueError: a name cannot be part of a topic's name, or stands there twice.
    """
    if list(value) == [""]:  # no value of ROS is an empty list of texts
        return
    for name in value:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name):
            raise ValueError(
                f"cameras: '{name}' cannot be a camera's name: give letters, digits and single "
                "underscores, a letter first"
            )
        if name == RESERVED:
            raise ValueError(f"cameras: '{name}' is taken by the node itself: give another name")
        if value.count(name) > 1:
            raise ValueError(f"cameras: '{name}' is given twice: give each camera its own name")
