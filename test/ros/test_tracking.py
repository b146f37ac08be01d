# SPDX-License-Identifier: Apache-2.0
"""Tracks in the node: what is published of them, when they end, and that off costs nothing."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from harness import Client, Start, image_message, values_of
from rclpy.parameter import Parameter
from std_msgs.msg import Header
from toy_model import CARD, CLASSES
from vision_msgs.msg import Detection2DArray

from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.detection.governor import Targets
from compact_yolo_ros.detection.selection import Selection
from compact_yolo_ros.detection.suppression import select
from compact_yolo_ros.detection.tracking.options import TrackingOptions
from compact_yolo_ros.pixels.decoding import DecodedImage
from compact_yolo_ros.ros.detector.camera_tracking import CameraTracking
from compact_yolo_ros.ros.detector.parameter_table import SPECS
from compact_yolo_ros.ros.detector.parameters import tracking
from compact_yolo_ros.ros.detector.settings import Settings, read_settings
from compact_yolo_ros.ros.detector.topics import FrameResult
from compact_yolo_ros.ros.messages import new_message_writer

IMAGE = DecodedImage(np.zeros((240, 320, 3), np.uint8), "bgr")
DEFAULTS: dict[str, Any] = {spec.name: spec.default for spec in SPECS.values()}


def settings(**selection: Any) -> Settings:
    return Settings(
        Selection(**selection),
        tuple(CLASSES),
        0.0,
        False,
        Targets(),
        tracking=TrackingOptions(high_score=selection.get("score_threshold", 0.3)),
    )


def detections(*rows: tuple[float, float]) -> Detections:
    """Boxes of 40 pixels that begin at x, with their scores; best first."""
    boxes = np.array([[x, 50, x + 40, 90] for x, _ in rows], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in rows], np.float32)
    return Detections(boxes, scores, np.zeros(len(rows), np.int32))


def result(seconds: float, found: Detections, used: Settings) -> FrameResult:
    stamp = Time(sec=int(seconds), nanosec=round(seconds % 1 * 1e9))
    return FrameResult("", Header(stamp=stamp), IMAGE, found, used)


@pytest.mark.parametrize("most", [1, 2, 100])
def test_what_is_published_is_what_would_be_without_tracking(most) -> None:
    random = np.random.default_rng(0)
    used = settings(score_threshold=0.4, max_detections=most)
    corners = random.uniform(0, 200, (60, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 50], 1)
    scores = np.sort(random.random(60).astype(np.float32))[::-1].copy()
    labels = random.integers(0, 2, 60).astype(np.int32)
    plain = select(boxes, scores, labels, used.selection)
    found = select(boxes, scores, labels, used.detected)
    assert len(found) > len(plain) and found.scores.min() < 0.4
    published = used.published(found)
    np.testing.assert_array_equal(published.boxes, plain.boxes)
    np.testing.assert_array_equal(published.scores, plain.scores)
    np.testing.assert_array_equal(published.labels, plain.labels)


def test_a_weak_object_is_in_the_tracks_but_not_in_the_detections() -> None:
    used, camera = settings(), CameraTracking(print)
    for number in range(5):
        strong = detections((100, 0.9), (200, 0.8))
        camera.follow(result(10 + number / 30, strong, used))
    followed = camera.follow(result(10 + 5 / 30, detections((100, 0.9), (200, 0.15)), used))
    assert followed.detections.scores.tolist() == pytest.approx([0.9])
    assert followed.tracks is not None
    assert len(set(followed.tracks.ids.tolist())) == 2
    assert followed.tracks.ids[0] == followed.detections.ids[0] != NO_TRACK
    assert camera.facts["tracks_active"] == camera.facts["tracks_new"] == 2


def test_a_track_begins_only_with_an_object_that_would_be_published() -> None:
    """With ``max_detections`` 1 there were tracks of everything that the network found."""
    values = {**DEFAULTS, "tracking": "bytetrack", "max_detections": 1}
    used, camera = read_settings(values, CARD), CameraTracking(print)
    for number in range(3):
        found = detections((100, 0.9), (200, 0.8))
        followed = camera.follow(result(1 + number / 30, found, used))
    assert followed.tracks is not None
    assert followed.tracks.ids.tolist() == followed.detections.ids.tolist() != [NO_TRACK]


def test_tracks_stay_inside_the_image() -> None:
    used, camera = settings(), CameraTracking(print)
    for number in range(20):
        x = 180 + 5 * number
        found = detections((x, 0.9)).in_image(320, 240)
        followed = camera.follow(result(1 + number / 10, found, used))
    assert followed.tracks is not None
    assert (followed.tracks.boxes <= [320, 240, 320, 240]).all()


def test_tracks_are_in_pixels_of_an_image_that_was_decoded_at_a_half() -> None:
    half = IMAGE._replace(reduction=2, file=SimpleNamespace(size=(640, 480)))
    used, camera = settings(), CameraTracking(print)
    for number in range(3):
        given = result(1 + number / 30, detections((500, 0.9)), used)._replace(image=half)
        followed = camera.follow(given)
    assert followed.tracks is not None
    np.testing.assert_allclose(followed.tracks.boxes, [[500, 50, 540, 90]])


def test_a_loop_of_a_recording_is_said_once_and_ids_go_on() -> None:
    said: list[str] = []
    used, camera = settings(), CameraTracking(said.append)
    seen: list[set[int]] = []
    for _ in range(3):
        ids: set[int] = set()
        for number in range(10):
            followed = camera.follow(result(5 + number / 30, detections((100, 0.9)), used))
            ids |= set(followed.tracks.ids.tolist())
        seen.append(ids)
    assert [len(ids) for ids in seen] == [1, 1, 1] and len(set.union(*seen)) == 3
    assert camera.facts["tracks_resets"] == 2
    assert len(said) == 1 and "went back" in said[0]


@pytest.mark.parametrize(
    "change",
    [
        {"header": Header(stamp=Time(sec=6), frame_id="rear")},
        {"image": DecodedImage(np.zeros((480, 640, 3), np.uint8), "bgr")},
    ],
)
def test_another_camera_or_resolution_on_the_topic_has_other_ids(change: dict[str, Any]) -> None:
    said: list[str] = []
    used, camera = settings(), CameraTracking(said.append)
    ids = []
    for number in range(6):
        given = result(6 + number / 30, detections((100, 0.9)), used)
        if number >= 3:
            given = given._replace(**change)
        ids.append(camera.follow(given).detections.ids[0])
    assert ids[0] == ids[3] == NO_TRACK
    assert ids[1] == ids[2] != ids[4] == ids[5] != NO_TRACK
    assert camera.facts["tracks_resets"] == 1
    assert len(said) == 1 and "another size or frame_id" in said[0]


def test_images_without_stamps_are_followed_too() -> None:
    used, camera = settings(), CameraTracking(print)
    for _ in range(3):
        followed = camera.follow(result(0, detections((100, 0.9)), used))
    assert len(followed.tracks) == 1


def test_two_cameras_have_no_id_in_common() -> None:
    used, cameras = settings(), [CameraTracking(print) for _ in range(2)]
    for number in range(3):
        image = result(7 + number / 30, detections((100, 0.9)), used)
        left, right = (camera.follow(image).tracks.ids.tolist() for camera in cameras)
    assert len({*left, *right}) == 2


def test_a_reused_writer_leaves_no_id_of_an_earlier_image() -> None:
    writer, found = new_message_writer(), detections((10, 0.9), (100, 0.8))
    tracked = Detections(found.boxes, found.scores, found.labels, np.array([7, NO_TRACK]))
    assert read_ids(writer.write(Header(), tracked, CARD.classes)) == ["7", ""]
    assert read_ids(writer.write(Header(), found[:1], CARD.classes)) == [""]
    assert read_ids(writer.write(Header(), found, CARD.classes)) == ["", ""]


def read_ids(message: Any) -> list[str]:
    return [detection.id for detection in message.detections]


def test_off_is_off_also_as_yaml_reads_it() -> None:
    spec = SPECS["tracking"]
    for value in ("off", False):
        spec.check(value)
        assert tracking({**DEFAULTS, "tracking": spec.read(value)}) is None
    for value in (True, "on", 1, "sort"):
        with pytest.raises(ValueError, match="give one of off, bytetrack"):
            spec.check(value)
    wanted = tracking({**DEFAULTS, "tracking": "bytetrack", "score_threshold": 0.6})
    assert wanted == TrackingOptions(high_score=0.6, most=100)


def test_what_is_off_is_not_imported_with_the_node() -> None:
    code = (
        "import sys, compact_yolo_ros.ros.detector.activation\n"
        "ends = 'bytetrack', 'camera_positions', '.position', '.markers', '.annotations', \\\n"
        "    '.video_stream', '.video_input', '.compressed_depth'\n"
        "assert not [name for name in sys.modules if name.endswith(ends) or name == 'av']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.ros
def test_tracking_is_switched_on_and_off_while_images_come(
    client: Client, start_inside: Start
) -> None:
    seen = start_inside()
    tracks = client.collect(Detection2DArray, "/detector/tracks")
    assert not client.node.get_publishers_info_by_topic("/detector/tracks")
    assert set(ids(client, seen, seen.results)) == {""}

    change(seen, tracking="bytetrack")
    client.wait_for(lambda: client.node.get_publishers_info_by_topic("/detector/tracks"))
    client.wait_for(lambda: ids(client, seen, seen.results) != [""])
    (own,) = ids(client, seen, seen.results)
    client.wait_for(lambda: ids(client, seen, tracks) == [own])
    assert tracks[-1].header == tracks[-1].detections[0].header
    client.wait_for(lambda: values_of(seen.diagnostics[-1]).get("tracks_active") == "1")
    change(seen, track_buffer=5.0, track_low_score=0.05)
    assert ids(client, seen, seen.results) == [own]

    change(seen, tracking="off")
    client.wait_for(lambda: ids(client, seen, seen.results) == [""])
    client.wait_for(lambda: "tracks_active" not in values_of(seen.diagnostics[-1]))


def ids(client: Client, seen: SimpleNamespace, arrived: list[Detection2DArray]) -> list[str]:
    """Ids in the next message, for a green square that stands still."""
    pixels = np.zeros((320, 320, 3), np.uint8)
    pixels[96:112, 96:112, 1] = 250
    before = len(arrived)

    def answered() -> bool:
        seen.camera.publish(image_message(pixels, client.node.get_clock().now().to_msg()))
        client.spin(0.05)
        return len(arrived) > before

    client.wait_for(answered)
    return read_ids(arrived[-1])


def change(seen: SimpleNamespace, **values: Any) -> None:
    for answer in seen.node.set_parameters([Parameter(n, value=v) for n, v in values.items()]):
        assert answer.successful, answer.reason
