# SPDX-License-Identifier: Apache-2.0
"""What the governor decides, done: which images are processed, and at which input size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import isfinite
from time import monotonic

from compact_yolo_ros.backends import Backend
from compact_yolo_ros.detection.detector import Detector
from compact_yolo_ros.detection.frame_times import FrameTimes
from compact_yolo_ros.detection.governor import Cost, Governor, Targets
from compact_yolo_ros.machine.power import NO_READING, PowerMonitor, PowerSummary
from compact_yolo_ros.model.sizes import InputSize, long_side
from compact_yolo_ros.ros.detector.logger import Logger

LOG_PERIOD = 5.0
"""Seconds between two lines in the log; /diagnostics has the newest."""


class InputControl:
    """Resizes a detector between two images, and skips images, so that targets are held.

    ``admits`` and ``observe`` are for the thread that detects, the rest for any.
    """

    def __init__(self, detector: Detector, targets: Targets, logger: Logger) -> None:
        """Begin at the detector's own size; no two of its inputs have the same long side."""
        self._detector = detector
        self._backend = detector.backend
        self._governor = Governor(_costs(detector.backend), targets)
        self._log = logger
        self._logged = float("-inf")
        self._to_skip: Counter[str] = Counter()

    @property
    def targets(self) -> Targets:
        """What is to be held; new ones are used from the next image on."""
        return self._governor.targets

    @targets.setter
    def targets(self, targets: Targets) -> None:
        if targets != self._governor.targets:
            self._to_skip = Counter()  # another one: the thread that detects may be counting
        self._governor.targets = targets

    def admits(self, camera: str) -> bool:
        """Whether the next image of a camera is to be processed."""
        if self._to_skip[camera] <= 0:
            return True
        self._to_skip[camera] -= 1
        return False

    def observe(
        self, camera: str, times: FrameTimes, power: PowerMonitor | None, together: int = 1
    ) -> None:
        """Take the times of a processed image into account, and resize the detector if need be.

        Args:
            camera: where the image came from.
            times: of the image.
            power: what measures the power; None if nothing does.
            together: images that went through the network with it, itself included.
        """
        governor, detector = self._governor, self._detector
        if detector.backend is not self._backend:
            self._backend = detector.backend
            governor.use_sizes(_costs(detector.backend))
        before = governor.switches
        cost = Cost(times.total, times.total - times.waiting, times.inference, together)
        watts = power.summary().watts if power and governor.targets.watts > 0 else None
        rung = governor.observe(cost, monotonic(), watts)
        self._to_skip[camera] = rung.skip
        if long_side(detector.input) != rung.size:
            detector.resize(_of_long_side(detector.inputs, rung.size))
        if governor.switches > before and monotonic() - self._logged >= LOG_PERIOD:
            self._logged = monotonic()
            self._log.info(f"Input from {governor.reason}")

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
            problem = (
                "parameter power is none" if power is None else f"{power.source}: {power.problem}"
            )
            return f"power_budget_w is ignored because power cannot be read ({problem})"
        return ""


def _costs(backend: Backend) -> dict[int, float]:
    """Seconds of a run by long side of the input; of the slowest where cameras differ.

    Those that are no way down are left out.
    """
    costs: dict[int, float] = {}
    for size, seconds in backend.sizes.items():
        costs[max(size)] = max(seconds, costs.get(max(size), 0.0))
    return {side: seconds for side, seconds in costs.items() if isfinite(seconds)}


def _of_long_side(inputs: Iterable[InputSize], side: int) -> InputSize:
    return next(size for size in inputs if long_side(size) == side)
