# SPDX-License-Identifier: Apache-2.0
"""The governor at work on a detector: it is told what answers took, and its decisions are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from time import monotonic

from compact_yolo_ros.backends import Backend
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.detection.governor import Cost, Governor, Targets
from compact_yolo_ros.machine.power import NO_READING, PowerSummary
from compact_yolo_ros.model.sizes import Size

LOG_PERIOD = 5.0
"""Seconds between two lines in the log; /diagnostics has the newest."""


class Governing:
    """Resizes a detector between two images, in the thread that detects.

    ``targets``, ``facts`` and ``warning`` are for any thread.
    """

    def __init__(
        self,
        detector: Detector,
        targets: Targets,
        watts: Callable[[], float | None],
        log: Callable[[str], object],
    ) -> None:
        """Begin at the detector's own size.

        Args:
            detector: a detector of square input sizes.
            targets: what is to be held.
            watts: mean power of the last seconds; None if it is not known.
            log: is told every change of the size, at most one in ``LOG_PERIOD``.
        """
        self._detector = detector
        self._backend = detector.backend
        self._governor = Governor(_costs(detector.backend), targets)
        self._watts = watts
        self._log = log
        self._logged = float("-inf")
        self._to_leave_out: Counter[object] = Counter()

    @property
    def targets(self) -> Targets:
        """What is to be held; a new one counts from the next answer on."""
        return self._governor.targets

    @targets.setter
    def targets(self, targets: Targets) -> None:
        self._governor.targets = targets

    def admits(self, camera: object) -> bool:
        """Whether the next image of a camera is to be answered."""
        if self._to_leave_out[camera] <= 0:
            return True
        self._to_leave_out[camera] -= 1
        return False

    def answered(self, camera: object, times: FrameTimes) -> None:
        """Take note of an answer, and resize the detector if need be."""
        governor, detector = self._governor, self._detector
        if detector.backend is not self._backend:
            self._backend = detector.backend
            governor.use_sizes(_costs(detector.backend))
        before = governor.switches
        cost = Cost(times.total, times.total - times.waiting, times.inference)
        watts = self._watts() if governor.targets.watts > 0 else None
        rung = governor.observe(cost, monotonic(), watts)
        self._to_leave_out[camera] = rung.skip
        if detector.backend.input.shape[1] != rung.size:
            detector.resize(Size.square(rung.size))
        if governor.switches > before and monotonic() - self._logged >= LOG_PERIOD:
            self._logged = monotonic()
            self._log(f"Input from {governor.reason}")

    def facts(self) -> dict[str, object]:
        """Key-value pairs for /diagnostics; only the state without a target."""
        governor = self._governor
        if not governor.targets:
            return {"governor": governor.state}
        return {
            "governor": governor.state,
            "governor_sizes": " ".join(map(str, governor.sizes)),
            "governor_reason": governor.reason,
            "governor_switches": governor.switches,
            "governor_skip": governor.rung.skip,
        }

    def warning(self, power: PowerSummary | None) -> str:
        """Which target is not held, and why; empty if all are."""
        governor = self._governor
        if governor.state == "over target":
            return f"a target cannot be held: {governor.reason}"
        known = power is not None and (power.watts is not None or power.problem == NO_READING)
        if governor.targets.watts > 0 and not known:
            problem = "power is none" if power is None else f"{power.source}: {power.problem}"
            return f"power_budget_w is ignored, the power cannot be read ({problem})"
        return ""


def _costs(backend: Backend) -> dict[int, float]:
    """Seconds by side."""
    return {size.height: seconds for size, seconds in backend.sizes.items()}
