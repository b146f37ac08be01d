# SPDX-License-Identifier: Apache-2.0
"""A level and a sentence for /diagnostics (REP 107)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Level(IntEnum):
    """Levels of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


BY_SEVERITY = (Level.ERROR, Level.STALE, Level.WARN, Level.OK)


class Status(NamedTuple):
    """The first line of a status on /diagnostics."""

    level: Level
    message: str
