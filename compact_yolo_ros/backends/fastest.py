# SPDX-License-Identifier: Apache-2.0
"""What was timed on this CPU, and which of it a node takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compact_yolo_ros.backends.registry import ALWAYS
from compact_yolo_ros.support.wording import counted

GAIN = 0.1
"""What another runtime must gain over the one that is always there: it takes 50 to 70 MB more, and
less may be chance."""


@dataclass(frozen=True)
class Timing:
    """How long one way to run a network takes.

    Attributes:
        backend: what runs it.
        precision: number format that it computes in.
        threads: CPU threads.
        ms: milliseconds of a run: what the age of the detections depends on.
        cpu_ms: milliseconds of CPU time that it costs, of all threads.
    """

    backend: str
    precision: str
    threads: int
    ms: float
    cpu_ms: float

    @property
    def cost(self) -> float:
        """Lower is better: time is worth twice as much as CPU time.

        So 10 % more CPU time must make the answers 5 % sooner. The 1.3 to 1.6 times that a second
        thread may cost is not spent on less than 12 to 21 %.
        """
        return self.ms * math.sqrt(self.cpu_ms)

    def __str__(self) -> str:
        threads = counted(self.threads, "thread")
        return (
            f"{self.backend} {self.precision} {threads} {self.ms:.1f} ms (CPU {self.cpu_ms:.1f} ms)"
        )


def fastest(timings: Sequence[Timing]) -> Timing:
    """The one to take: that of the lowest cost, unless another runtime hardly gains anything."""
    in_order = sorted(timings, key=lambda timing: timing.cost)
    best = in_order[0]
    usual = next((timing for timing in in_order if timing.backend == ALWAYS), best)
    return best if best.cost <= (1 - GAIN) * usual.cost else usual
