# SPDX-License-Identifier: Apache-2.0
"""The deadline governor, driven by a camera and a network in simulated time."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from simulated_load import Frame, simulate

from compact_yolo_ros.detection.governor import (
    FIRST_HOLD,
    LAST_HOLD,
    MARGIN,
    SETTLE,
    WINDOW,
    Cost,
    Governor,
    Rung,
    Targets,
)

INFERENCE = {416: 0.027, 320: 0.0163, 224: 0.0083}
"""Seconds of a real detector on one core."""
STEP = 100
SOON = 2 * (WINDOW + FIRST_HOLD)
"""Images after which it is back at the largest of three sizes, once their times are usual again."""


def noise(seed: int, width: float = 0.2) -> Callable[[], float]:
    generator = random.Random(seed)
    return lambda: generator.uniform(1 - width, 1 + width)


def steps(frames: list[Frame]) -> list[Rung]:
    """The rungs in their order, without repetition."""
    rungs = [frame.rung for frame in frames]
    return [b for a, b in zip([None, *rungs], rungs, strict=False) if a != b]


def late(frames: list[Frame], latency: float) -> int:
    return sum(frame.cost.latency > latency for frame in frames)


@st.composite
def networks(draw: st.DrawFn) -> dict[int, float]:
    """Seconds by size of a network, larger ones slower, how much the governor must find out."""
    power = draw(st.floats(0.3, 1.4))
    base = draw(st.floats(1e-3, 0.5))
    return {
        size: base * (size / 224) ** (2 * power) * draw(st.floats(0.9, 1.1))
        for size in (224, 320, 416)
    }


@st.composite
def measured(draw: st.DrawFn, network: Mapping[int, float]) -> dict[int, float]:
    """What was measured of it at start, on a machine with other work."""
    return {size: seconds * draw(st.floats(0.7, 1.5)) for size, seconds in network.items()}


def largest_that_fits(network: Mapping[int, float], rest: float, latency: float) -> int:
    return max((s for s, t in network.items() if rest + t <= latency), default=0)


def test_a_step_of_three_times_the_load_and_back() -> None:
    governor = Governor(INFERENCE, Targets(latency=0.05))
    frames = simulate(
        governor,
        INFERENCE,
        lambda n: 3 if STEP <= n < 300 else 1,
        frames=500,
        period=1 / 30,
        rest=0.002,
    )
    assert steps(frames) == [Rung(416), Rung(224), Rung(320), Rung(416)]
    assert frames[STEP + 2].rung == Rung(224)
    assert late(frames[:STEP] + frames[STEP + 5 :], 0.05) == 0
    assert frames[299].rung == Rung(224)
    assert frames[-1].rung == Rung(416)
    assert governor.reason.startswith("320 to 416: expected to take")


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(),
    network=networks(),
    room=st.floats(1.02, 8),
    rest=st.floats(0, 0.3),
    seed=st.integers(),
)
def test_after_a_step_the_deadline_holds_within_ten_frames_if_any_size_can(
    data: st.DataObject, network: dict[int, float], room: float, rest: float, seed: int
) -> None:
    rest *= network[224]
    latency = room * 1.2 * (rest + 3 * network[224])
    assume(1.2 * (rest + network[416]) < latency)  # held before the step
    factor = noise(seed)
    governor = Governor(data.draw(measured(network)), Targets(latency=latency))
    frames = simulate(
        governor,
        network,
        lambda n: (3 if n >= STEP else 1) * factor(),
        frames=STEP + 210,
        rest=rest,
    )
    assert late(frames[:STEP], latency) == 0
    assert late(frames[STEP + 10 :], latency) <= 10  # one in twenty


@settings(max_examples=20, deadline=None)
@given(
    data=st.data(),
    network=networks(),
    place=st.floats(0.2, 4),
    rest=st.floats(0, 1),
    period=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    width=st.floats(0, 0.2),
    max_skip=st.integers(0, 2),
    seed=st.integers(),
)
def test_under_any_constant_load_it_comes_to_rest(
    data: st.DataObject,
    network: dict[int, float],
    place: float,
    rest: float,
    period: float,
    width: float,
    max_skip: int,
    seed: int,
) -> None:
    latency = place * network[320]
    factor = noise(seed, width)
    governor = Governor(data.draw(measured(network)), Targets(latency=latency, max_skip=max_skip))
    frames = simulate(
        governor,
        network,
        lambda n: factor(),
        frames=4 * LAST_HOLD,
        period=period * network[320],
        rest=rest * network[224],
    )
    settled = frames[3 * LAST_HOLD :]
    assert len(steps(settled)) - 1 <= 3
    if period == 0 and 1.2 * (rest * network[224] + network[224]) <= latency:
        assert late(settled, latency) <= 0.05 * len(settled)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), network=networks(), place=st.floats(1, 6), seed=st.integers())
def test_it_comes_back_to_what_has_room(
    data: st.DataObject, network: dict[int, float], place: float, seed: int
) -> None:
    latency = place * network[224]
    best = largest_that_fits(network, 0, (1 - MARGIN) * latency / 1.2 / 2)
    factor = noise(seed)
    governor = Governor(data.draw(measured(network)), Targets(latency=latency))
    frames = simulate(governor, network, lambda n: (5 if n < 200 else 1) * factor(), frames=1000)
    assert frames[-1].rung.size >= best


@settings(max_examples=100, deadline=None)
@given(
    network=networks(),
    data=st.data(),
    room=st.floats(1.25, 2),
    images=st.integers(1, FIRST_HOLD),
    factor=st.floats(3, 100),
    seed=st.integers(),
)
def test_after_a_spike_it_is_soon_back(
    network: dict[int, float],
    data: st.DataObject,
    room: float,
    images: int,
    factor: float,
    seed: int,
) -> None:
    """However the spike ends beside the change of size, the prediction is not spoilt by it."""
    known = data.draw(measured(network))
    # There is room at every size, however wrongly the ratios were measured, and with noise.
    latency = room * max(network.values()) * (1.5 / 0.7) / (1 - MARGIN)
    slow = range(STEP, STEP + images)
    random_factor = noise(seed, 0.1)
    governor = Governor(known, Targets(latency=latency))
    frames = simulate(
        governor,
        network,
        lambda n: (factor if n in slow else 1) * random_factor(),
        frames=slow.stop + SOON,
    )
    assert {frame.rung for frame in frames[:STEP]} == {Rung(416)}
    assert frames[-1].rung == Rung(416)


def test_it_learns_how_the_sizes_compare() -> None:
    """On an accelerator that is hardly faster with fewer pixels, there is soon room again."""
    network = {416: 0.020, 320: 0.019}
    governor = Governor(dict.fromkeys(network, 0.0), Targets(latency=0.024))
    frames = simulate(governor, network, lambda n: 1.25 if n < 100 else 1, frames=300)
    assert steps(frames) == [Rung(416), Rung(320), Rung(416)]


def test_what_failed_is_tried_again_later_and_later() -> None:
    """At 320 there is time enough, but images wait for the one before, which no model foresees."""
    network = {320: 0.049, 224: 0.025}
    governor = Governor(network, Targets(latency=0.08))
    rungs = [
        frame.rung
        for frame in simulate(governor, network, lambda n: 1, frames=3000, period=0.033, rest=0.002)
    ]
    climbs = [n for n in range(1, 3000) if rungs[n - 1].size < rungs[n].size]
    waits = [later - sooner for sooner, later in pairwise(climbs)]
    assert waits == sorted(waits)
    assert waits[-1] > LAST_HOLD
    assert len(climbs) < 9


ANY = st.floats(allow_nan=True, allow_infinity=True)
TIMES = st.one_of(ANY, st.floats(0, 1), st.just(0.0))
TARGETS = st.builds(
    Targets,
    fps=st.one_of(st.just(0.0), st.floats(0, 1000)),
    latency=st.one_of(st.just(0.0), st.floats(0, 10)),
    watts=st.one_of(st.just(0.0), st.floats(0, 100)),
    max_skip=st.integers(0, 3),
)


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([160, 224, 320, 416]), min_size=1),
    inputs=st.lists(st.tuples(st.one_of(st.none(), TARGETS), TIMES, TIMES, TIMES, ANY, ANY)),
    again=st.integers(1, 20),
)
def test_no_input_breaks_it_or_leads_off_the_ladder(
    sizes: list[int], inputs: list[tuple], again: int
) -> None:
    governor = Governor(dict.fromkeys(sizes, 0.0))
    for targets, latency, service, inference, now, watts in inputs:
        governor.targets = targets or governor.targets
        for _ in range(again):
            rung = governor.observe(Cost(latency, service, inference), now, watts)
            assert rung == governor.rung
            assert rung.size in sizes
            assert 0 <= rung.skip <= 3
            assert rung.skip == 0 or rung.size == min(sizes)
        if not governor.targets:
            assert rung == Rung(max(sizes))


def test_times_that_are_not_finite_or_negative_do_not_count() -> None:
    governor = Governor(INFERENCE, Targets(latency=0.05))
    for bad in (float("nan"), float("inf"), -1.0):
        for _ in range(20):
            governor.observe(Cost(bad, bad, bad))
    assert (governor.rung, governor.switches) == (Rung(416), 0)


def test_one_slow_frame_in_twenty_changes_nothing() -> None:
    governor = Governor(INFERENCE, Targets(latency=0.05))
    simulate(governor, INFERENCE, lambda n: 4 if n % 20 == 10 else 1, frames=500)
    assert governor.switches == 0


def test_without_a_target_it_uses_the_largest_size() -> None:
    governor = Governor(INFERENCE, Targets(latency=0.01))
    simulate(governor, INFERENCE, lambda n: 1, frames=20)
    assert governor.rung == Rung(224)
    assert governor.state == "holding"
    governor.targets = Targets()
    simulate(governor, INFERENCE, lambda n: 1, frames=1)
    assert governor.rung == Rung(416)
    assert governor.state == "off"


def test_a_target_that_no_size_holds_is_reported() -> None:
    governor = Governor(INFERENCE, Targets(latency=0.005))
    simulate(governor, INFERENCE, lambda n: 1, frames=30)
    assert governor.state == "over target"
    assert governor.reason == ("224 is the last resort: the latency was 8 ms, max_latency is 5")


def test_a_rate_counts_the_work_not_the_camera() -> None:
    slow_camera = Governor(INFERENCE, Targets(fps=20))
    simulate(slow_camera, INFERENCE, lambda n: 1, frames=200, period=0.5)
    assert slow_camera.rung == Rung(416)
    assert slow_camera.switches == 0
    governor = Governor(INFERENCE, Targets(fps=50))
    frames = simulate(governor, INFERENCE, lambda n: 1, frames=500, period=0.01)
    assert steps(frames) == [Rung(416), Rung(320)]
    assert "an image took 27 ms, target_fps leaves 20" in governor.reason
    seconds = frames[-1].ended - frames[100].ended
    assert (len(frames) - 101) / seconds >= 50


def test_both_a_rate_and_a_deadline_are_held() -> None:
    governor = Governor(INFERENCE, Targets(fps=20, latency=0.02))
    simulate(governor, INFERENCE, lambda n: 1, frames=100)
    assert governor.rung == Rung(320)
    governor.targets = Targets(fps=100, latency=0.02)
    simulate(governor, INFERENCE, lambda n: 1, frames=100)
    assert governor.rung == Rung(224)


WAITING = {"period": 0.03, "rest": 0.0}


def test_images_are_skipped_only_if_that_is_allowed_and_helps() -> None:
    """An image waits up to 30 ms for the one before; 40 ms of its own fit into 60 ms."""
    network = {224: 0.04}

    def run(**targets: float) -> list[Frame]:
        governor = Governor(network, Targets(**targets))
        return simulate(governor, network, lambda n: 1, frames=400, **WAITING)

    waiting = run(latency=0.06)
    assert steps(waiting) == [Rung(224)]
    assert late(waiting, 0.06) > 100
    skipping = run(latency=0.06, max_skip=3)
    assert skipping[-1].rung == Rung(224, 1)
    assert late(skipping[-300:], 0.06) <= 15
    # It would lower a rate, and does not make the network itself faster.
    assert steps(run(fps=50, latency=0.06, max_skip=3)) == [Rung(224)]
    assert steps(run(latency=0.03, max_skip=3)) == [Rung(224)]


def powered(
    governor: Governor, watts: Callable[[Rung], float | None], frames: int = 4000
) -> list[Frame]:
    """Let a camera of 30 Hz run where power can be read."""
    return simulate(governor, INFERENCE, lambda n: 1, frames=frames, period=1 / 30, watts=watts)


def test_the_power_budget_is_held_without_swinging() -> None:
    power = {Rung(416): 14.0, Rung(320): 11.0, Rung(224): 9.0}
    factor = noise(1, 0.03)
    governor = Governor(INFERENCE, Targets(watts=10))
    frames = powered(governor, lambda rung: power[rung] * factor())
    assert steps(frames) == [Rung(416), Rung(320), Rung(224)]
    # Something else took 4 W, and takes them no more: what 320 took more than 224 is remembered.
    power.update({rung: watts - 4 for rung, watts in power.items()})
    frames = powered(governor, power.__getitem__)
    assert steps(frames) == [Rung(224), Rung(320)]
    assert "W, power_budget_w is" not in governor.reason


@settings(max_examples=50, deadline=None)
@given(
    seconds=st.floats(0.1, SETTLE),
    more=st.floats(0, 20),
    room=st.floats(1.01, 2),
    rate=st.sampled_from([5, 15, 30]),
)
def test_after_another_program_took_power_it_is_soon_back(
    seconds: float, more: float, room: float, rate: int
) -> None:
    own = {Rung(320): 9.0, Rung(224): 8.0}
    began, last = 20.0, 5.0
    readings: deque[tuple[float, float]] = deque()

    def mean(time: float, rung: Rung) -> float:
        """Of the last five seconds, as the node reads it."""
        readings.append((time, own[rung] + (more if began <= time < began + seconds else 0)))
        while readings[0][0] < time - last:
            readings.popleft()
        return sum(watts for _, watts in readings) / len(readings)

    governor = Governor({320: 0.0159, 224: 0.0081}, Targets(watts=room * 9 / (1 - MARGIN)))
    soon = began + seconds + last + SETTLE + (FIRST_HOLD + 2) / rate
    for number in range(int(soon * rate) + 1):
        now = number / rate
        governor.observe(Cost(0.01, 0.01, 0.01), now, mean(now, governor.rung))
    assert governor.rung == Rung(320)


@pytest.mark.parametrize("watts", [None, float("nan"), -5.0])
def test_a_power_that_cannot_be_read_is_no_target(watts: float | None) -> None:
    governor = Governor(INFERENCE, Targets(watts=1, latency=0.02))
    simulate(governor, INFERENCE, lambda n: 1, frames=500, watts=lambda rung: watts)
    assert governor.rung == Rung(320)
    assert governor.holds


def test_a_meter_that_fails_at_times_does_not_let_it_go_up() -> None:
    power = {Rung(416): 14.0, Rung(320): 11.0, Rung(224): 9.0}
    readings = iter(range(100_000))
    governor = Governor(INFERENCE, Targets(watts=10))
    frames = powered(governor, lambda rung: None if next(readings) % 500 > 300 else power[rung])
    assert steps(frames) == [Rung(416), Rung(320), Rung(224)]


def test_images_are_skipped_for_the_power_too() -> None:
    governor = Governor({224: 0.0}, Targets(watts=6, max_skip=2))
    power = {Rung(224, skip): 4 + 6 / (1 + skip) for skip in range(3)}
    frames = powered(governor, power.__getitem__, frames=1500)
    assert frames[-1].rung == Rung(224, 2)
    governor.targets = Targets(watts=6)
    powered(governor, power.__getitem__, frames=10)
    assert governor.rung == Rung(224)


def test_other_sizes_can_be_given_while_it_works() -> None:
    governor = Governor({320: 0.0}, Targets(latency=0.01))
    simulate(governor, INFERENCE, lambda n: 1, frames=10)
    assert governor.state == "over target"
    governor.use_sizes({320: 0.0, 224: 0.0})
    simulate(governor, INFERENCE, lambda n: 1, frames=10)
    assert governor.rung == Rung(224)
    governor.use_sizes({416: 0.0, 320: 0.0})
    assert governor.rung == Rung(416)
    with pytest.raises(ValueError, match="at least one input size"):
        governor.use_sizes({})
