# SPDX-License-Identifier: Apache-2.0
"""Markers of objects in space, as a viewer shows them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from harness import Client, Start, image_message
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray

from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.detection.position import Positions
from compact_yolo_ros.ros.detector import camera_positions
from compact_yolo_ros.ros.optional_messages import (
    MARKER_ARRAY,
    MissingPackageError,
    message_class,
)

CLASSES = ("person", "car")
SIDE = 320

needs_messages = pytest.mark.skipif(
    find_spec("visualization_msgs") is None,
    reason="visualization_msgs is in environment/requirements/runtime.txt, and not installed yet",
)


class Viewer:
    """What RViz shows: a marker has the place of its namespace and id, until its time is over."""

    def __init__(self) -> None:
        self.shown: dict[tuple[str, int], tuple[Any, float]] = {}

    def take(self, array: Any, now: float = 0.0) -> None:
        for marker in array.markers:
            if marker.action == 0:
                seconds = marker.lifetime.sec + marker.lifetime.nanosec * 1e-9
                assert seconds > 0
                self.shown[marker.ns, marker.id] = marker, now + seconds
            else:
                assert marker.action == 2
                del self.shown[marker.ns, marker.id]
        self.shown = {key: each for key, each in self.shown.items() if each[1] > now}

    def of(self, name: str) -> list[Any]:
        return [marker for (ns, _), (marker, _) in sorted(self.shown.items()) if ns == name]


def written(
    writer: Any,
    *rows: tuple[float, float, float],
    ids: Any = None,
    sec: int = 7,
    rotation: int = 0,
) -> Any:
    """The markers of objects at x y z, of 1 x 2 x 3 m; z of zero is of unknown range."""
    count = len(rows)
    found = Detections(
        np.zeros((count, 4), np.float32),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.arange(count, dtype=np.int32) % 2,
        None if ids is None else np.array(ids, np.int64),
    )
    points = np.array(rows, float).reshape(-1, 3)
    sizes = np.array([[1.0, 2, 3]] * count).reshape(-1, 3) * (points[:, 2:] > 0)
    points[:, 2] = np.where(points[:, 2] > 0, points[:, 2], 1)
    where = Positions(np.arange(count), points, sizes, np.zeros((count, 3, 3)))
    return writer.write(Header(stamp=Time(sec=sec), frame_id="optical"), found, where, rotation)


@pytest.fixture
def writer() -> Any:
    from compact_yolo_ros.ros.detector.markers import MarkerWriter

    return MarkerWriter(CLASSES)


@needs_messages
def test_a_viewer_shows_the_objects_of_the_last_image_only(writer: Any) -> None:
    viewer = Viewer()
    for count in (3, 1, 2, 0, 2):
        viewer.take(written(writer, *[(n, 0, 5) for n in range(count)]))
        assert [box.pose.position.x for box in viewer.of("boxes")] == list(range(count))
        assert len(viewer.of("labels")) == count
    assert all(until == 2 for _, until in viewer.shown.values())  # and nothing after two seconds


@needs_messages
def test_boxes_and_labels_are_where_the_objects_are(writer: Any) -> None:
    viewer = Viewer()
    viewer.take(written(writer, (3, 1, 4), (0, 0, 2), ids=[12, NO_TRACK]))
    box, other = viewer.of("boxes")
    assert (box.type, other.type) == (box.CUBE, box.CUBE)
    at, size = box.pose.position, box.scale
    assert (at.x, at.y, at.z, size.x, size.y, size.z) == (3, 1, 4, 1, 2, 3)
    assert box.header == Header(stamp=Time(sec=7), frame_id="optical")
    assert 0 < box.color.a < 1 and box.color != other.color
    label, plain = viewer.of("labels")
    assert label.text == "person 12 0.90, 5.1 m" and plain.text == "car 0.50, 2.0 m"
    assert label.pose.position.x == 3 and label.pose.position.y < 1 - 2 / 2  # y points down
    assert label.type == label.TEXT_VIEW_FACING and label.color.a == 1 and label.scale.z > 0


@needs_messages
@pytest.mark.parametrize(
    ("rotation", "x", "y"), [(0, 3, -0.15), (90, 2.35, 1), (180, 3, 2.15), (270, 3.65, 1)]
)
def test_a_label_is_above_its_object_however_the_camera_is_mounted(
    writer: Any, rotation: int, x: float, y: float
) -> None:
    """Turned clockwise by 90 degrees, the left of an image is its top."""
    viewer = Viewer()
    viewer.take(written(writer, (3, 1, 4), rotation=rotation))
    (label,) = viewer.of("labels")
    at = label.pose.position
    assert (at.x, at.y, at.z) == pytest.approx((x, y, 4))


@needs_messages
def test_an_object_of_unknown_range_is_a_ray_from_the_camera(writer: Any) -> None:
    viewer = Viewer()
    viewer.take(written(writer, (0.5, -0.5, 0), ids=[3]))
    (ray,) = viewer.of("boxes")
    start, end = ray.points
    assert ray.type == ray.ARROW and ray.scale.x > 0 and ray.pose.orientation.w == 1
    assert (start.x, start.y, start.z, end.x, end.y, end.z) == (0, 0, 0, 0.5, -0.5, 1)
    assert viewer.of("labels")[0].text == "person 3 0.90"
    assert not viewer.of("tracks")  # it has no place yet


@needs_messages
def test_a_trail_is_dots_at_their_own_time_and_fades(writer: Any) -> None:
    viewer = Viewer()
    for sec in range(5):
        viewer.take(written(writer, (sec, 0, 5), (9, 9, 9), ids=[4, NO_TRACK], sec=sec), float(sec))
    dots = viewer.of("tracks")
    assert [each.header.stamp.sec for each in dots] == [3, 4]
    assert [[point.x for point in each.points] for each in dots] == [[3], [4]]
    assert all(len(each.colors) == 1 for each in dots) and dots[0].colors == dots[1].colors
    viewer.take(written(writer, (0, 0, 5), ids=[5], sec=5), 5.0)
    assert viewer.of("tracks")[-1].colors != dots[0].colors


@needs_messages
def test_a_flat_object_has_a_box_all_the_same(writer: Any) -> None:
    where = Positions(np.array([0]), np.ones((1, 3)), np.array([[1.0, 2, 0]]), np.ones((1, 3, 3)))
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    (box, _) = writer.write(Header(), found, where, 0).markers
    assert box.type == box.CUBE and box.scale.z > 0


def test_a_package_that_is_missing_is_named_with_how_to_get_it() -> None:
    with pytest.raises(MissingPackageError, match=r"apt install ros-\$ROS_DISTRO-no-such-msgs$"):
        message_class("no_such_msgs/msg/Thing")
    with pytest.raises(MissingPackageError, match=r"apt install ros-\$ROS_DISTRO-std-msgs$"):
        message_class("std_msgs/msg/OfANewerPackage")


@needs_messages
@pytest.mark.ros
def test_markers_come_with_positions_for_those_who_look(
    client: Client, start_inside: Start, monkeypatch
) -> None:
    from compact_yolo_ros.ros.detector.markers import MarkerWriter

    made: list[Any] = []
    real = MarkerWriter.write
    monkeypatch.setattr(MarkerWriter, "write", lambda *given: made.append(1) or real(*given))
    monkeypatch.setattr(camera_positions, "GRACE", 0.0)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "visualization_msgs.msg", None)
        camera = start_inside(positions="bearing", tracking="bytetrack")
        camera.info = client.node.create_publisher(CameraInfo, "/camera_info", 5)
        places = client.collect(Detection3DArray, "/detector/detections_3d")
        show(client, camera, lambda: places and places[-1].detections)
        words = "nothing comes on ~/markers: visualization_msgs/msg/MarkerArray cannot be loaded"
        client.wait_for(lambda: words in camera.diagnostics[-1].status[0].message)
        assert not client.node.count_publishers("/detector/markers")

    change(camera, score_threshold=0.2)  # any change has it tried again
    client.wait_for(lambda: client.node.count_publishers("/detector/markers"))
    client.wait_for(lambda: words not in camera.diagnostics[-1].status[0].message)
    before = len(camera.results)
    show(client, camera, lambda: len(camera.results) > before + 1)
    assert not made

    markers = client.collect(message_class(MARKER_ARRAY), "/detector/markers")
    show(client, camera, lambda: markers and markers[-1].markers)
    viewer = Viewer()
    viewer.take(markers[-1])
    (ray,), (label,) = viewer.of("boxes"), viewer.of("labels")
    (place,) = places[-1].detections
    assert ray.points[1].x == pytest.approx(place.bbox.center.position.x)
    assert ray.header.frame_id == "eye" and label.text.startswith("green ")

    change(camera, positions="off")
    client.spin(0.1)
    markers.clear()
    before = len(camera.results)
    show(client, camera, lambda: len(camera.results) > before + 1)
    assert not markers


def show(client: Client, camera: SimpleNamespace, done: Any) -> None:
    """Publish images of a green square, with their calibration, until something happens."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[96:112, 96:112, 1] = 250
    k = [300.0, 0, 159.5, 0, 300, 159.5, 0, 0, 1]

    def shown() -> object:
        camera.info.publish(CameraInfo(width=SIDE, height=SIDE, k=k))
        camera.camera.publish(image_message(pixels, client.node.get_clock().now().to_msg()))
        client.spin(0.05)
        return done()

    client.wait_for(shown)


def change(seen: SimpleNamespace, **values: Any) -> None:
    for answer in seen.node.set_parameters([Parameter(n, value=v) for n, v in values.items()]):
        assert answer.successful, answer.reason
