# SPDX-License-Identifier: Apache-2.0
"""Reading power in the background, and what /diagnostics says about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from threading import Event

import pytest

from compact_yolo_ros.machine.power import PowerMonitor, PowerReading, PowerSummary, monitor
from compact_yolo_ros.machine.power.discovery import CombinedSource
from compact_yolo_ros.machine.power.source import Unavailable


class Script:
    """A source that gives prepared readings, then waits; an exception is raised."""

    name = "script"

    def __init__(self, *steps: PowerReading | Exception) -> None:
        self._steps = iter(steps)
        self.done = Event()
        self.end = Event()
        self.closed = Event()

    def read(self) -> PowerReading:
        step = next(self._steps, None)
        if step is None:
            self.done.set()
            self.end.wait(30)
            return PowerReading()
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def summary_of() -> Iterator[Callable[..., PowerSummary]]:
    """Let a monitor take prepared readings, and return its summary."""
    opened: list[tuple[Script, PowerMonitor]] = []

    def play(*steps: PowerReading | Exception) -> PowerSummary:
        script = Script(*steps)
        watching = PowerMonitor(lambda: script, period=0)
        opened.append((script, watching))
        assert script.done.wait(10)
        return watching.summary()

    yield play
    for script, watching in opened:
        script.end.set()
        watching.close()


def readings(watts: Iterable[float | None]) -> list[PowerReading]:
    return [PowerReading(watts=value) for value in watts]


def test_watts_are_the_mean_of_those_that_could_be_read(summary_of: Callable) -> None:
    seen = summary_of(*readings([4.0, None, 6.0]))
    assert (seen.source, seen.watts) == ("script", 5.0)
    facts = seen.facts(images_per_second=20)
    assert facts["power_w"] == "5.00"
    assert facts["energy_per_image_j"] == "0.2500"
    assert facts["images_per_s_per_w"] == "4.000"


def test_energy_is_left_out_without_watts_or_without_images(summary_of: Callable) -> None:
    without_watts = summary_of(*readings([None, None])).facts(20)
    assert not {"power_w", "energy_per_image_j", "images_per_s_per_w"} & set(without_watts)
    without_images = summary_of(*readings([5.0])).facts(0)
    assert "power_w" in without_images
    assert not {"energy_per_image_j", "images_per_s_per_w"} & set(without_images)


def test_the_newest_mode_clocks_and_temperatures_are_reported(summary_of: Callable) -> None:
    facts = summary_of(
        PowerReading(mode="15W", clocks={"gpu": 600.4}, temperatures={"tj": 50.0}),
        PowerReading(mode="MAXN", clocks={"gpu": 1020.0}, temperatures={"tj": 51.04}),
    ).facts(0)
    assert facts["power_mode"] == "MAXN"
    assert facts["clock_mhz gpu"] == "1020"
    assert facts["temperature_c tj"] == "51.0"


def test_only_events_since_the_first_reading_are_throttling(summary_of: Callable) -> None:
    before = PowerReading(events={"over-current oc3": 27390, "over-current oc1": 2})
    after = PowerReading(events={"over-current oc3": 27397, "over-current oc1": 2})
    assert summary_of(before).throttling == ""
    assert summary_of(before, after).throttling == "over-current oc3 (7 times)"
    assert summary_of(after, before).throttling == ""  # the counter has wrapped around


def test_throttling_in_between_is_reported_once(summary_of: Callable) -> None:
    alert = PowerReading(throttled=("gpu-throttle-alert",))
    seen = summary_of(PowerReading(throttled=()), alert, alert, PowerReading(throttled=()))
    assert seen.throttling == "gpu-throttle-alert"


def test_throttling_that_no_source_shows_is_left_out(summary_of: Callable) -> None:
    assert "throttling" not in summary_of(PowerReading()).facts(10)
    assert summary_of(PowerReading(throttled=())).facts(10)["throttling"] == "none"


def test_a_source_that_raises_is_a_problem_and_is_read_again(summary_of: Callable) -> None:
    broken = summary_of(*readings([5.0]), RuntimeError("bus error"))
    assert broken.problem == "RuntimeError: bus error"
    assert broken.watts == 5.0
    mended = summary_of(RuntimeError("bus error"), *readings([5.0]))
    assert (mended.problem, mended.watts) == ("", 5.0)


def test_a_source_that_cannot_be_closed_is_nobodys_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As NVML after the driver has lost its card; the others are closed all the same."""
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    lost, state = Script(), Script()
    monkeypatch.setattr(lost, "close", lambda: 1 / 0)
    watching = PowerMonitor(lambda: CombinedSource([lost], [state], []), period=0)
    for source in (lost, state):
        source.end.set()
    assert lost.done.wait(10)
    watching.close()
    assert state.closed.wait(10)
    watching._thread.join(10)
    assert not raised


def test_problems_are_one_line(summary_of: Callable) -> None:
    facts = summary_of(PowerReading(problems=tuple("abcde"))).facts(0)
    assert facts["power_problem"] == "a; b; c and 2 more"
    assert summary_of(PowerReading()).facts(0)["power_problem"] == "none"


def test_a_source_that_hangs_gives_no_old_values(
    summary_of: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert summary_of(*readings([5.0])).watts == 5.0
    now = time.monotonic()
    script = Script(*readings([5.0]))
    watching = PowerMonitor(lambda: script, period=0)
    assert script.done.wait(10)
    monkeypatch.setattr(monitor, "monotonic", lambda: now + 60)
    seen = watching.summary()
    assert (seen.watts, seen.problem) == (None, "no reading in the last 5 s")
    watching.close()  # returns although the source hangs
    script.end.set()
    assert script.closed.wait(10)


def test_a_search_that_fails_or_hangs_is_reported() -> None:
    released = Event()

    def hang() -> Script:
        released.wait(30)
        raise OSError("no bus")

    watching = PowerMonitor(hang)
    assert watching.summary().problem == "no reading yet"
    watching.close()
    released.set()
    watching._thread.join(10)
    assert watching.summary().problem == "OSError: no bus"


def test_what_is_measured_can_change_also_while_a_source_hangs() -> None:
    before, after = Script(*readings([5.0])), Script(*readings([50.0]))
    after.name = "another"
    sources = iter((before, after))
    watching = PowerMonitor(lambda: next(sources), period=0)
    assert before.done.wait(10)
    watching.find_again()
    assert after.done.wait(10)
    before.end.set()
    assert before.closed.wait(10)
    seen = watching.summary()
    assert (seen.source, seen.watts) == ("another", 50.0)
    after.end.set()
    watching.close()


def test_where_nothing_can_be_read_the_thread_ends_and_the_reasons_stay() -> None:
    def find() -> Script:
        raise Unavailable(*"abcde")

    watching = PowerMonitor(find)
    watching._thread.join(10)
    assert not watching._thread.is_alive()
    seen = watching.summary()
    assert (seen.source, seen.watts, seen.problem) == ("none", None, "a; b; c and 2 more")
    watching.close()
