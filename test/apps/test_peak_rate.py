# SPDX-License-Identifier: Apache-2.0
"""The search for the peak rate, on simulated nodes whose rate is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compact_yolo_ros.apps.benchmark.peak_rate import (
    LOSS,
    RUNS,
    STEP,
    LoadRun,
    NoRate,
    Peak,
    find_peak,
)


def node(capacity: float, publisher: float = 1e6) -> Callable[[float], LoadRun]:
    """A node that answers ``capacity`` images per second, of a camera that may be slow."""

    def run(target: float) -> LoadRun:
        rate = min(target, publisher)
        sent = 1000
        answered = min(sent, int(sent * capacity / rate))
        return LoadRun(target, rate, sent, (0.01,) * answered)

    return run


@settings(deadline=None)
@given(st.floats(0.6, 900))
def test_the_peak_is_where_a_twentieth_is_lost(capacity: float) -> None:
    peak = find_peak("node", node(capacity))
    most = capacity / (1 - LOSS)
    assert most / (1 + STEP) * 0.997 <= peak.rate <= most * 1.003
    assert peak.loss <= LOSS + 1e-9 and len(peak.runs) == RUNS


def test_a_camera_that_cannot_publish_faster_ends_the_search() -> None:
    peak = find_peak("node", node(1e6, publisher=100))
    assert 98 <= peak.rate <= 100


def test_a_node_without_limit_is_held_at_the_highest_rate() -> None:
    assert find_peak("node", node(1e6), highest=300).rate == 300


def test_best_and_worst_of_five_are_dropped() -> None:
    counts = (90, 100, 96, 98, 97)
    runs = tuple(
        LoadRun(10, 10, 100, (0.01,) * count, watts)
        for count, watts in zip(counts, range(5), strict=True)
    )
    peak = Peak("node", runs, ())
    assert peak.loss == pytest.approx(0.03)
    assert peak.answer_rate == pytest.approx(9.7)
    assert peak.watts == pytest.approx(3)  # of those with 96, 98 and 97 answers


def test_one_lost_of_twenty_is_just_allowed() -> None:
    assert LoadRun(10, 10, 20, (0.01,) * 19).passed
    assert not LoadRun(10, 10, 20, (0.01,) * 18).passed


def test_a_peak_that_does_not_hold_is_lowered() -> None:
    steady, runs = node(50), []

    def tired(rate: float) -> LoadRun:
        runs.append(rate)
        return (steady if len(runs) < 12 else node(30))(rate)

    assert find_peak("node", tired).rate <= 30 / (1 - LOSS) * 1.003


def test_a_single_mishap_does_not_end_the_search() -> None:
    calls = []

    def run(rate: float) -> LoadRun:
        calls.append(rate)
        return node(0.1 if len(calls) == 1 else 80)(rate)

    assert find_peak("node", run).rate > 75


def test_a_node_that_answers_nothing_is_one_sentence() -> None:
    with pytest.raises(NoRate, match=r"node: at 0.5 images per second 100% have no answer"):
        find_peak("node", node(0))


def test_a_node_that_stops_answering_has_no_peak() -> None:
    runs = []

    def stopping(rate: float) -> LoadRun:
        runs.append(rate)
        return node(50 if len(runs) < 12 else 0)(rate)

    with pytest.raises(NoRate, match=r"node: at 0.5 images per second 100% have no answer"):
        find_peak("node", stopping)
