# SPDX-License-Identifier: Apache-2.0
"""Time, rate and power of networks, measured in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.benchmark.cases import Case
from compact_yolo_ros.backends import Backend, BackendError
from compact_yolo_ros.machine.power import PowerSummary
from compact_yolo_ros.machine.power.monitor import WINDOW
from compact_yolo_ros.support.percentiles import Percentiles

WARM_UP = 2
"""Rounds that do not count."""
STEADY = WINDOW + 1
"""Seconds that a network runs without a pause for its power: all readings are of that time."""


@dataclass(frozen=True)
class Timing:
    """One case as it was run.

    Attributes:
        case: what was asked for.
        backend: the runtime that was used.
        device: what it ran on.
        precision: number format found in the opened network.
        threads: CPU threads of a run.
        own: milliseconds of a run, one entry a round.
        reference: milliseconds of the reference just before each.
        rate: images a second without a pause; None if not measured.
        watts: power meanwhile; None if it could not be read.
        throttling: what slowed the machine down meanwhile; None if nothing tells that.
    """

    case: Case
    backend: str
    device: str
    precision: str
    threads: int
    own: NDArray[np.float64]
    reference: NDArray[np.float64]
    rate: float | None = None
    watts: float | None = None
    throttling: str | None = None

    @property
    def percentiles(self) -> Percentiles:
        """Of the milliseconds."""
        return Percentiles.of(self.own)

    @property
    def fps(self) -> float:
        """Images a second, one after the other."""
        return self.rate or 1e3 / float(self.own.mean())

    @property
    def ratio(self) -> float:
        """Median over the rounds of the case's time to the reference's."""
        return float(np.median(self.own / self.reference))

    @property
    def images_per_joule(self) -> float | None:
        """Images per second and watt."""
        return self.fps / self.watts if self.watts else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        card = self.case.model.card
        return {
            "model": self.case.name,
            "detector": card.detector,
            "input_size": self.case.side,
            "backend": self.backend,
            "device": self.device,
            "precision": self.precision,
            "threads": self.threads,
            "spinning": self.case.spinning,
            "file_bytes": self.case.model.path.stat().st_size,
            "parameters": card.parameters or None,
            "gmac": self.case.gmac,
            "ms": self.percentiles._asdict(),
            "fps": self.fps,
            "ratio": self.ratio,
            "watts": self.watts,
            "images_per_s_per_w": self.images_per_joule,
            "throttling": self.throttling,
        }


@dataclass
class Measurement:
    """What came out.

    Attributes:
        reference: name of the model that the ratios are to.
        timings: of all cases that can be run.
        failures: a sentence for each that cannot.
    """

    reference: str
    timings: list[Timing] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def measure(
    cases: Iterable[Case],
    reference: str,
    rounds: int,
    power: Callable[[], PowerSummary] | None = None,
    track: Callable[[Sequence[int], str], Iterable[int]] = lambda turns, _: turns,
) -> Measurement:
    """Run the cases of equal threads in turns, the reference before each.

    Args:
        cases: what to run.
        reference: name of a model; its first case of as many threads is the reference.
        rounds: runs of each.
        power: tells the power of the last seconds; None to leave power out.
        track: shows the progress through its first argument, under the title of the second.

    Raises:
        BackendError: the reference, or every case, cannot be run.
    """
    result = Measurement(reference)
    groups: dict[int, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.threads, []).append(case)
    for threads, group in groups.items():
        title = f"{threads or 'default'} thread{'s' * (threads != 1)}"
        _measure_group(group, result, range(rounds + WARM_UP), power, lambda t: track(t, title))  # noqa: B023
    if not result.timings:
        raise BackendError(result.failures[0])
    return result


def _measure_group(
    cases: list[Case],
    result: Measurement,
    turns: Sequence[int],
    power: Callable[[], PowerSummary] | None,
    track: Callable[[Sequence[int]], Iterable[int]],
) -> None:
    with ExitStack() as stack:
        opened: list[tuple[Case, Backend]] = []
        for case in cases:
            try:
                backend = case.open()
            except BackendError as error:
                result.failures.append(f"{case}: {error}")
                continue
            stack.callback(backend.close)
            backend.input[:] = np.random.default_rng(0).integers(
                0, 256, backend.input.shape, np.uint8
            )
            opened.append((case, backend))
        before = [b for case, b in opened if case.name == result.reference and not case.spinning]
        if not before:
            why = result.failures[0] if result.failures else "it is not measured"
            raise BackendError(f"the reference '{result.reference}' cannot be run: {why}")
        times: list[list[tuple[float, float]]] = [[] for _ in opened]
        for turn in track(turns):
            for own, (_, backend) in zip(times, opened, strict=True):
                reference = _milliseconds(before[0])
                pair = (_milliseconds(backend), reference)
                if turn >= WARM_UP:
                    own.append(pair)
        for pairs, (case, backend) in zip(times, opened, strict=True):
            own_times, reference_times = np.array(pairs).T
            steady = _steady(backend, power) if power else {}
            result.timings.append(
                Timing(
                    case,
                    backend.name,
                    backend.device,
                    backend.precision,
                    backend.threads,
                    own_times,
                    reference_times,
                    **steady,
                )
            )


def _milliseconds(backend: Backend) -> float:
    started = perf_counter()
    backend.run()
    return 1e3 * (perf_counter() - started)


def _steady(backend: Backend, power: Callable[[], PowerSummary]) -> dict[str, Any]:
    """Rate and power of a network that runs without a pause."""
    began, images = monotonic(), 0
    while (elapsed := monotonic() - began) < STEADY:
        backend.run()
        images += 1
    summary = power()
    return {
        "rate": images / elapsed,
        "watts": summary.watts,
        "throttling": summary.throttling,
    }
