# SPDX-License-Identifier: Apache-2.0
"""What a probe of the doctor is, where it looks and what it reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any


class Level(str, Enum):
    """How serious a finding is."""

    OK = "OK"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        level: how serious it is.
        name: what was examined.
        found: what was found, one sentence or value.
        remedy: what to do; empty if nothing needs to be done.
        data: the same as values, for programs that read ``doctor --json``.
    """

    level: Level
    name: str
    found: str
    remedy: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def ok(name: str, found: str, **data: Any) -> Finding:
    """Everything is fine."""
    return Finding(Level.OK, name, found, "", data)


def note(name: str, found: str, remedy: str, **data: Any) -> Finding:
    """It works, but could work better or is unknown."""
    return Finding(Level.NOTE, name, found, remedy, data)


def problem(name: str, found: str, remedy: str, **data: Any) -> Finding:
    """Something does not work, or not as configured."""
    return Finding(Level.PROBLEM, name, found, remedy, data)


Probe = Callable[[], Iterator[Finding]]
"""Examines one subject. It needs neither ROS nor a GPU, and may raise anything."""


@dataclass(frozen=True)
class Surroundings:
    """The machine that the probes examine.

    Attributes:
        root: folder that holds /sys, /proc, /dev and /etc.
        environment: environment variables of the shell that starts the nodes.
    """

    root: Path
    environment: Mapping[str, str]

    def text(self, path: str) -> str | None:
        """Text of a file below the root, stripped of white space and NUL; None if unreadable."""
        try:
            return (self.root / path).read_text(errors="replace").strip("\0 \n\t")
        except OSError:
            return None

    def names(self, pattern: str) -> list[str]:
        """Sorted paths below the root that match, as absolute paths seen from it."""
        return sorted(f"/{path.relative_to(self.root)}" for path in self.root.glob(pattern))
