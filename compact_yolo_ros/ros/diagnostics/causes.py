# SPDX-License-Identifier: Apache-2.0
"""Which sentences are new enough to be logged."""

from __future__ import annotations

import re
from collections.abc import Hashable

AT_ONCE = 10
"""Causes that are logged without delay."""
PERIOD = 60.0
"""Seconds between two further ones: a camera that sends nonsense must not flood the log."""
REMEMBERED = 100
"""Causes that are known; the oldest is forgotten for a new one."""
_NUMBER = re.compile(r"\b\d+(?:\.\d+)?\b")


def cause_of(sentence: str) -> str:
    """What is the same in two sentences that differ in figures only; ``rgb8`` is a name."""
    return _NUMBER.sub("#", sentence)


class NewCauses:
    """Recognises causes that were seen before, and counts those that were not."""

    def __init__(self) -> None:
        """Start with none."""
        self._known: dict[Hashable, None] = {}
        self._logged = 0
        self._last = 0.0

    def is_new(self, kind: str, sentence: str, now: float) -> bool:
        """Whether to log a failure.

        Args:
            kind: of the failure.
            sentence: what is wrong.
            now: seconds on any clock that goes forward.
        """
        cause = (kind, cause_of(sentence))
        if cause in self._known or (self._logged >= AT_ONCE and now - self._last < PERIOD):
            return False
        if len(self._known) >= REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[cause] = None
        self._logged += 1
        self._last = now
        return True
