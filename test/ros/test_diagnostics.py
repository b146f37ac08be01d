# SPDX-License-Identifier: Apache-2.0
"""The counters of frames, and the health that follows from them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import pytest
from builtin_interfaces.msg import Time
from list_logger import ListLogger
from rclpy.serialization import serialize_message
from stepped_clock import SteppedClock

from compact_yolo_ros.detection.frame_times import STAGES, FrameTimes
from compact_yolo_ros.ros.diagnostics import frame_counters, publisher
from compact_yolo_ros.ros.diagnostics.causes import AT_ONCE, PERIOD, NewCauses, cause_of
from compact_yolo_ros.ros.diagnostics.frame_counters import FrameCounters, Snapshot, combined
from compact_yolo_ros.ros.diagnostics.health import assess
from compact_yolo_ros.ros.diagnostics.publisher import DiagnosticsPublisher
from compact_yolo_ros.ros.diagnostics.report import to_statuses
from compact_yolo_ros.ros.diagnostics.situations import (
    CameraSituation,
    CameraState,
    Description,
    NodeSituation,
    Work,
)
from compact_yolo_ros.ros.diagnostics.status import Level, Status


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SteppedClock:
    stepped = SteppedClock()
    monkeypatch.setattr(frame_counters, "monotonic", stepped)
    monkeypatch.setattr(publisher, "monotonic", stepped)
    return stepped


def times(age: float) -> FrameTimes:
    return FrameTimes(age, *[age / 10] * 7, total=age / 2)


def run(clock: SteppedClock, seconds: float, fps: float, every: int = 1) -> FrameCounters:
    """A camera at ``fps`` where every n-th image is processed, the others dropped."""
    counted = FrameCounters()
    for n in range(round(seconds * fps)):
        clock.now += 1 / fps
        counted.image_received(replaced_another=n % every != 0)
        if n % every == 0:
            counted.image_processed(times(0.010))
    return counted


ACTIVE = NodeSituation("active")
CAMERA = CameraSituation(
    "/image", publishers=4, incompatible_qos=False, reliability="reliable", nodes=("/driver",)
)


def status_of(
    snapshot: Snapshot, node: NodeSituation = ACTIVE, camera: CameraSituation = CAMERA
) -> Status:
    """The node's status with a single camera."""
    return assess(node, {"": CameraState(snapshot, camera)}).node


def test_rates_are_those_of_the_last_seconds(clock: SteppedClock) -> None:
    counted = run(clock, 20, 30)
    seen = counted.snapshot()
    assert seen.received == seen.processed == 600
    assert seen.fps_in == pytest.approx(30, rel=0.02)
    assert seen.fps_out == pytest.approx(30, rel=0.02)
    assert seen.age == pytest.approx((0.010,) * 3)
    assert set(seen.stages) == set(STAGES)
    clock.now += 10
    later = counted.snapshot()
    assert (later.fps_in, later.fps_out, later.age, later.stages) == (0, 0, None, {})
    assert later.silence == pytest.approx(10)
    assert later.received == 600


def test_rates_are_right_before_the_window_is_full(clock: SteppedClock) -> None:
    assert run(clock, 1, 30).snapshot().fps_out == pytest.approx(30, rel=0.05)


def test_memory_does_not_grow_with_time(clock: SteppedClock) -> None:
    counted = run(clock, 600, 30)
    for _ in range(500):
        counted.error("kind", "sentence")
        clock.now += 1
    assert len(counted._arrivals) <= 5 * 30 + 2
    assert len(counted._times) <= 5 * 30 + 2
    assert len(counted._failures) <= 7


def test_an_error_is_new_when_its_cause_is(clock: SteppedClock) -> None:
    counted = FrameCounters()
    assert [counted.error(kind, "x") for kind in "aabab"] == [True, False, True, False, False]
    assert counted.error("a", "encoding 'yuv444' is not supported")
    assert counted.error("a", "encoding 'rgb16' is not supported")
    assert not counted.error("a", "encoding 'yuv444' is not supported")
    assert counted.error("a", "640 x 480 needs 921600 bytes, it has 17")
    assert not counted.error("a", "640 x 480 needs 921600 bytes, it has 16.5")
    assert counted.snapshot().errors == {"a": 8, "b": 2}
    counted.reset()
    assert counted.error("a", "x") is True


def test_nonsense_of_ever_new_kinds_does_not_flood_the_log() -> None:
    causes = NewCauses()
    new = [causes.is_new("encoding", f"'x{n}'", now=n / 10) for n in range(6000)]
    assert all(new[:AT_ONCE])
    assert sum(new) == AT_ONCE + 9  # in ten minutes
    assert len(causes._known) == AT_ONCE + 9
    for n in range(300):
        assert causes.is_new("encoding", f"'y{n}'", now=1000 + 60 * n)
    assert len(causes._known) == 100
    assert cause_of("'rgb16' of 640 x 48.5 px") == cause_of("'rgb16' of 1 x 2 px") != "'rgb8'"


def test_all_is_well(clock: SteppedClock) -> None:
    status = status_of(run(clock, 10, 30).snapshot())
    assert status.level is Level.OK
    assert status.message.startswith("30.") and status.message.endswith("median age 10.0 ms")


def test_falling_behind_is_a_warning(clock: SteppedClock) -> None:
    status = status_of(run(clock, 10, 30, every=3).snapshot())
    assert status.level is Level.WARN
    assert "falling behind: 30." in status.message


def test_images_left_out_on_purpose_are_not_falling_behind(clock: SteppedClock) -> None:
    counted = FrameCounters()
    for n in range(300):
        clock.now += 1 / 30
        counted.image_received(replaced_another=False)
        if n % 2:
            counted.image_skipped()
        elif n % 3:
            counted.image_processed(times(0.010))
    seen = counted.snapshot()
    assert (seen.skipped, seen.processed) == (150, 100)
    assert seen.fps_skipped == pytest.approx(15, rel=0.05)
    assert "falling behind" in status_of(seen).message  # 10 of the 15 that were wanted
    assert status_of(replace(seen, fps_out=14.0)).level is Level.OK
    counted.reset()
    assert counted.snapshot().skipped == 0


def test_throttling_is_a_warning_that_explains_falling_behind(clock: SteppedClock) -> None:
    slow = run(clock, 10, 30, every=3).snapshot()
    status = status_of(slow, replace(ACTIVE, throttling="over-current oc3 (7 times)"))
    assert status.level is Level.WARN
    assert "slowed down: over-current oc3 (7 times); check its power supply" in status.message


def test_a_target_that_is_not_held_is_told_beside_falling_behind(clock: SteppedClock) -> None:
    counted = run(clock, 10, 30, every=3)
    missed = replace(ACTIVE, warning="a target cannot be held: 224x224 is the last resort")
    status = status_of(counted.snapshot(), missed)
    assert status.level is Level.WARN
    assert status.message.startswith(f"{missed.warning}; falling behind: 30.")
    slowed = status_of(counted.snapshot(), replace(missed, throttling="over-current oc3"))
    assert slowed.message.startswith("the machine is slowed down: over-current oc3; ")
    assert slowed.message.endswith(status.message)
    clock.now += 7
    assert status_of(counted.snapshot(), missed).level is Level.STALE


def test_silence_is_stale_and_says_where_to_look(clock: SteppedClock) -> None:
    counted = run(clock, 1, 30)
    clock.now += 2.5
    seen = counted.snapshot()
    assert status_of(seen).level is Level.STALE
    assert status_of(seen).message == (
        "no image on /image for 2 s although /driver announced it: check the camera and the DDS "
        "profile"
    )  # not how many publishers: those of a dead process are counted for some time
    few = replace(CAMERA, nodes=tuple("abc"))
    assert "although a, b, c announced it" in status_of(seen, camera=few).message
    many = replace(CAMERA, nodes=tuple("abcde"))
    assert "although a, b, c and 2 more announced it" in status_of(seen, camera=many).message
    latched = status_of(seen, camera=replace(CAMERA, is_latched=True))
    assert latched.level is Level.STALE
    assert "latched (transient_local)" in latched.message and "DDS" not in latched.message
    assert "only with reliability auto" in latched.message
    asked = replace(CAMERA, is_latched=True, asks_for_latched=True)
    assert "auto" not in status_of(seen, camera=asked).message
    mistaken = replace(CAMERA, mistake="/image is of type a, not b: check image_topic")
    assert status_of(seen, camera=mistaken) == (Level.ERROR, mistaken.mistake)
    alone = status_of(seen, camera=replace(CAMERA, publishers=0))
    assert alone.level is Level.STALE
    assert "/image has no publisher: check image_topic" in alone.message


@pytest.mark.parametrize("period", [3, 12])
def test_a_slow_camera_is_stale_only_after_some_of_its_periods(
    clock: SteppedClock, period: int
) -> None:
    counted = run(clock, 4 * period, 1 / period)
    clock.now += 0.9 * period
    status = status_of(counted.snapshot())
    assert status.level is Level.OK
    assert "waiting for the first" not in status.message
    clock.now += 1.5 * period
    assert status_of(counted.snapshot()).level is Level.OK
    clock.now += period
    assert status_of(counted.snapshot()).level is Level.STALE


def test_a_pause_of_a_fast_camera_is_soon_forgotten(clock: SteppedClock) -> None:
    counted = run(clock, 1, 30)
    clock.now += 20
    for _ in range(4):
        clock.now += 1 / 30
        counted.image_received(replaced_another=False)
        counted.image_processed(times(0.010))
    clock.now += 2.5
    assert status_of(counted.snapshot()).level is Level.STALE


def test_no_camera_is_so_slow_that_its_silence_is_never_told(clock: SteppedClock) -> None:
    counted = run(clock, 4 * 300, 1 / 300)
    clock.now += 61
    assert status_of(counted.snapshot()).level is Level.STALE


@pytest.mark.parametrize(
    ("lose", "level", "sentence"),
    [
        (lambda it: it.error("image size", "cut off"), Level.ERROR, "1 failures: cut off"),
        (lambda it: it.image_too_old(0.7), Level.WARN, "max_age refuses every image: the last one"),
    ],
)
def test_a_slow_camera_that_gets_no_answers_is_never_well(
    clock: SteppedClock, lose: Callable[[FrameCounters], object], level: Level, sentence: str
) -> None:
    """Also between two images, when the last loss is no longer in the window of the rates."""
    counted, node = run(clock, 48, 1 / 12), LoggingNode()
    clock.now += 11
    logged = []
    for _ in range(4):
        clock.now += 1
        counted.image_received(replaced_another=False)
        lose(counted)
        for _ in range(12):
            status = status_of(counted.snapshot())
            assert status.level is level and status.message.startswith(sentence)
            logged += node.publish(ACTIVE, single=counted.snapshot())
            clock.now += 1
    assert len(logged) == (level is Level.WARN)  # a failure was logged when it happened
    counted.image_received(replaced_another=False)
    counted.image_processed(times(0.01))
    clock.now += 12
    assert status_of(counted.snapshot()).level is Level.OK


def test_what_a_slow_camera_lacks_is_told_between_its_images_too(clock: SteppedClock) -> None:
    counted = run(clock, 48, 1 / 12)
    camera = replace(CAMERA, concern="no depth image has come")
    for _ in range(12):
        status = status_of(counted.snapshot(), camera=camera)
        assert (status.level, status.message) == (Level.WARN, "no depth image has come")
        clock.now += 1


def test_incompatible_qos_is_an_error_with_its_remedy(clock: SteppedClock) -> None:
    counted = FrameCounters()
    clock.now += 3
    status = status_of(counted.snapshot(), camera=replace(CAMERA, incompatible_qos=True))
    assert status.level is Level.ERROR
    assert "set reliability to auto" in status.message


def test_some_failures_warn_and_only_failures_are_an_error(clock: SteppedClock) -> None:
    counted = run(clock, 1, 30)
    counted.error("image size", "the image is cut off")
    assert status_of(counted.snapshot()).level is Level.WARN
    counted.reset()
    counted.image_received(replaced_another=False)
    counted.error("image size", "the image is cut off")
    status = status_of(counted.snapshot())
    assert status == (Level.ERROR, "1 failures: the image is cut off")


def test_images_that_are_all_too_old_point_at_the_clocks(clock: SteppedClock) -> None:
    counted = FrameCounters()
    for age, sentence in (
        (0.7, "the last one was 0.7 s old on arrival: check the camera's driver"),
        (-37.0, "the last one has a stamp 37.0 s in the future: synchronise the clocks"),
        (1.8e9, "the last one is 1800000000.0 s old, which cannot be: synchronise the clocks"),
    ):
        counted.image_received(replaced_another=False)
        counted.image_too_old(age)
        status = status_of(counted.snapshot())
        assert status.level is Level.WARN
        assert status.message.startswith(f"max_age refuses every image: {sentence}")
    clock.now += 1.5
    counted.image_received(replaced_another=False)
    clock.now += 4  # what was refused has left the window, and nothing was answered since
    counted.image_received(replaced_another=False)
    assert status_of(counted.snapshot()) == status


def test_images_that_max_age_refuses_are_no_reason_for_a_smaller_model(
    clock: SteppedClock,
) -> None:
    counted = FrameCounters()
    for n in range(60):
        clock.now += 1 / 6
        counted.image_received(replaced_another=False)
        if n % 3:
            counted.image_processed(times(0.01))
        else:
            counted.image_too_old(1.0)
    seen = counted.snapshot()
    assert seen.fps_refused == pytest.approx(2, rel=0.1)
    assert (seen.refused_age, seen.span) == (1.0, pytest.approx(5))
    status = status_of(seen)
    assert status.level is Level.WARN
    assert "max_age refuses 33% of the images: the last one was 1.0 s old" in status.message
    assert "falling behind" not in status.message
    assert status_of(replace(seen, fps_refused=0.5)).level is Level.WARN  # of 4 wanted, and fewer
    assert status_of(replace(seen, fps_refused=0.5, fps_out=5.5)).level is Level.OK
    both = status_of(replace(seen, fps_out=1.0)).message
    assert "max_age refuses" in both and "falling behind: 4." in both


@pytest.mark.parametrize("age", [-37.0, -0.2, 61.0, 1.8e9])
def test_an_age_that_cannot_be_speaks_of_the_clocks(clock: SteppedClock, age: float) -> None:
    seen = run(clock, 10, 30).snapshot()
    assert seen.age is not None
    status = status_of(replace(seen, age=seen.age._replace(p50=age)))
    assert status.level is Level.WARN
    assert f"the median age of {age:.1f} s cannot be: synchronise the clocks" in status.message
    for possible in (-0.1, 0.0, 60.0):
        assert status_of(replace(seen, age=seen.age._replace(p50=possible))).level is Level.OK


def test_a_share_means_nothing_before_enough_images(clock: SteppedClock) -> None:
    """Whatever their rate: two images within 10 ms are 200 images/s."""
    counted = FrameCounters()
    counted.image_received(replaced_another=False)
    counted.image_processed(times(0.010))
    for n in range(2, 11):
        clock.now += 0.005
        counted.image_received(replaced_another=n > 2)
        expected = Level.OK if n < 10 else Level.WARN
        assert status_of(counted.snapshot()).level is expected


def test_a_refused_share_means_nothing_before_enough_images(clock: SteppedClock) -> None:
    counted = FrameCounters()
    for n in range(1, 11):
        clock.now += 0.005
        counted.image_received(replaced_another=False)
        if n % 2:
            counted.image_processed(times(0.010))
        else:
            counted.image_too_old(1.0)
        expected = Level.OK if n < 10 else Level.WARN
        assert status_of(counted.snapshot()).level is expected


def test_images_that_nobody_answers_are_an_error(clock: SteppedClock) -> None:
    counted = FrameCounters()
    for _ in range(60):
        counted.image_received(replaced_another=True)
        clock.now += 0.1
        unanswered = counted.snapshot().unanswered
        status = status_of(counted.snapshot())
        expected = Level.ERROR if unanswered >= 5 else Level.OK
        assert status.level is expected
    assert status.message == "no image was answered for 6 s: restart the node"
    counted.image_processed(times(0.01))
    assert counted.snapshot().unanswered == 0
    for end in (counted.image_skipped, lambda: counted.image_too_old(1.0)):
        counted.image_received(replaced_another=False)
        clock.now += 1
        assert counted.snapshot().unanswered == 1
        end()
        assert counted.snapshot().unanswered == 0


def test_slow_cameras_that_take_turns_are_behind_and_not_stuck(clock: SteppedClock) -> None:
    """Eight of them, and an image takes 0.8 s: each is answered every 6.4 s."""
    counters = {name: FrameCounters() for name in "abcdefgh"}
    turns, seen = cycle(counters.values()), set()
    for _ in range(40):
        for counted in counters.values():
            counted.image_received(replaced_another=True)
        clock.now += 0.8
        next(turns).image_processed(times(0.8))
        states = {name: CameraState(each.snapshot(), CAMERA) for name, each in counters.items()}
        seen.update(assess(ACTIVE, states).cameras.values())
    assert {level for level, _ in seen} == {Level.OK, Level.WARN}
    behind = "falling behind: an image has waited for 6 s, while those of other cameras"
    assert any(message.startswith(behind) for _, message in seen)


def test_an_image_that_stays_in_work_is_an_error_that_names_the_stage(clock: SteppedClock) -> None:
    clock.now += 60
    silent = FrameCounters().snapshot()
    for camera, which in (("", "an image"), ("rear", "an image of rear")):
        stuck = replace(ACTIVE, work=Work(camera, "decode", 35.2))
        health = assess(stuck, {name: CameraState(silent, CAMERA) for name in ("front", "rear")})
        assert health.node.level is Level.ERROR
        assert health.node.message == (
            f"no image is answered: {which} has been in work for 35 s, now in decode; if it stays "
            "there, restart the node"
        )
        assert set(health.cameras.values()) == {health.node}
    stuck = replace(ACTIVE, work=Work("", "inference", 5.0))
    assert status_of(run(clock, 10, 30).snapshot(), stuck).level is Level.ERROR
    slow = replace(ACTIVE, work=Work("", "inference", 4.9))
    assert status_of(run(clock, 10, 30).snapshot(), slow).level is Level.OK


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [
        ({"failure": "there is no model 'x'"}, Level.ERROR, "there is no model 'x'"),
        ({"state": "inactive"}, Level.OK, "inactive"),
        ({"enabled": False}, Level.OK, "disabled by ~/enable"),
        ({"state": "finalized"}, Level.WARN, "finalized: the node was shut down"),
        ({"state": "inactive", "leftover": "it hangs"}, Level.WARN, "inactive: waiting for"),
        ({"state": "inactive", "leftover": "it hangs"}, Level.WARN, "; it hangs"),
        ({"enabled": False, "concerns": ("two",)}, Level.WARN, "disabled by ~/enable; two"),
        ({"enabled": False, "warning": "one"}, Level.WARN, "disabled by ~/enable; one"),
        ({"state": "inactive", "warning": "one"}, Level.WARN, "lifecycle transition; one"),
        ({"concerns": ("two",), "state": "finalized"}, Level.WARN, "finalized: "),
    ],
)
def test_states_without_images(clock: SteppedClock, change: dict, level: Level, text: str) -> None:
    clock.now += 60
    status = status_of(FrameCounters().snapshot(), replace(ACTIVE, **change))
    assert status.level is level
    assert text in status.message


def several(**cameras: Snapshot) -> dict[str, CameraState]:
    return {name: CameraState(snapshot, CAMERA) for name, snapshot in cameras.items()}


def test_the_worst_camera_speaks_for_the_node(clock: SteppedClock) -> None:
    well, slow = run(clock, 10, 30).snapshot(), run(clock, 10, 30, every=3).snapshot()
    silent = replace(well, silence=7.0)
    health = assess(ACTIVE, several(front=well, left=slow, rear=silent))
    assert [status.level for status in health.cameras.values()] == [
        Level.OK,
        Level.WARN,
        Level.STALE,
    ]
    assert health.shared.level is Level.OK
    # Not stale as a whole: two cameras do work.
    assert health.node.level is Level.ERROR
    broken = replace(well, age=None, recent_errors=3, last_error="cut off")
    # An error is worse than a camera that is stale, in whatever order they come.
    for names in (("broken", "rear"), ("rear", "broken")):
        each = {"broken": broken, "rear": silent}
        node = assess(ACTIVE, several(**{name: each[name] for name in names})).node
        assert node == (Level.ERROR, "broken: 3 failures: cut off")
    assert assess(ACTIVE, several(left=slow, rear=silent)).node.message.startswith("rear: ")
    assert health.node.message.startswith("rear: no image on /image for 7 s")
    assert assess(ACTIVE, several(left=silent, rear=silent)).node.level is Level.STALE
    slowed = assess(ACTIVE, several(front=well, left=slow)).node
    assert slowed == (Level.WARN, f"left: {health.cameras['left'].message}")


def test_cameras_that_are_well_are_summed_up(clock: SteppedClock) -> None:
    front, rear = run(clock, 10, 30).snapshot(), run(clock, 10, 10).snapshot()
    rear = replace(rear, skipped=3, fps_skipped=0.5)
    total = combined([front, rear])
    assert total.fps_out == pytest.approx(front.fps_out + rear.fps_out)
    assert (total.received, total.processed, total.skipped) == (400, 400, 3)
    assert total.fps_skipped == 0.5
    health = assess(ACTIVE, several(front=front, rear=rear))
    assert health.node == (Level.OK, f"{total.fps_out:.1f} images/s from 2 camera(s)")


def test_what_cameras_share_is_the_nodes_and_not_theirs(clock: SteppedClock) -> None:
    seen = run(clock, 10, 30).snapshot()
    health = assess(replace(ACTIVE, warning="fp32 instead of fp16"), several(a=seen, b=seen))
    assert health.node == health.shared == (Level.WARN, "fp32 instead of fp16")
    assert {status.level for status in health.cameras.values()} == {Level.OK}


def test_errors_of_cameras_are_added_by_kind() -> None:
    left, right = FrameCounters(), FrameCounters()
    for counted, kinds in ((left, "ab"), (right, "bb")):
        for kind in kinds:
            counted.error(kind, f"sentence {kind}")
    total = combined([left.snapshot(), right.snapshot()])
    assert total.errors == {"a": 1, "b": 3}
    assert total.recent_errors == 4
    assert total.last_error == "sentence b"


def test_an_answer_knows_what_was_dropped_before_it(clock: SteppedClock) -> None:
    counted = FrameCounters()
    dropped = []
    for replaced in (False, True, True, False, True):
        counted.image_received(replaced_another=replaced)
        if not replaced:
            dropped.append(counted.image_processed(times(0.01)))
    assert dropped == [0, 2]
    assert counted.image_processed(times(0.01)) == 1


def test_the_figures_of_each_camera_are_in_the_unit_of_their_key(clock: SteppedClock) -> None:
    counted = FrameCounters()
    ages = [n / 1000 for n in range(1, 102)]  # 1 to 101 ms
    for age in ages:
        counted.image_received(replaced_another=False)
        counted.image_processed(FrameTimes(age, 2 * age, *[0.003] * 5, 4 * age, total=5 * age))
    for _ in range(3):
        counted.image_received(replaced_another=True)
    counted.image_too_old(1.0)
    counted.error("image size", "cut off")
    clock.now += 4
    seen = counted.snapshot()
    cameras = {"front": CameraState(seen, CAMERA), "rear": CameraState(seen, CAMERA)}
    together, front, rear = to_statuses(
        "/detector", "here", assess(ACTIVE, cameras), cameras, {"state": "active"}
    )
    values = {pair.key: pair.value for pair in front.values}
    expected = {
        "image_topic": "/image",
        "image_publishers": "4",
        "image_reliability": "reliable",
        "fps_in": "26.00",
        "fps_out": "25.25",
        "images_received": "104",
        "images_processed": "101",
        "images_dropped": "3",
        "images_too_old": "1",
        "images_skipped": "0",
        "errors": "1",
        "errors (image size)": "1",
        "last_error": "cut off",
        "age_ms p50": "51.000",
        "age_ms p95": "96.000",
        "age_ms p99": "100.000",
        "waiting_ms p50": "102.000",
        "decode_ms p99": "3.000",
        "overhead_ms p50": "204.000",
        "total_ms p95": "480.000",
    }
    assert expected.items() <= values.items()
    assert (front.name, rear.name) == ("/detector: front", "/detector: rear")
    assert rear.values == front.values
    summed = {pair.key: pair.value for pair in together.values}
    assert together.name == "/detector: detections"
    assert (summed["state"], summed["images_received"], summed["fps_in"]) == (
        "active",
        "208",
        "52.00",
    )
    assert not any(key.startswith(("age_ms", "image_topic")) for key in summed)


class LoggingNode:
    """The part of a node that publishes /diagnostics, and its log."""

    def __init__(self) -> None:
        self.log = ListLogger()
        self.messages: list[Any] = []
        clock: Any = SimpleNamespace(now=lambda: SimpleNamespace(to_msg=Time))
        self.get_logger = lambda: self.log
        self.get_clock = lambda: clock
        self.get_fully_qualified_name = lambda: "/detector"
        node: Any = self
        self.subscribers = 1
        publisher: Any = SimpleNamespace(
            publish=self.messages.append, get_subscription_count=lambda: self.subscribers
        )
        self.diagnostics = DiagnosticsPublisher(node, publisher)
        self.described = 0

    def publish(self, situation: NodeSituation, **cameras: Snapshot) -> list[str]:
        """Publish, and return what was logged because of it."""
        before = len(self.log.lines)
        named = {"" if name == "single" else name: s for name, s in cameras.items()}
        self.diagnostics.publish(situation, several(**named), self._describe)
        return self.log.lines[before:]

    def _describe(self) -> Description:
        self.described += 1
        return Description("CPU", {})


def test_a_warning_is_not_logged_again_after_something_worse(clock: SteppedClock) -> None:
    node = LoggingNode()
    well = run(clock, 10, 30).snapshot()
    silent = replace(well, silence=7.0)
    slow = replace(ACTIVE, throttling="over-current oc3", warning="fp32 instead of fp16")
    (logged,) = node.publish(slow, single=well)
    assert logged.startswith("the machine is slowed down")
    assert "fp32" not in logged  # it was logged where it arose
    (logged,) = node.publish(slow, single=silent)
    assert logged.startswith("no image on /image for 7 s")
    assert node.publish(slow, single=replace(silent, silence=8.0)) == []
    (logged,) = node.publish(slow, single=well)  # the camera is well again, the rest as before
    assert logged.startswith("30.")
    assert node.publish(slow, single=well) == []
    assert node.publish(replace(slow, state="inactive")) == []
    assert node.publish(slow, single=well) == []


def test_another_cause_of_the_same_level_is_logged(clock: SteppedClock) -> None:
    node = LoggingNode()
    well = run(clock, 10, 30).snapshot()
    assert node.publish(ACTIVE, front=well, rear=well) == []
    behind = replace(well, fps_out=10.0)
    (logged,) = node.publish(ACTIVE, front=behind, rear=well)
    assert logged.startswith("front: falling behind")
    assert node.publish(ACTIVE, front=replace(behind, fps_out=11.0), rear=well) == []
    assert well.age is not None
    future = replace(well, age=well.age._replace(p50=-37.0))
    (logged,) = node.publish(ACTIVE, front=future, rear=well)
    assert logged.startswith("front: the median age of -37.0 s cannot be")
    failing = replace(well, recent_errors=2, last_error="cut off", is_told=True)
    assert node.publish(ACTIVE, front=failing, rear=well) == []  # logged when it happened
    (logged,) = node.publish(ACTIVE, front=well, rear=well)
    assert logged.startswith("front: 30.")


def test_a_warning_that_comes_and_goes_does_not_flood_the_log(clock: SteppedClock) -> None:
    """As that of a camera which is a little too fast: it was two lines a second at worst."""
    node = LoggingNode()
    well = run(clock, 10, 30).snapshot()
    behind, silent = replace(well, fps_out=26.0), replace(well, silence=7.0)
    logged = []
    for second in range(5 * round(PERIOD)):
        clock.now += 1
        logged += node.publish(ACTIVE, single=behind if second % 2 == 0 else well)
    assert [line[:14] for line in logged[::2]] == ["falling behind"] * 5
    assert all(line.startswith("30.") for line in logged[1::2]) and len(logged) == 10
    (other,) = node.publish(ACTIVE, single=silent)  # what is worse is logged whenever it comes
    assert other.startswith("no image on /image")
    assert len(node.publish(ACTIVE, single=well)) == len(node.publish(ACTIVE, single=silent)) == 1
    clock.now += PERIOD
    (again,) = node.publish(ACTIVE, single=behind)
    assert again.startswith("falling behind")


def test_failures_that_come_back_are_logged_again(clock: SteppedClock) -> None:
    """A known cause is not logged when it happens, and in the log all had been well since."""
    node, counted = LoggingNode(), FrameCounters()
    for expected in ("logged when it happened", "failures: cut off", "failures: cut off"):
        is_new, logged = False, []
        for n in range(300):  # for ten seconds all images fail
            clock.now += 1 / 30
            counted.image_received(replaced_another=False)
            is_new |= counted.error("image size", "cut off")
            logged += node.publish(ACTIVE, front=counted.snapshot()) if n % 30 == 29 else []
        assert is_new == (expected == "logged when it happened")
        assert len(logged) == (not is_new) and all(expected in line for line in logged)
        for _ in range(300):
            clock.now += 1 / 30
            counted.image_received(replaced_another=False)
            counted.image_processed(times(0.01))
        (logged_end,) = node.publish(ACTIVE, front=counted.snapshot())
        assert logged_end.startswith("front: 30.")


def test_a_camera_that_goes_silent_after_failures_is_logged(clock: SteppedClock) -> None:
    """Also while these are in the window."""
    node, counted = LoggingNode(), FrameCounters()
    counted.image_received(replaced_another=False)
    assert counted.error("image size", "cut off")
    assert node.publish(ACTIVE, front=counted.snapshot()) == []  # logged when it happened
    logged = []
    for _ in range(8):
        clock.now += 1
        logged += node.publish(ACTIVE, front=counted.snapshot())
    assert len(logged) == 1 and logged[0].startswith("front: no image on /image for 2 s")


def test_a_concern_is_logged_once_whatever_the_state(clock: SteppedClock) -> None:
    node = LoggingNode()
    well = run(clock, 10, 30).snapshot()
    sentence = "another node is called /detector too"
    active = replace(ACTIVE, concerns=(sentence,))
    assert node.publish(replace(active, state="unconfigured")) == [sentence]
    for state in ("inactive", "active", "inactive", "active"):
        assert node.publish(replace(active, state=state), front=well, rear=well) == []
    (logged,) = node.publish(replace(active, state="finalized"))
    assert logged.startswith("finalized: ")


def test_what_hangs_is_logged_once(clock: SteppedClock) -> None:
    node = LoggingNode()
    well = run(clock, 10, 30).snapshot()
    for seconds in (6.0, 7.0):
        stuck = replace(ACTIVE, work=Work("front", "decode", seconds))
        node.publish(stuck, front=well, rear=well)
    assert node.publish(replace(ACTIVE, failure="no model"), front=well, rear=well) == []
    assert len(node.log.lines) == 1
    assert node.log.lines[0].startswith("no image is answered")


def test_the_hardware_id_tells_machines_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename="robot7"))
    node = LoggingNode()
    node.publish(NodeSituation("inactive"))
    assert node.messages[-1].status[0].hardware_id == "robot7: CPU"
    node.diagnostics.publish(NodeSituation("unconfigured"), {}, lambda: Description("", {}))
    assert node.messages[-1].status[0].hardware_id == "robot7"


def test_without_a_subscriber_it_is_only_logged(clock: SteppedClock) -> None:
    node = LoggingNode()
    node.subscribers = 0
    silent = replace(run(clock, 10, 30).snapshot(), silence=7.0)
    assert len(node.publish(ACTIVE, single=silent)) == 1
    assert not node.messages and not node.described
    node.subscribers = 1
    node.publish(ACTIVE, single=silent)
    assert len(node.messages) == node.described == 1


def test_names_of_files_that_are_not_utf8_are_reported(clock: SteppedClock) -> None:
    node = replace(ACTIVE, warning="the model /home/l\udce4t/a.onnx has been overwritten")
    cameras = {"": CameraState(run(clock, 1, 30).snapshot(), CAMERA)}
    facts = {"model": "/home/l\udce4t/a.onnx"}
    (status,) = to_statuses("/detector", "host", assess(node, cameras), cameras, facts)
    assert b"/home/l?t/a.onnx has" in serialize_message(status)
    assert status.values[0].value == "/home/l?t/a.onnx"


def test_an_image_in_work_is_counted_also_after_packets_of_its_video_were_lost() -> None:
    counted = FrameCounters()
    counted.image_received(replaced_another=False)
    counted.error("image size", "cut off")
    for _ in range(3):
        counted.error("image video", "packets are lost", is_image=False)
    counted.image_received(replaced_another=False)
    counted.restart()
    counted.image_processed(times(0.01))
    seen = counted.snapshot()
    assert (seen.received, seen.processed, seen.errors) == (1, 1, {})
