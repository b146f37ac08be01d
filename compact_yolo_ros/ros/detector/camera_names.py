# SPDX-License-Identifier: Apache-2.0
"""Names of cameras, as the parameter ``cameras`` gives them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from compact_yolo_ros.support.error_text import shortened

MOST = 64
"""Cameras that one node takes; each has its topics, and a status in /diagnostics."""
LONGEST = 100
"""Letters of a name: a topic has 247 at most, with the names of the node and of what it brings."""
RESERVED = "detections"
"""Name of the node's own status in /diagnostics."""


def camera_names(value: Sequence[str]) -> list[str]:
    """Names of the cameras; a single camera without a name if the parameter is empty."""
    return [name for name in value if name] or [""]


def check_camera_names(value: Sequence[str]) -> None:
    """Check the parameter ``cameras``.

    Raises:
        ValueError: a name cannot be part of a topic's name, or is too long, or is given twice, or
            there are too many.
    """
    if len(value) > MOST:
        raise ValueError(f"cameras: {len(value)} names are given: give at most {MOST}")
    for name in value:
        shown = shortened(name)
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name):
            raise ValueError(
                f"cameras: '{shown}' cannot be a camera's name: give letters, digits and single "
                "underscores, a letter first"
            )
        if len(name) > LONGEST:
            raise ValueError(
                f"cameras: '{shown}' is longer than {LONGEST} letters: give a shorter name"
            )
        if name == RESERVED:
            raise ValueError(f"cameras: '{name}' is taken by the node itself: give another name")
        if value.count(name) > 1:
            raise ValueError(f"cameras: '{shown}' is given twice: give each camera its own name")
