# SPDX-License-Identifier: Apache-2.0
"""Finds lost packets of a video by the numbers of their pictures."""

from __future__ import annotations

MOST_REORDERED = 16
"""Pictures that H.264 and H.265 allow to be sent later than one that was taken after them."""


class PictureNumbers:
    """Follows the numbers of the packets of one encoder, in the order in which they are sent.

    Where a video has B-frames, a packet may jump over pictures that follow it. A jump is a loss if
    these are still missing when the next packet goes beyond it. Numbers that do not go up by one,
    as those of a clock, show no loss.
    """

    def __init__(self) -> None:
        """Know no number yet."""
        self._newest: int | None = None
        self._missing: set[int] = set()
        self._counts = False

    def begin(self, number: int | None) -> None:
        """Go on from a keyframe: what was before it is not needed any more."""
        self._newest = number
        self._missing = set()

    def miss(self, number: int | None, *, reorders: bool) -> bool:
        """Take the number of the next packet; return whether one before it is lost.

        Args:
            number: of its picture; None shows no loss.
            reorders: whether the video has B-frames; without, any jump is a loss.
        """
        if number is None:
            return False
        if self._newest is None:
            self._newest = number
        if number <= self._newest:
            self._fill(number)
            return False
        first, jumped = self._newest + 1, number - self._newest - 1
        self._newest = number
        self._counts |= not jumped
        lost = bool(self._missing) or (jumped > 0 and not reorders) or jumped > MOST_REORDERED
        lost = lost and self._counts
        still_to_come = range(first, first + min(jumped, MOST_REORDERED))
        self._missing = set() if lost else set(still_to_come)
        return lost

    def _fill(self, number: int) -> None:
        if number in self._missing:
            self._missing.remove(number)
            self._counts |= not self._missing
