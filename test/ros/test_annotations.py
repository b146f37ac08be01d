# SPDX-License-Identifier: Apache-2.0
"""What Foxglove draws over a camera's image.

Foxglove's messages are no Python wheel: where foxglove_msgs is not installed, their double in
test/doubles is written to, and nothing is published.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from harness import Client, Start, image_message
from rclpy.parameter import Parameter
from runtime_fixtures import DOUBLES
from std_msgs.msg import Header

from compact_yolo_ros.detection.detections import NO_TRACK, Detections
from compact_yolo_ros.ros.optional_messages import IMAGE_ANNOTATIONS, message_class

IS_INSTALLED = find_spec("foxglove_msgs") is not None
NAMES = ("foxglove_msgs", "foxglove_msgs.msg", "compact_yolo_ros.ros.detector.annotations")
STAMP = Time(sec=3, nanosec=4)
TYPES = ("Color", "Point2", "CircleAnnotation", "PointsAnnotation", "TextAnnotation")


def forget() -> None:
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of messages, whether the real one is there or not."""
    before = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    monkeypatch.syspath_prepend(str(DOUBLES))
    yield import_module("foxglove_msgs.msg")
    forget()
    sys.modules.update(before)


@pytest.fixture(params=["double", "real"] if IS_INSTALLED else ["double"])
def writer(request: pytest.FixtureRequest) -> Any:
    if request.param == "double":
        request.getfixturevalue("double")
    annotations = import_module("compact_yolo_ros.ros.detector.annotations")
    return annotations.AnnotationWriter(("person", "car"))


def found(*boxes: tuple[float, float, float, float], ids: Any = None) -> Detections:
    count = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(count, 0.875, np.float32),
        np.arange(count, dtype=np.int32) % 2,
        None if ids is None else np.array(ids, np.int64),
    )


def written(writer: Any, objects: Detections, tracks: Any = None, sec: int = 3) -> Any:
    header = Header(stamp=Time(sec=sec, nanosec=4))
    return writer.write(header, (640, 480), objects, tracks)


def places(annotation: Any) -> list[tuple[float, float]]:
    return [(point.x, point.y) for point in annotation.points]


def test_boxes_are_closed_lines_in_pixels_with_the_stamp_of_the_image(writer: Any) -> None:
    message = written(writer, found((10, 100, 50, 200), (0.5, 2, 30, 40), ids=[12, NO_TRACK]))
    first, second = message.points
    assert places(first) == [(10, 100), (50, 100), (50, 200), (10, 200)]
    assert first.type == second.type == type(first).LINE_LOOP == 2
    assert first.thickness == 2 and first.outline_color.a == 1
    assert first.outline_color != second.outline_color
    label, plain = message.texts
    assert (label.text, plain.text) == ("person 12 0.88", "car 0.88")
    assert (label.position.x, label.position.y) == (10, 100)
    assert plain.position.y == 2 + plain.font_size == 18  # inside: the image ends above
    assert label.background_color == first.outline_color
    assert {each.timestamp.sec for each in (first, second, label, plain)} == {3}
    assert getattr(message, "timestamp", STAMP) == STAMP


def test_an_image_without_objects_clears_those_before(writer: Any) -> None:
    message = written(writer, found())
    assert not message.points and not message.texts and not message.circles


def test_trails_are_open_lines_in_the_colour_of_their_box(writer: Any) -> None:
    for sec in range(3):
        seen = found((100 * sec, 0, 100 * sec + 20, 40), ids=[7])
        message = written(writer, seen, seen, sec)
    trail, box = message.points
    assert trail.type == type(trail).LINE_STRIP == 3
    assert places(trail) == [(10, 20), (110, 20), (210, 20)]
    assert trail.outline_color == box.outline_color


def test_the_double_has_the_fields_of_the_real_messages(double: Any) -> None:
    if not IS_INSTALLED:
        pytest.skip("foxglove_msgs is not installed")
    forget()
    sys.path.remove(str(DOUBLES))
    real = import_module("foxglove_msgs.msg")
    for name in (*TYPES, "ImageAnnotations"):
        theirs = getattr(real, name).get_fields_and_field_types()
        ours = {field: spelled(kind) for field, kind in getattr(double, name).FIELDS.items()}
        newer = {"metadata", "timestamp"} if name == "ImageAnnotations" else {"metadata"}
        assert ours == {field: kind for field, kind in theirs.items() if field not in newer}


def spelled(kind: Any) -> str:
    """A type of the double as rclpy spells it."""
    if isinstance(kind, list):
        return f"sequence<{spelled(kind[0])}>"
    plain = {float: "double", int: "uint8", str: "string", Time: "builtin_interfaces/Time"}
    return plain.get(kind) or f"foxglove_msgs/{kind.__name__}"


@pytest.mark.ros
def test_annotations_come_where_the_package_is_and_are_refused_where_not(
    client: Client, start_inside: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start a missing package does not keep the detections back; /diagnostics says it."""
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "foxglove_msgs.msg", None)
        seen = start_inside(annotations=True)
        words = "nothing comes on ~/annotations: foxglove_msgs/msg/ImageAnnotations cannot be load"
        show(client, seen, lambda: words in seen.diagnostics[-1].status[0].message)
        assert seen.results and seen.diagnostics[-1].status[0].level == b"\1"
        set_to(seen, False)
        client.wait_for(lambda: words not in seen.diagnostics[-1].status[0].message)
        answer = set_to(seen, True)
        assert not answer.successful
        assert answer.reason.endswith("sudo apt install ros-$ROS_DISTRO-foxglove-msgs")
    if IS_INSTALLED:
        an_old_package_is_said_too(client, seen, monkeypatch)
        annotations_come_and_go(client, seen)


def an_old_package_is_said_too(
    client: Client, seen: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.modules.pop(NAMES[-1], None)
    with monkeypatch.context() as old:
        old.delattr(import_module("foxglove_msgs.msg"), "TextAnnotation")
        set_to(seen, True)
        words = "cannot import name 'TextAnnotation'"
        client.wait_for(lambda: words in seen.diagnostics[-1].status[0].message)
        set_to(seen, False)


def annotations_come_and_go(client: Client, seen: SimpleNamespace) -> None:
    assert set_to(seen, True).successful
    arrived = client.collect(message_class(IMAGE_ANNOTATIONS), "/detector/annotations")
    show(client, seen, lambda: arrived and arrived[-1].points)
    (box,), (label,) = arrived[-1].points, arrived[-1].texts
    same = [each for each in seen.results if each.header.stamp == box.timestamp]
    (detection,) = same[0].detections
    center = detection.bbox.center.position
    assert np.mean(places(box), 0) == pytest.approx([center.x, center.y])
    assert label.text.startswith("green ")
    set_to(seen, False)
    client.spin(0.1)
    arrived.clear()
    before = len(seen.results)
    show(client, seen, lambda: len(seen.results) > before + 1)
    assert not arrived


def set_to(seen: SimpleNamespace, value: bool) -> Any:
    (answer,) = seen.node.set_parameters([Parameter("annotations", value=value)])
    return answer


def show(client: Client, seen: SimpleNamespace, done: Any) -> None:
    """Publish images of a green square until something happens."""
    pixels = np.zeros((320, 320, 3), np.uint8)
    pixels[96:112, 96:112, 1] = 250

    def shown() -> object:
        seen.camera.publish(image_message(pixels, client.node.get_clock().now().to_msg()))
        client.spin(0.05)
        return done()

    client.wait_for(shown)
