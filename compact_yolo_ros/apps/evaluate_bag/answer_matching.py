# SPDX-License-Identifier: Apache-2.0
"""Which frames of a recording a live node has answered, and what became of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from compact_yolo_ros.apps.evaluate_bag.frame_log import (
    DROPPED,
    FAILED,
    LOST_AFTER,
    LOST_BEFORE,
    NOT_ANSWERED,
    SKIPPED,
    TOO_OLD,
)


class Moment(NamedTuple):
    """When a message was stamped and received, in ns; the stamp is 0 if it has none."""

    stamp: int
    time: int


@dataclass(frozen=True)
class NodeCounters:
    """What a node has counted of one camera's images, and its last error; see /diagnostics."""

    received: int
    processed: int
    dropped: int
    too_old: int
    skipped: int
    errors: int
    last_error: str


CLOCK_STEP = 10_000_000
"""Ns between two messages on /clock: so much earlier than its frame an answer may seem."""


def match_answers(frames: Sequence[Moment], answers: Sequence[Moment]) -> dict[int, int]:
    """Find the answer to each frame: that with its stamp, among equal stamps by their order.

    Where a stamp has fewer answers than frames, as when no image is stamped, an answer is taken for
    that of the newest frame which was there before it: a node works on the newest.

    Args:
        frames: in the order of time.
        answers: likewise.

    Returns:
        The number of the answer by the number of the frame.
    """
    theirs = _by_stamp(answers)
    found = {}
    for stamp, own in _by_stamp(frames).items():
        given = theirs.get(stamp, [])
        if len(given) < len(own):
            found.update(_newest_first(own, given, frames, answers))
        else:
            found.update(zip(own, given[-len(own) :], strict=True))
    return found


def _by_stamp(moments: Sequence[Moment]) -> dict[int, list[int]]:
    """Numbers of the moments that have each stamp."""
    found = defaultdict(list)
    for number, moment in enumerate(moments):
        found[moment.stamp].append(number)
    return found


def _newest_first(
    own: Sequence[int],
    given: Sequence[int],
    frames: Sequence[Moment],
    answers: Sequence[Moment],
) -> dict[int, int]:
    found, free = {}, list(own)
    for answer in reversed(given):
        while free and frames[free[-1]].time > answers[answer].time + CLOCK_STEP:
            free.pop()
        if free:
            found[free.pop()] = answer
    return found


def outcomes_of_unanswered(
    count: int, *, frames: int, unreadable: int, answers: int, counters: NodeCounters | None
) -> list[str]:
    """What became of the frames without an answer, by what the node has counted.

    The numbers are exact. Which frame it was is not known where there are several outcomes: those
    lost before the node come first, because connections are made then.

    Args:
        count: frames without an answer.
        frames: all that were played.
        unreadable: those among them that cannot be decoded.
        answers: all that were recorded.
        counters: of the node; None if they were not recorded.
    """
    if counters is None:
        return [NOT_ANSWERED] * count
    numbers = {
        DROPPED: counters.dropped,
        TOO_OLD: counters.too_old,
        SKIPPED: counters.skipped,
        FAILED: counters.errors - unreadable,
        LOST_AFTER: counters.processed - answers,
        LOST_BEFORE: frames - counters.received,
        NOT_ANSWERED: count,
    }
    outcomes: list[str] = []
    for outcome, number in numbers.items():
        outcomes += [outcome] * max(0, min(number, count - len(outcomes)))
    return sorted(outcomes, key=lambda outcome: outcome != LOST_BEFORE)


def explain(outcome: str, counters: NodeCounters | None) -> str:
    """A sentence for people about a frame that was not answered; empty if the outcome says it."""
    sentences: Mapping[str, str] = {
        LOST_BEFORE: "they did not reach the node, or newer ones took their place on the way: see "
        "doctor about DDS, or play more slowly",
        LOST_AFTER: "the node answered them, but its answers did not reach the recorder",
        TOO_OLD: "the node refused them by max_age",
        SKIPPED: "the governor skipped them",
        FAILED: counters.last_error if counters else "",
        NOT_ANSWERED: "the node's counters on /diagnostics do not say why"
        if counters
        else "why is not known, because the node's /diagnostics were not recorded",
    }
    return sentences.get(outcome, "")
