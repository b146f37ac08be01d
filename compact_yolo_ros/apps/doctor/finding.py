# SPDX-License-Identifier: Apache-2.0
"""What a probe reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any


class Level(str, Enum):
    """How bad it is."""

    OK = "OK"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        level: how bad it is.
        name: what was looked at.
        found: what was found there, one sentence or value.
        remedy: what to do; empty if nothing is to be done.
        data: the same as values, for programs.
    """

    level: Level
    name: str
    found: str
    remedy: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


def ok(name: str, found: str, **data: Any) -> Finding:
    """Nothing is to be done."""
    return Finding(Level.OK, name, found, "", data)


def note(name: str, found: str, remedy: str, **data: Any) -> Finding:
    """It works, but could be better or is not known."""
    return Finding(Level.NOTE, name, found, remedy, data)


def problem(name: str, found: str, remedy: str, **data: Any) -> Finding:
    """Something does not work, or not as asked."""
    return Finding(Level.PROBLEM, name, found, remedy, data)


Probe = Callable[[], Iterator[Finding]]


@dataclass(frozen=True)
class Surroundings:
    """Where the probes look.

    Attributes:
        root: folder that holds /sys, /proc, /dev and /etc.
        environment: variables of the shell that the nodes are started from.
    """

    root: Path
    environment: Mapping[str, str]

    def text(self, path: str) -> str | None:
        """Text of a file below the root, without white space and NUL around; None if unreadable."""
        try:
            return (self.root / path).read_text(errors="replace").strip("\0 \n\t")
        except OSError:
            return None

    def names(self, pattern: str) -> list[str]:
        """Paths below the root that match, as seen from it, sorted."""
        return sorted(f"/{path.relative_to(self.root)}" for path in self.root.glob(pattern))
