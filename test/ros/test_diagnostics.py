# SPDX-License-Identifier: Apache-2.0
"""The counters of frames, and the health that follows from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stepped_clock import SteppedClock

from compact_yolo_ros.detection.frame_times import STAGES, FrameTimes
from compact_yolo_ros.ros.diagnostics import frame_counters
from compact_yolo_ros.ros.diagnostics.frame_counters import FrameCounters, Snapshot, combined
from compact_yolo_ros.ros.diagnostics.health import (
    CameraSituation,
    CameraState,
    Level,
    NodeSituation,
    Status,
    assess,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SteppedClock:
    stepped = SteppedClock()
    monkeypatch.setattr(frame_counters, "monotonic", stepped)
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
CAMERA = CameraSituation("/image", publishers=1, incompatible_qos=False, reliability="reliable")


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


def test_only_the_first_error_of_a_kind_is_new(clock: SteppedClock) -> None:
    counted = FrameCounters()
    assert [counted.error(kind, "x") for kind in "aabab"] == [True, False, True, False, False]
    assert counted.snapshot().errors == {"a": 3, "b": 2}
    counted.reset()
    assert counted.error("a", "x") is True


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
    assert "check the camera and the DDS profile" in status_of(seen).message
    alone = status_of(seen, camera=replace(CAMERA, publishers=0))
    assert alone.level is Level.STALE
    assert "/image has no publisher: check image_topic" in alone.message


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
    counted.image_received(replaced_another=False)
    counted.image_too_old()
    status = status_of(counted.snapshot())
    assert status.level is Level.WARN
    assert "older than max_age" in status.message


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [
        ({"failure": "there is no model 'x'"}, Level.ERROR, "there is no model 'x'"),
        ({"state": "inactive"}, Level.OK, "inactive"),
        ({"enabled": False}, Level.OK, "disabled by ~/enable"),
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
