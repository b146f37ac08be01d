# SPDX-License-Identifier: Apache-2.0
"""Measure time, rate and power of networks, which run in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compact_yolo_ros.apps.benchmark.runs import Run, gmac_at
from compact_yolo_ros.backends import Backend, BackendError, open_backend
from compact_yolo_ros.machine.power import PowerSummary
from compact_yolo_ros.machine.power.monitor import WINDOW
from compact_yolo_ros.model.card import ModelCard
from compact_yolo_ros.support.percentiles import Percentiles
from compact_yolo_ros.support.wording import counted

WARM_UP = 2
"""Rounds at the beginning that are not counted."""
STEADY = WINDOW + 1
"""Seconds that a network runs without a pause, so that all power readings fall into them."""


@dataclass(frozen=True)
class Timing:
    """The measured times of one run.

    Attributes:
        run: the model and its options.
        card: of the model.
        backend: the runtime that was used.
        device: what it ran on.
        precision: number format found in the opened network.
        threads: CPU threads that were used.
        own: milliseconds for one image, one entry for each round.
        reference: milliseconds of the reference just before each.
        rate: images per second without a pause; None if not measured.
        watts: power during that time; None if it could not be read.
        throttling: what slowed the machine down during that time; None if no source shows it.
    """

    run: Run
    card: ModelCard
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
        """Percentiles of the milliseconds."""
        return Percentiles.of(self.own)

    @property
    def fps(self) -> float:
        """Images per second, one after the other."""
        return self.rate or 1e3 / float(self.own.mean())

    @property
    def ratio(self) -> float:
        """Median over the rounds of the time divided by the reference's."""
        return float(np.median(self.own / self.reference))

    @property
    def gmac(self) -> float | None:
        """10^9 multiply-accumulates; None if the card does not have them."""
        return gmac_at(self.card, self.run.size)

    @property
    def images_per_joule(self) -> float | None:
        """Images per second and watt; None without watts."""
        return self.fps / self.watts if self.watts else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.run.name,
            "detector": self.card.detector,
            "detector_options": self.card.detector_options,
            "input_size": str(self.run.size),
            "backend": self.backend,
            "device": self.device,
            "precision": self.precision,
            "threads": self.threads,
            "spinning": self.run.options.spinning,
            "file_bytes": self.run.path.stat().st_size,
            "parameters": self.card.parameters or None,
            "gmac": self.gmac,
            "ms": self.percentiles._asdict(),
            "fps": self.fps,
            "ratio": self.ratio,
            "watts": self.watts,
            "images_per_s_per_w": self.images_per_joule,
            "throttling": self.throttling,
        }


@dataclass
class Measurement:
    """The result of a measurement.

    Attributes:
        reference: name of the model that the ratios refer to.
        timings: of all runs that are possible.
        failures: one sentence for each run that is not.
    """

    reference: str
    timings: list[Timing] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def measure(
    result: Measurement,
    runs: Iterable[Run],
    rounds: int,
    power: Callable[[], PowerSummary] | None = None,
    track: Callable[[Sequence[int], str], Iterable[int]] = lambda turns, _: turns,
) -> None:
    """Measure all runs with the same number of threads in turns, the reference before each.

    Args:
        result: gets what is measured, with one number of threads after the other, and has that also
            where the rest is given up. Of its reference, the first run with as many threads is
            the reference.
        runs: what to measure.
        rounds: how often each network runs.
        power: returns the power of the last seconds; None leaves power out.
        track: iterates over its first argument and shows the progress, titled by the second.

    Raises:
        ModelError: a model cannot be read.
        BackendError: the reference, or every run, is not possible.
    """
    groups: dict[int, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.options.threads, []).append(run)
    for threads, group in groups.items():
        title = counted(threads, "thread") if threads else "default threads"
        _measure_group(group, result, range(rounds + WARM_UP), power, lambda t: track(t, title))  # noqa: B023
    if not result.timings:
        raise BackendError(result.failures[0])


def _measure_group(
    runs: list[Run],
    result: Measurement,
    turns: Sequence[int],
    power: Callable[[], PowerSummary] | None,
    track: Callable[[Sequence[int]], Iterable[int]],
) -> None:
    with ExitStack() as stack:
        opened: list[tuple[Run, Backend]] = []
        for run in runs:
            try:
                backend = open_backend(run.options).backend
            except BackendError as error:
                result.failures.append(f"{run}: {error}")
                continue
            stack.callback(backend.close)
            backend.input[:] = np.random.default_rng(0).integers(
                0, 256, backend.input.shape, np.uint8
            )
            opened.append((run, backend))
        reference = _reference(opened, result.reference)
        if reference is None:
            why = result.failures[0] if result.failures else "it is not measured"
            raise BackendError(f"the reference '{result.reference}' cannot be run: {why}")
        times: list[list[tuple[float, float]]] = [[] for _ in opened]
        for turn in track(turns):
            for own, (_, backend) in zip(times, opened, strict=True):
                before = _milliseconds(reference)
                pair = (_milliseconds(backend), before)
                if turn >= WARM_UP:
                    own.append(pair)
        for pairs, (run, backend) in zip(times, opened, strict=True):
            own_times, reference_times = np.array(pairs).T
            steady = _steady(backend, power) if power else {}
            result.timings.append(
                Timing(
                    run,
                    backend.card,
                    backend.name,
                    backend.device,
                    backend.precision,
                    backend.threads,
                    own_times,
                    reference_times,
                    **steady,
                )
            )


def _reference(opened: Iterable[tuple[Run, Backend]], name: str) -> Backend | None:
    """The first opened network of that model, whose threads do not spin."""
    of_model = (b for run, b in opened if run.name == name and not run.options.spinning)
    return next(of_model, None)


def _milliseconds(backend: Backend) -> float:
    started = perf_counter()
    backend.run()
    return 1e3 * (perf_counter() - started)


def _steady(backend: Backend, power: Callable[[], PowerSummary]) -> dict[str, Any]:
    """Rate, power and throttling of a network that runs without a pause."""
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
