# SPDX-License-Identifier: Apache-2.0
"""How objects are tracked; the tracker itself is imported only where one is used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrackingOptions:
    """How ByteTrack works.

    Attributes:
        high_score: detections from this score on begin tracks, and are assigned first.
        low_score: detections from this score on continue tracks that got none of the first.
        buffer: seconds for which an object that is not seen keeps its track; one that every image
            shows keeps it also where images are further apart.
        by_class: whether a track takes detections of its own class only.
        high_scores: of each label, instead of ``high_score``; None if all labels have that.
        most: so many detections of an image, best first, may begin a track; None: all that have
            the score for it.
    """

    high_score: float = 0.3
    low_score: float = 0.1
    buffer: float = 1.0
    by_class: bool = True
    high_scores: tuple[float, ...] | None = None
    most: int | None = None
