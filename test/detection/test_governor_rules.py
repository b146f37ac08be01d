# SPDX-License-Identifier: Apache-2.0
"""The rules of docs/governor.md one by one, with the times of each image given."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest

from compact_yolo_ros.detection.governor import (
    FIRST_HOLD,
    LAST_HOLD,
    SETTLE,
    TRIAL,
    WINDOW,
    Cost,
    Governor,
    Rung,
    Targets,
)

THREE = {416: 3.0, 320: 2.0, 224: 1.0}
"""Relative times of a network at three sizes."""
TWO = {320: 3.0, 224: 2.0}


def took(*seconds: float) -> list[Cost]:
    """Images that took so long, nearly all of it in the network."""
    return [Cost(each, each, each) for each in seconds]


def feed(governor: Governor, costs: Iterable[Cost]) -> list[int]:
    """The size after each image."""
    return [governor.observe(cost).size for cost in costs]


def started(costs: dict[int, float] | None = None, **targets: float) -> Governor:
    """A governor whose first image, which does not count, is over."""
    governor = Governor(costs or THREE, Targets(**targets))  # type: ignore[arg-type]
    feed(governor, took(0.001))
    return governor


# Down at once


def test_two_images_in_a_row_are_enough_to_go_down() -> None:
    assert feed(started(latency=0.06), took(0.07, 0.05, 0.07, 0.05)) == [416] * 4
    assert feed(started(latency=0.06), took(0.05, 0.07, 0.07)) == [416, 416, 320]


@pytest.mark.parametrize(("distance", "after"), [(19, 320), (20, 416)])
def test_three_of_forty_are_enough_too(distance: int, after: int) -> None:
    governor = started(latency=0.06)
    late = took(0.061)
    between = took(*[0.04] * (distance - 1))
    assert set(feed(governor, late + between + late + between)) == {416}
    assert feed(governor, late) == [after]
    assert WINDOW == 40


def test_an_image_that_takes_exactly_the_target_is_in_time() -> None:
    assert set(feed(started(latency=0.06), took(*[0.06] * 50))) == {416}
    assert set(feed(started(fps=20), took(*[0.05] * 50))) == {416}


@pytest.mark.parametrize(
    ("last", "to"),
    [
        ((0.05, 0.07, 0.07), 320),  # 0.0467 of 0.051 s there
        ((0.05, 0.0764, 0.0764), 320),
        ((0.05, 0.0766, 0.0766), 224),
        ((0.05, 0.0766, 0.07), 224),  # the worst of the last three counts
        ((0.05, 0.07, 0.0766), 224),
        ((0.0766, 0.05, 0.07, 0.07), 320),  # and no earlier one
        ((0.05, 0.4, 0.4), 224),  # nothing has room: the smallest
    ],
)
def test_it_goes_to_the_largest_size_that_leaves_room(last: tuple[float, ...], to: int) -> None:
    assert feed(started(latency=0.06), took(*last))[-1] == to


def test_only_the_networks_part_is_scaled() -> None:
    """30 ms of other work stay: 30 + 2/3 of 40 ms are 57 ms, which is too much."""
    slow = [Cost(latency=0.07, service=0.07, inference=0.04)] * 2
    assert feed(started(latency=0.06), slow)[-1] == 224
    quick = [Cost(latency=0.07, service=0.07, inference=0.06)] * 2
    assert feed(started(latency=0.06), quick)[-1] == 320


def test_a_rate_counts_without_waiting_and_a_latency_with_it() -> None:
    waited = [Cost(latency=0.08, service=0.04, inference=0.04)] * 20
    assert set(feed(started(fps=20), waited)) == {416}
    assert feed(started(latency=0.06), waited[:2])[-1] != 416


# Up with care


def down_at(size: int, costs: dict[int, float], **targets: float) -> Governor:
    """A governor at a lower size that has learnt nothing on the way there."""
    governor = started(costs, **targets)
    feed(governor, took(1.0, 1.0))
    assert governor.rung == Rung(size)
    governor.use_sizes(costs)
    return governor


def climbed_after(governor: Governor, cost: Cost, most: int = 5000) -> int:
    """How many such images it takes to go up."""
    size = governor.rung.size
    for count in range(1, most):
        if governor.observe(cost).size > size:
            return count
    raise AssertionError("it does not go up")


def test_it_goes_up_one_size_after_thirty_images_with_room() -> None:
    governor = down_at(224, THREE, latency=0.06)
    assert climbed_after(governor, *took(0.01)) == FIRST_HOLD + 1 == 31
    assert governor.rung == Rung(320)
    assert governor.reason.startswith("224 to 320: expected to take ")


@pytest.mark.parametrize(("slow", "climbs"), [(2, True), (3, False)])
def test_ninety_five_percent_of_the_images_need_room(slow: int, climbs: bool) -> None:
    governor = down_at(224, {320: 2.0, 224: 1.0}, latency=0.06)
    images = took(*[0.02] * 10, *[0.027] * slow, *[0.02] * 17)
    feed(governor, images)
    assert governor.rung == Rung(224)
    sizes = feed(governor, took(*[0.02] * 3))
    assert (320 in sizes) is climbs


@pytest.mark.parametrize(("seconds", "climbs"), [(0.0254, True), (0.0256, False)])
def test_it_stays_where_the_larger_size_would_leave_less_than_its_margin(
    seconds: float, climbs: bool
) -> None:
    governor = down_at(224, {320: 2.0, 224: 1.0}, latency=0.06)
    sizes = feed(governor, took(*[seconds] * 200))
    assert (320 in sizes) is climbs


# Predictions are corrected, within bounds


def test_what_a_change_shows_corrects_the_prediction() -> None:
    governor = Governor(TWO, Targets(latency=0.06))
    feed(governor, took(0.08, 0.08, 0.08))
    assert governor.rung == Rung(224)
    # There it takes a quarter of the time, not two thirds: 80 ms again at the larger size.
    assert set(feed(governor, took(*[0.02] * TRIAL * FIRST_HOLD))) == {224}


def test_what_keeps_it_from_going_up_is_tried_in_time() -> None:
    """The load may have passed while it went down: a try shows it, and costs little."""
    governor = Governor(TWO, Targets(latency=0.06))
    feed(governor, took(0.08, 0.08, 0.08))
    assert climbed_after(governor, *took(0.02)) == TRIAL * FIRST_HOLD + 1
    assert set(feed(governor, took(*[0.03] * 200))) == {320}


def test_what_was_rightly_learnt_is_tried_later_and_later() -> None:
    governor = Governor(TWO, Targets(latency=0.06))
    waits = []
    for _ in range(7):
        feed(governor, took(0.08, 0.08, 0.08))
        assert governor.rung == Rung(224)
        waits.append(climbed_after(governor, *took(0.02)) - 1)
    assert waits == [TRIAL * wait for wait in (30, 60, 120, 240, 480, 960, 960)]


def test_a_correction_is_at_most_a_factor_of_four() -> None:
    governor = Governor({320: 2.0, 224: 1.0}, Targets(latency=0.05))
    feed(governor, took(0.1, 0.1, 0.1))
    climbed_after(governor, *took(0.001))  # a hundredth, of which an eighth is believed
    assert governor.reason == "224 to 320: expected to take 16% of the target"

    governor = Governor({320: 2.0, 224: 1.0}, Targets(latency=0.1, watts=10))
    for second in range(int(SETTLE) + 3):
        governor.observe(*took(0.01), now=second, watts=20.0)
    assert governor.rung == Rung(224)
    for second in range(6):
        governor.observe(*took(0.04), now=100 + second, watts=5.0)  # four times slower there
    governor.targets = Targets(latency=0.1)
    climbed_after(governor, *took(0.04))
    assert governor.reason == "224 to 320: expected to take 20% of the target"


# No oscillation


ROOM = Cost(latency=0.02, service=0.02, inference=0.02)
"""At the smaller size there is room for the larger one."""
WAITED = Cost(latency=0.09, service=0.03, inference=0.03)
"""There an image waits for the one before, which no prediction foresees."""


def failed(times: int) -> Governor:
    """A governor that had to leave the larger size so many times at once."""
    governor = Governor(TWO, Targets(latency=0.08))
    feed(governor, [WAITED] * 3)
    for _ in range(times):
        climbed_after(governor, ROOM)
        feed(governor, [WAITED] * 3)
        assert governor.rung == Rung(224)
    return governor


def test_the_wait_doubles_to_at_most_960_images() -> None:
    governor = failed(0)
    waits = []
    for _ in range(8):
        waits.append(climbed_after(governor, ROOM) - 1)
        feed(governor, [WAITED] * 3)
    assert waits == [30, 60, 120, 240, 480, 960, 960, 960]
    assert LAST_HOLD == 960


@pytest.mark.parametrize(("factor", "wait"), [(0.74, WINDOW), (0.76, 241)])
def test_the_wait_is_reset_when_the_network_is_a_quarter_faster(factor: float, wait: int) -> None:
    governor = failed(3)
    faster = Cost(*(factor * seconds for seconds in ROOM))
    assert climbed_after(governor, faster) == wait
    if wait == WINDOW:  # the wait itself, not only this one
        feed(governor, [WAITED] * 3)
        assert climbed_after(governor, faster) == 2 * FIRST_HOLD + 1


def test_what_was_faster_for_a_moment_resets_nothing() -> None:
    governor = failed(3)
    faster = Cost(*(0.5 * seconds for seconds in ROOM))
    feed(governor, [ROOM] * 22 + [faster] * 18)
    assert climbed_after(governor, ROOM) == 241 - 40


@pytest.mark.parametrize(("lasted", "wait"), [(TRIAL * 240 + 1, 121), (TRIAL * 240 - 1, 481)])
def test_the_wait_is_halved_when_a_larger_size_has_lasted(lasted: int, wait: int) -> None:
    """Also at the largest size, from which there is nowhere to go up."""
    governor = failed(3)
    climbed_after(governor, ROOM)
    good = Cost(latency=0.03, service=0.03, inference=0.03)
    assert set(feed(governor, [good] * lasted)) == {320}
    feed(governor, [WAITED] * 2)
    assert governor.rung == Rung(224)
    assert climbed_after(governor, ROOM) == wait


def test_the_wait_is_never_shorter_than_at_first() -> None:
    governor = failed(0)
    for _ in range(3):
        climbed_after(governor, ROOM)
        good = Cost(latency=0.03, service=0.03, inference=0.03)
        feed(governor, [good] * (TRIAL * FIRST_HOLD + 1))
        feed(governor, [WAITED] * 2)
    assert climbed_after(governor, ROOM) == FIRST_HOLD + 1


# New targets


def test_a_new_target_counts_for_the_images_that_were_processed() -> None:
    governor = started(latency=0.06)
    feed(governor, took(*[0.03] * 10))
    governor.targets = Targets(latency=0.02)
    assert feed(governor, took(0.03)) == [224]
    assert "the latency was 30 ms, max_latency is 20" in governor.reason


def test_what_missed_an_earlier_target_does_not_count_for_the_new_one() -> None:
    governor = started(latency=0.06)
    feed(governor, took(0.065, 0.04, 0.065, 0.04))
    governor.targets = Targets(latency=0.08)
    assert feed(governor, took(0.085, 0.04, 0.085, 0.04)) == [416] * 4
    assert feed(governor, took(0.085)) != [416]


def test_a_target_that_was_out_of_reach_and_is_relaxed_is_held_again() -> None:
    governor = started(latency=0.001)
    feed(governor, took(*[0.01] * 10))
    assert (governor.rung, governor.state) == (Rung(224), "over target")
    assert governor.reason.startswith("224 is the last resort: the latency was 10 ms")
    governor.targets = Targets(latency=0.02)
    feed(governor, took(0.01))
    assert governor.state == "holding"


# Power


def test_for_power_it_goes_one_size_down_and_waits_before_the_next() -> None:
    governor = Governor(THREE, Targets(watts=10))
    sizes = []
    for tenth in range(300):
        sizes.append(governor.observe(*took(0.01), now=tenth / 10, watts=30.0).size)
    for size in (416, 320):  # the first image at a size starts its clock
        assert sizes.count(size) == pytest.approx(10 * SETTLE, abs=2)
    assert sizes[-1] == 224
    assert governor.state == "over target"
    assert governor.reason == "224 is the last resort: 30.0 W, power_budget_w is 10.0"


def test_a_size_that_took_too_much_power_is_left_for_longer_each_time() -> None:
    """Its power can be seen only there: nothing that was read at the smaller size foretells it."""
    governor = Governor(TWO, Targets(watts=10))
    sizes: list[int] = []
    for second in range(4 * TRIAL * LAST_HOLD):
        watts = 12.0 if governor.rung.size == 320 else 8.0
        sizes.append(governor.observe(*took(0.01), now=second, watts=watts).size)
    climbs = [n for n, (a, b) in enumerate(pairwise(sizes)) if a < b]
    assert climbs and min(b - a for a, b in pairwise(climbs)) > TRIAL * LAST_HOLD


@pytest.mark.parametrize(("failures", "wait"), [(3, 240), (4, 480)])
def test_a_trial_lasts_until_its_power_is_known(failures: int, wait: int) -> None:
    """At 30 images a second the images of a trial have passed before its power has settled."""
    governor = Governor({640: 0.04, 480: 0.022}, Targets(watts=10))
    seconds = (number / 30 for number in range(100_000))

    def moves_after(small: float, most: int = 5000) -> int:
        """Images up to the next move, with this power at the smaller size."""
        size = governor.rung.size
        for images in range(1, most):
            watts = 12.0 if size == 640 else small
            if governor.observe(*took(0.03), now=next(seconds), watts=watts).size != size:
                return images
        return most

    moves_after(8.4)  # down, and then so many times up and down
    for _ in range(2 * failures):
        moves_after(8.4)
    settled = 200
    moves_after(8.4, settled)
    # The budget now has room for the larger size, so that only the wait keeps it from going up.
    assert settled - 1 + moves_after(4.0) == wait + 1


def test_power_of_exactly_the_budget_is_held() -> None:
    governor = Governor(THREE, Targets(watts=10))
    for second in range(60):
        governor.observe(*took(0.01), now=second, watts=10.0)
    assert (governor.rung, governor.state) == (Rung(416), "holding")
